//! What a reply answers.

use layers_trace::{Event, Operation};

use super::super::connection::survival::{is_lost, is_timed_out};

/// The client has an answer, and no loss or time-out instead.
pub(super) fn is_silent(reply: &Event) -> bool {
    is_lost(reply) || is_timed_out(reply)
}

pub(in super::super) fn is_option(operation: Operation) -> bool {
    use Operation::{
        ExportName, Go, Info, List, ListMetaContext, SetMetaContext, StartTls, StructuredReply, UnknownOption,
    };
    let exports = matches!(operation, List | Info | Go | ExportName);
    let others = matches!(operation, StartTls | StructuredReply | SetMetaContext | ListMetaContext);
    exports || others || operation == UnknownOption
}
