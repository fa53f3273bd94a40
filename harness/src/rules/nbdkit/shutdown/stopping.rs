//! What tells the server to stop, and the request that a call is for.

use layers_trace::{Event, Kind, Operation, Probe};

use crate::history::{Call, Client, Request};
use crate::rules::check::Now;

/// SIGHUP, SIGINT, SIGQUIT and SIGTERM (nbdkit(1), "SIGNALS").
pub(super) const STOPPING: &[u64] = &[1, 2, 3, 15];

/// The server is told to stop: by a signal or by a layer.
pub(super) fn tells_to_stop(event: &Event) -> bool {
    match event.kind {
        Kind::Signal => STOPPING.contains(&event.a),
        _ => event.probe() == Some(Probe::Shutdown),
    }
}

/// The request of a client that this call, made by the server itself, serves.
pub(super) fn request_of<'a>(now: &Now<'a>, call: &Call) -> Option<(&'a Client, &'a Request)> {
    if call.parent.is_some() || !call.callback.is_data() {
        return None;
    }
    let client = now.history.client_of(call.connection?)?;
    let serves = |request: &&Request| {
        let asked = &request.event;
        let ranged = request.operation != Operation::Flush;
        callback_of(request.operation) == Some(call.callback)
            && (!ranged || (asked.offset(), asked.count()) == (call.enter.offset(), call.enter.count()))
    };
    // Of several that look alike nobody knows which one it is.
    let mut requests = client.waiting.iter().filter(serves);
    let first = requests.next()?;
    requests.next().is_none().then_some((client, first))
}

/// The callback that a plain request leads to at the outermost layer.
pub(super) fn callback_of(operation: Operation) -> Option<layers_trace::Callback> {
    use layers_trace::Callback;
    match operation {
        Operation::Read => Some(Callback::Pread),
        Operation::Write => Some(Callback::Pwrite),
        Operation::Flush => Some(Callback::Flush),
        Operation::Trim => Some(Callback::Trim),
        Operation::Zero => Some(Callback::Zero),
        Operation::Cache => Some(Callback::Cache),
        Operation::BlockStatus => Some(Callback::Extents),
        _ => None,
    }
}
