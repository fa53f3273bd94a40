//! SERIALIZE_ALL_REQUESTS and SERIALIZE_REQUESTS: one request at a time, of all clients or of each.

use layers_trace::Callback;

use super::{Scope, anything_beside, is_request, requests_on, shown};
use crate::history::{Call, History, ThreadModel};
use crate::rules::check::{Check, Checker, Now, Report, Rule, Watch};
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
        check: Checker::Trace(|| Box::new(OneOfAll)),
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
        check: Checker::Trace(|| Box::new(OnePerHandle)),
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

struct OneOfAll;

impl Check for OneOfAll {
    fn watches(&self) -> Watch {
        Watch::NONE.enters_where(is_request).exits_where(is_request)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
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
}

struct OnePerHandle;

impl Check for OnePerHandle {
    fn watches(&self) -> Watch {
        Watch::NONE.enters_where(Callback::is_connected).exits_where(Callback::is_data)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
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
}

#[cfg(test)]
mod tests {
    use super::super::visits::{FIRST, SECOND, Visits, WORKER};
    use crate::rules::testing::Script;
    use crate::rules::testing::{accepts, judged, rejects};

    /// Clients 1 and 2 ask for a read each, and the second one is entered before the first has returned, or after that.
    fn two_clients(model: u64, overlap: bool) -> Script {
        let mut visits = Visits::asked(0, model);
        let first = visits.arrive(FIRST, 1);
        let second = visits.arrive(SECOND, 2);
        let asked = [&first, &second].map(|seat| visits.ask(seat, 1));
        let read = visits.enter(FIRST, &first);
        if overlap {
            let other = visits.enter(SECOND, &second);
            visits.exit(FIRST, read);
            visits.exit(SECOND, other);
        } else {
            visits.exit(FIRST, read);
            visits.read(SECOND, &second);
        }
        asked.into_iter().for_each(|reads| visits.answer(reads));
        visits.leave(FIRST, &first);
        visits.leave(SECOND, &second);
        visits.stop()
    }

    /// One client asks for two reads; this thread does the second one, while the first is in progress or after that.
    fn two_reads(model: u64, overlap: bool, thread: u32) -> Script {
        let mut visits = Visits::asked(0, model);
        let seat = visits.arrive(FIRST, 1);
        let asked = visits.ask(&seat, 2);
        let read = visits.enter(FIRST, &seat);
        if overlap {
            let other = visits.enter(thread, &seat);
            visits.exit(FIRST, read);
            visits.exit(thread, other);
        } else {
            visits.exit(FIRST, read);
            visits.read(thread, &seat);
        }
        visits.answer(asked);
        visits.leave(FIRST, &seat);
        visits.stop()
    }

    #[test]
    fn one_request_of_all_clients_at_a_time() {
        const RULE: &str = "tm.all.no-overlap";
        accepts(RULE, two_clients(1, false));
        rejects(RULE, two_clients(1, true));
        rejects(RULE, two_reads(1, true, WORKER));
        let exercised = |script| judged(script).result(RULE).unwrap().exercised;
        assert_eq!(exercised(two_clients(2, true)), 0, "another model");
    }

    #[test]
    fn an_open_is_a_request_and_preconnect_is_none() {
        const RULE: &str = "tm.all.no-overlap";
        let visits = |selects: bool| {
            let mut visits = Visits::asked(0, 1);
            let first = visits.arrive(FIRST, 1);
            let asked = visits.ask(&first, 1);
            let read = visits.enter(FIRST, &first);
            let connect = visits.connect(2);
            visits.greet(SECOND, connect);
            let early = selects.then(|| visits.go(SECOND, 2));
            visits.exit(FIRST, read);
            visits.answer(asked);
            let second = early.unwrap_or_else(|| visits.go(SECOND, 2));
            visits.leave(FIRST, &first);
            visits.leave(SECOND, &second);
            visits.stop()
        };
        assert_eq!(judged(visits(false)).result(RULE).unwrap().broken, 0);
        rejects(RULE, visits(true));
    }

    #[test]
    fn one_request_of_a_handle_at_a_time() {
        const RULE: &str = "tm.req.per-handle";
        accepts(RULE, two_reads(2, false, FIRST));
        rejects(RULE, two_reads(2, true, WORKER));
        let result = |script| judged(script).result(RULE).unwrap().clone();
        assert_eq!(result(two_clients(2, true)).broken, 0, "different handles may");
        assert_eq!(result(two_clients(2, true)).exercised, 0, "and prove nothing");
        assert_eq!(result(two_reads(3, true, WORKER)).exercised, 0, "another model");
    }
}
