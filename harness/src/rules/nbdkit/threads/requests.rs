//! SERIALIZE_ALL_REQUESTS and SERIALIZE_REQUESTS: one request at a time, of all clients or of each.

use layers_trace::Callback;

use super::{Scope, anything_beside, is_request, requests_on, shown};
use crate::history::{Call, History, ThreadModel};
use crate::rules::check::{Checker, Now, Report, Rule, at, by, enters_where};
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "tm.all.no-overlap",
        since: Version(1, 3, 1),
        statement: "Under SERIALIZE_ALL_REQUESTS open, queries, data calls, finalize and close of all connections never overlap.",
        clause: "nbdkit-plugin(3), Threads",
        antecedent: "thread model 1, and a call during which clients wait for something else, too",
        good: r#"L0 thread_model=1; NBD_OPT_GO "a" c2: connect c2: NBD_OPT_GO "a" send NBD_CMD_READ c2: send NBD_CMD_READ L0.pread"#,
        bad: r#"L0 thread_model=1; NBD_OPT_GO "a" c2: connect c2: NBD_OPT_GO "a" send NBD_CMD_READ c2: send NBD_CMD_READ enter L0.pread c2: L0.pread"#,
        fix: "hold one lock for the whole server around each of them",
        check: by!(at(enters_where(is_request).exits_where(is_request), one_of_all)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "tm.all.preconnect",
        since: Version(1, 17, 1),
        statement: "Under SERIALIZE_ALL_REQUESTS preconnect, which is no request yet, may overlap calls of other connections.",
        clause: "nbdkit-plugin(3), Threads, which leaves it open",
        antecedent: "nothing; it is left open",
        fix: "none needed; a layer with a preconnect guards what it shares there itself",
        check: Checker::Nothing,
        ..Rule::UNSPECIFIED
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
        check: by!(at(enters_where(Callback::is_connected).exits_where(Callback::is_data), one_per_handle)),
        ..Rule::REQUIRED
    },
];

/// A call in progress beside this one, of any connection.
pub(super) fn beside<'a>(history: &'a History, call: &'a Call, scope: Scope) -> Option<&'a Call> {
    scope.beside(history, call).find(|other| is_request(other.callback))
}

/// A call in progress beside this one, of the same connection.
pub(super) fn beside_on_connection<'a>(
    history: &'a History,
    call: &'a Call,
    scope: Scope,
) -> Option<&'a Call> {
    let own = call.connection?;
    scope.beside(history, call).find(|other| other.connection == Some(own))
}

fn one_of_all(now: &Now<'_>, report: &mut Report<'_>) {
    if now.history.thread_model() != Some(ThreadModel::SerializeAllRequests) {
        return;
    }
    let Some(call) = Scope::Stack.of(now) else { return };
    if now.is_exit() {
        if anything_beside(now.history, call) > 1 {
            report.exercised();
        }
    } else if let Some(other) = beside(now.history, call, Scope::Stack) {
        let expected = format!("{} once {} has returned", shown(call), shown(other));
        report.broken([&other.enter, now.event], expected, "it begins earlier");
    }
}

fn one_per_handle(now: &Now<'_>, report: &mut Report<'_>) {
    if now.history.thread_model() != Some(ThreadModel::SerializeRequests) {
        return;
    }
    let Some(call) = Scope::Stack.of(now) else { return };
    if now.is_exit() {
        if requests_on(now.history, call.connection, call) > 1 {
            report.exercised();
        }
    } else if let Some(other) = beside_on_connection(now.history, call, Scope::Stack) {
        let expected = format!("{} once {} has returned", shown(call), shown(other));
        report.broken([&other.enter, now.event], expected, "it begins earlier");
    }
}
