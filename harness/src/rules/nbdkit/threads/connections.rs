//! SERIALIZE_CONNECTIONS: one connection after another, each on one thread.

use layers_trace::{Callback, Event, Operation};

use super::{Scope, requests_beside, shown};
use crate::history::{Call, History, ThreadModel};
use crate::rules::check::{Now, Report, Rule, at, by, enters_where};

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "tm.conn.exclusive",
        statement: "Under SERIALIZE_CONNECTIONS a connection begins only when the one before it is closed.",
        clause: "nbdkit-plugin(3), Threads",
        antecedent: "thread model 0, and a client that has connected while another one's handle is in use",
        good: "L0 thread_model=0; NBD_CMD_READ c2: send connect NBD_CMD_DISC c2: preconnect",
        bad: "L0 thread_model=0; NBD_CMD_READ c2: send connect c2: L0.preconnect",
        fix: "let the next client wait until the handles of the one before it are closed",
        check: by!(at(
            enters_where(Callback::is_connected).exits_where(Callback::has_handle),
            one_connection
        )),
        ..Rule::REQUIRED
    },
    Rule {
        id: "tm.conn.one-thread",
        statement: "Under SERIALIZE_CONNECTIONS all calls of a connection come from one thread.",
        clause: "nbdkit-plugin(3), Threads",
        antecedent: "thread model 0, and a client that waits for several requests at once",
        good: "L0 thread_model=0; send NBD_CMD_READ send NBD_CMD_READ L0.pread",
        bad: "L0 thread_model=0; send NBD_CMD_READ t7: L0.pread",
        also: &["tm.parallel.limit"],
        fix: "carry out all requests of a connection on the thread that accepted it",
        check: by!(at(enters_where(Callback::is_connected).exits_where(Callback::is_data), one_thread)),
        ..Rule::REQUIRED
    },
];

/// What there is of another connection, although this call is one of its own connection's.
pub(super) fn other_connection<'a>(history: &'a History, call: &Call, scope: Scope) -> Option<&'a Event> {
    let own = call.connection?;
    let open = history.handles().find(|handle| {
        let counts = matches!(scope, Scope::Stack) || handle.layer == 0;
        counts && !handle.manual && handle.connection.is_some_and(|other| other != own)
    });
    let later = || history.latest_connection().filter(|latest| latest.id > own);
    open.map(|handle| &handle.open).or_else(|| later().map(|connection| &connection.first))
}

/// Another client has connected before this call was entered, and has not been greeted: the server keeps it waiting.
pub(super) fn keeps_waiting(history: &History, call: &Call) -> bool {
    call.callback.has_handle()
        && history.clients().any(|client| {
            client.awaits(Operation::Connect).is_some_and(|connect| connect.event.position < call.id())
        })
}

/// A filter that is somebody else's may have begun this on a thread of its own: no call of the filter stands above it there.
fn may_be_a_filters(history: &History, call: &Call) -> bool {
    let begun = history.root(call).layer();
    history.layers().iter().any(|layer| layer.number > begun && layer.target.is_some())
}

/// The first event of the connection of this call, where that is on another thread, to which the server must have brought it.
pub(super) fn other_thread<'a>(history: &'a History, call: &Call) -> Option<&'a Event> {
    if may_be_a_filters(history, call) {
        return None;
    }
    let connection = history.connection(call.connection?)?;
    (connection.tid != call.enter.tid).then_some(&connection.first)
}

/// Some client waits for more than one request. With one connection at a time it is the one that is served.
pub(super) fn pipelines(history: &History, call: &Call) -> bool {
    call.callback.is_data() && history.clients().any(|client| requests_beside(client, call) > 1)
}

fn one_connection(now: &Now<'_>, report: &mut Report<'_>) {
    if now.history.thread_model() != Some(ThreadModel::SerializeConnections) {
        return;
    }
    let Some(call) = Scope::Stack.of(now) else { return };
    if now.is_exit() {
        if keeps_waiting(now.history, call) {
            report.exercised();
        }
    } else if let Some(other) = other_connection(now.history, call, Scope::Stack) {
        let expected = format!("{} with no other connection", shown(call));
        report.broken([other, now.event], expected, "there is another one");
    }
}

fn one_thread(now: &Now<'_>, report: &mut Report<'_>) {
    if now.history.thread_model() != Some(ThreadModel::SerializeConnections) {
        return;
    }
    let Some(call) = Scope::Stack.of(now) else { return };
    if now.is_exit() {
        if pipelines(now.history, call) {
            report.exercised();
        }
    } else if let Some(first) = other_thread(now.history, call) {
        let expected = format!("{} on the thread of its connection", shown(call));
        report.broken([first, now.event], expected, "it is on another one");
    }
}
