//! The request that a call is for.

use layers_trace::Operation;

use crate::history::{Call, Client, Request, callback_of};
use crate::rules::check::Now;

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
