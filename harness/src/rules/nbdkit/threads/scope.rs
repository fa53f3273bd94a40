//! What may run beside a call, as a thread model has it.

use layers_trace::Callback::{self, Open};
use layers_trace::{Event, Operation};

use crate::history::{Call, Client, ConnectionId, History};
use crate::rules::check::{Now, Report, Said, given, unless};

/// Calls that the server makes on its own threads, for clients.
#[derive(Clone, Copy)]
pub(super) enum Scope {
    /// Of any layer: the outermost call of each thread, with all that is nested in it.
    Stack,
    /// Of the plugin alone.
    Plugin,
}

impl Scope {
    pub(super) fn has(self, history: &History, call: &Call) -> bool {
        let level = match self {
            Scope::Stack => call.parent.is_none(),
            Scope::Plugin => call.layer() == 0,
        };
        level && call.callback.is_connected() && history.is_for_client(call)
    }

    /// The event's call, if it is one of these.
    pub(super) fn of<'a>(self, now: &Now<'a>) -> Option<&'a Call> {
        now.call.filter(|call| self.has(now.history, call))
    }

    /// Those in progress on other threads than that of `call`.
    pub(super) fn beside<'a>(self, history: &'a History, call: &'a Call) -> impl Iterator<Item = &'a Call> {
        let others = history.in_flight().filter(|other| other.enter.tid != call.enter.tid);
        others.filter(move |other| self.has(history, other))
    }
}

/// What this client had asked of the transmission phase before `call` was entered, and is still waiting for. Where this is
/// more than one when `call` exits, the server had something else to do all the time.
pub(super) fn requests_beside(client: &Client, call: &Call) -> usize {
    let earlier = |position: u32| position < call.id();
    let data = client.waiting.iter().filter(|request| request.operation.is_data());
    data.filter(|request| earlier(request.event.position)).count()
}

/// The same, of the client at the other end of this connection.
pub(super) fn requests_on(history: &History, connection: Option<ConnectionId>, call: &Call) -> usize {
    let client = connection.and_then(|connection| history.client_of(connection));
    client.map_or(0, |client| requests_beside(client, call))
}

/// What all clients had asked, and are waiting for, that makes the server call layers: data, a handle opened or closed.
pub(super) fn anything_beside(history: &History, call: &Call) -> usize {
    let calls = |operation: Operation| {
        use Operation::{Disconnect, ExportName, Go, Info};
        operation.is_data() || matches!(operation, Info | Go | ExportName | Disconnect)
    };
    let waiting = history.clients().flat_map(|client| &client.waiting);
    waiting.filter(|request| calls(request.operation) && request.event.position < call.id()).count()
}

/// Whether the manual's "open/read/write/close (etc)" covers this callback.
pub(super) fn is_request(callback: Callback) -> bool {
    callback.has_handle() || callback == Open
}

/// How a finding names a call.
pub(super) fn shown(call: &Call) -> String {
    format!("L{}.{}", call.layer(), call.callback)
}

/// What a call must not meet, and how a finding puts that.
pub(super) struct Clash<'a> {
    pub(super) with: &'a Event,
    pub(super) expected: String,
    pub(super) actual: &'static str,
}

impl Clash<'_> {
    pub(super) fn broken(self, report: &mut Report<'_>) -> Said {
        report.broken(self.with, self.expected, self.actual)
    }

    /// Another call is in progress.
    pub(super) fn overlap<'a>(call: &Call, other: &'a Call) -> Clash<'a> {
        let expected = format!("{} once {} has returned", shown(call), shown(other));
        Clash { with: &other.enter, expected, actual: "it begins earlier" }
    }
}

/// The first event of the connection of this call, where that is on another thread, to which the server must have brought
/// it. A filter that is somebody else's may have begun this on a thread of its own: no call of the filter stands above it
/// there.
pub(super) fn other_thread<'a>(history: &'a History, call: &'a Call, _: Scope) -> Option<Clash<'a>> {
    let begun = history.root(call).layer();
    unless(history.layers().iter().any(|layer| layer.number > begun && layer.target.is_some()))?;
    let connection = history.connection(call.connection?)?;
    given(connection.tid != call.enter.tid)?;
    let expected = format!("{} on the thread of its connection", shown(call));
    Some(Clash { with: &connection.first, expected, actual: "it is on another one" })
}
