//! What the tests of these rules change in a good trace.

use layers_trace::{Event, Kind, Operation, Text};

use crate::rules::testing::Script;

/// Changes the first reply to this operation.
pub(super) fn reply(mut script: Script, operation: Operation, change: impl Fn(&mut Event)) -> Script {
    let reply = |event: &&mut Event| event.kind == Kind::Reply && event.operation() == Some(operation);
    change(script.events.iter_mut().find(reply).unwrap());
    script
}

/// Puts an option with its reply in front of the client's first choice of an export, or of its first list where the option
/// is one of those with which a client begins.
pub(super) fn with_option(script: Script, operation: Operation, result: i64, told: &[Text]) -> Script {
    let first = match operation {
        Operation::List => Operation::StartTls,
        Operation::StartTls => Operation::List,
        Operation::StructuredReply if has(&script, Operation::StartTls) => Operation::StartTls,
        _ => Operation::Info,
    };
    let place = script.events.iter().position(|event| event.operation() == Some(first)).unwrap();
    script.with(place, |script| {
        let request = script.request(1, operation).position;
        script.reply(request, result).texts = told.to_vec();
    })
}

fn has(script: &Script, operation: Operation) -> bool {
    script.events.iter().any(|event| event.operation() == Some(operation))
}
