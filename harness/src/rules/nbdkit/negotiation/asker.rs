//! Who asks a query.

use crate::history::{Call, History};

/// The server asks this by itself: no layer's call asks it, and it is not a filter's own thread that does.
pub(super) fn asked_by_server(history: &History, call: &Call) -> bool {
    let own = history.handle(call.handle()).is_some_and(|handle| history.is_servers(handle));
    let negotiates = call.connection.and_then(|id| history.connection(id)).map(|connection| connection.tid);
    let top =
        history.is_complete() && history.layers().last().map(|layer| layer.number) == Some(call.layer());
    call.parent.is_none() && own && (top || negotiates == Some(call.enter.tid))
}
