//! The serial models: one connection after another, one request at a time, of all clients or of each; and what a filter
//! asks for holds for the plugin under it.

use layers_trace::{Callback, Operation};

use super::scope::{
    Clash, Scope, anything_beside, is_request, other_thread, requests_beside, requests_on, shown,
};
use crate::history::ThreadModel::{
    self, Parallel, SerializeAllRequests, SerializeConnections, SerializeRequests,
};
use crate::history::{Call, History};
use crate::rules::check::{Check, Now, Report, Rule, Said, Watch, at, by, calls_where, enters_where};

/// SERIALIZE_CONNECTIONS.
pub(super) const CONNECTIONS: &[Rule] = &[
    Rule {
        id: "tm.conn.exclusive",
        statement: "Under SERIALIZE_CONNECTIONS a connection begins only when the one before it is closed.",
        clause: "nbdkit-plugin(3), Threads",
        antecedent: "thread model 0, and a client that has connected while another one's handle is in use",
        good: "L0 thread_model=0; NBD_CMD_READ c2: send connect NBD_CMD_DISC c2: preconnect",
        bad: "L0 thread_model=0; NBD_CMD_READ c2: send connect c2: L0.preconnect",
        fix: "let the next client wait until the handles of the one before it are closed",
        check: by!({
            let watch = calls_for_clients(Callback::has_handle);
            under(SerializeConnections, watch, keeps_waiting, other_connection)
        }),
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
        check: by!(under(
            SerializeConnections,
            calls_for_clients(Callback::is_data),
            pipelines,
            other_thread
        )),
        ..Rule::REQUIRED
    },
];

/// SERIALIZE_ALL_REQUESTS and SERIALIZE_REQUESTS.
pub(super) const REQUESTS: &[Rule] = &[
    Rule {
        id: "tm.all.no-overlap",
        statement: "Under SERIALIZE_ALL_REQUESTS open, queries, data calls, finalize and close of all connections never overlap.",
        clause: "nbdkit-plugin(3), Threads",
        antecedent: "thread model 1, and a call during which clients wait for something else, too",
        good: r#"L0 thread_model=1; NBD_OPT_GO "a" c2: connect c2: NBD_OPT_GO "a" send NBD_CMD_READ c2: send NBD_CMD_READ L0.pread"#,
        bad: r#"L0 thread_model=1; NBD_OPT_GO "a" c2: connect c2: NBD_OPT_GO "a" send NBD_CMD_READ c2: send NBD_CMD_READ enter L0.pread c2: L0.pread"#,
        fix: "hold one lock for the whole server around each of them",
        check: by!(under(SerializeAllRequests, calls_where(is_request), several_wait, overlap)),
        ..Rule::REQUIRED.since(1, 3, 1)
    },
    Rule {
        id: "tm.all.preconnect",
        statement: "Under SERIALIZE_ALL_REQUESTS preconnect, which is no request yet, may overlap calls of other connections.",
        clause: "nbdkit-plugin(3), Threads, which leaves it open",
        antecedent: "nothing; it is left open",
        fix: "none needed; a layer with a preconnect guards what it shares there itself",
        ..Rule::UNSPECIFIED.since(1, 17, 1)
    },
    Rule {
        id: "tm.req.per-handle",
        statement: "Under SERIALIZE_REQUESTS calls on one handle never overlap.",
        clause: "nbdkit-plugin(3), Threads",
        antecedent: "thread model 2, and a client that waits for several requests at once",
        good: "L0 thread_model=2; send NBD_CMD_READ send NBD_CMD_READ L0.pread",
        bad: "L0 thread_model=2; send NBD_CMD_READ send NBD_CMD_READ enter L0.pread t7: L0.pread",
        also: &["tm.parallel.limit"],
        fix: "carry out the requests of one connection one after another",
        check: by!(under(
            SerializeRequests,
            calls_for_clients(Callback::is_data),
            several_wait_here,
            overlap_here
        )),
        ..Rule::REQUIRED
    },
];

/// A model that a filter asks for.
pub(super) const TIGHTENED: &[Rule] = &[Rule {
    id: "tm.filter-tightens",
    statement: "Where a filter asks for a more serial thread model, the plugin is called under that one, too.",
    clause: "nbdkit-filter(3), .thread_model",
    antecedent: "a filter that asks for a more serial model than the plugin, and clients that ask for more at once than it allows",
    good: "L1 thread_model=2; send NBD_CMD_READ send NBD_CMD_READ L1.pread { L0.pread }",
    bad: "L1 thread_model=2; send NBD_CMD_READ send NBD_CMD_READ enter L1.pread enter L0.pread t7: L1.pread { L0.pread }",
    also: &["tm.parallel.limit", "tm.req.per-handle"],
    fix: "apply the most serial model of all layers to every call of every layer",
    check: by!(at(calls_for_clients(is_request), judge_tightened)
        .minding_data_if(|history| tightened(history).is_some())),
    ..Rule::REQUIRED.since(1, 13, 4)
}];

/// Judges the calls of a run under this model: what puts them to the test when they exit, and what they must not meet when
/// they are entered.
fn under(
    model: ThreadModel,
    watch: Watch,
    tests: fn(&History, &Call) -> bool,
    clashes: for<'a> fn(&'a History, &'a Call, Scope) -> Option<Clash<'a>>,
) -> impl Check {
    at(watch, move |now: &Now<'_>, report: &mut Report<'_>| {
        let call = Scope::Stack.of(now).filter(|_| now.history.thread_model() == Some(model))?;
        if now.is_exit() {
            return report.exercised_if(tests(now.history, call));
        }
        clashes(now.history, call, Scope::Stack)?.broken(report)
    })
    .minding_data_if(move |history| history.thread_model() == Some(model))
}

/// The calls for clients, from their first; and the exits of those for which this holds.
fn calls_for_clients(exits: fn(Callback) -> bool) -> Watch {
    enters_where(Callback::is_connected).exits_where(exits)
}

/// Something of another connection, although this call is one of its own connection's.
fn other_connection<'a>(history: &'a History, call: &'a Call, scope: Scope) -> Option<Clash<'a>> {
    let own = call.connection?;
    let open = history.handles().find(|handle| {
        let counts = matches!(scope, Scope::Stack) || handle.layer == 0;
        counts && !handle.manual && handle.connection.is_some_and(|other| other != own)
    });
    let later = || history.latest_connection().filter(|latest| latest.id > own);
    let with = open.map(|handle| &handle.open).or_else(|| later().map(|connection| &connection.first))?;
    let expected = format!("{} with no other connection", shown(call));
    Some(Clash { with, expected, actual: "there is another one" })
}

/// A call in progress beside this one, of any connection.
fn overlap<'a>(history: &'a History, call: &'a Call, scope: Scope) -> Option<Clash<'a>> {
    let mut beside = scope.beside(history, call);
    beside.find(|other| is_request(other.callback)).map(|other| Clash::overlap(call, other))
}

/// A call in progress beside this one, of the same connection.
fn overlap_here<'a>(history: &'a History, call: &'a Call, scope: Scope) -> Option<Clash<'a>> {
    let own = call.connection?;
    let mut beside = scope.beside(history, call);
    beside.find(|other| other.connection == Some(own)).map(|other| Clash::overlap(call, other))
}

/// Another client has connected before this call was entered, and has not been greeted: the server keeps it waiting.
fn keeps_waiting(history: &History, call: &Call) -> bool {
    let mut connects = history.clients().filter_map(|client| client.awaits(Operation::Connect));
    call.callback.has_handle() && connects.any(|connect| connect.event.position < call.id())
}

/// Some client waits for more than one request. With one connection at a time it is the one that is served.
fn pipelines(history: &History, call: &Call) -> bool {
    call.callback.is_data() && history.clients().any(|client| requests_beside(client, call) > 1)
}

fn several_wait(history: &History, call: &Call) -> bool {
    anything_beside(history, call) > 1
}

fn several_wait_here(history: &History, call: &Call) -> bool {
    requests_on(history, call.connection, call) > 1
}

/// The model in force, where the plugin has not asked for it.
fn tightened(history: &History) -> Option<ThreadModel> {
    let (force, plugin) = (history.thread_model()?, history.plugin_model()?);
    (force < plugin).then_some(force)
}

fn judge_tightened(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (history, scope) = (now.history, Scope::Plugin);
    let (model, call) = tightened(history).zip(scope.of(now))?;
    if now.is_exit() {
        let is_put_to_the_test = match model {
            SerializeConnections => keeps_waiting(history, call) || pipelines(history, call),
            SerializeAllRequests => several_wait(history, call),
            SerializeRequests => several_wait_here(history, call),
            Parallel => false,
        };
        return report.exercised_if(is_put_to_the_test);
    }
    let clash = match model {
        SerializeConnections => {
            other_connection(history, call, scope).or_else(|| other_thread(history, call, scope))
        }
        SerializeAllRequests if is_request(call.callback) => overlap(history, call, scope),
        SerializeRequests => overlap_here(history, call, scope),
        SerializeAllRequests | Parallel => None,
    }?;
    let expected = format!("{} under the model that a filter asks for", shown(call));
    report.broken(clash.with, expected, "the plugin is called as if only its own counted")
}
