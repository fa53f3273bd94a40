//! nbdkit-plugin(3), `.list_exports`: what an answer to NBD_OPT_LIST is made of.

use layers_trace::{Callback, Event, Field, Kind as EventKind, Operation};

use super::super::pass_through::PassThrough;
use super::nesting;
use super::survival::{Failure, Survives};
use crate::history::ConnectionId;
use crate::rules::check::all_of::Both;
use crate::rules::check::{Check, Checker, Now, Report, Rule, Watch};
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "conn.list.only-on-request",
        since: Version(1, 21, 22),
        statement: "Exports are listed for a client that asks with NBD_OPT_LIST, from the outermost layer inwards.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .list_exports",
        antecedent: "a call of list_exports, or a client's first list, and clients that write down what they ask",
        good: "NBD_OPT_LIST { L0.list_exports }",
        bad: r#"NBD_OPT_GO "a" { L0.list_exports }"#,
        fix: "call list_exports on the outermost layer while answering NBD_OPT_LIST, and at no other time",
        check: Checker::Trace(|| {
            let calls = Both::new(OnlyOnRequest, PassThrough(|callback| callback == Callback::ListExports));
            Box::new(Both::new(calls, Lists::first()))
        }),
        ..Rule::REQUIRED
    },
    Rule {
        id: "conn.list.no-open-handle",
        since: Version(1, 23, 6),
        statement: "While exports are listed, the connection has no handle open.",
        clause: "nbdkit-plugin(3), Callback lifecycle",
        antecedent: "a call of list_exports for a client",
        good: "NBD_OPT_LIST { L0.list_exports }",
        bad: r#"NBD_OPT_GO "a" { L0.open send NBD_OPT_LIST L0.list_exports }"#,
        fix: "close what NBD_OPT_INFO opened before answering the next option",
        check: Checker::Trace(|| Box::new(NoOpenHandle)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "conn.list.repeat",
        since: Version(1, 45, 0),
        statement: "A client that lists twice is served twice, each time by a call of list_exports of its own.",
        clause: "not in the manual; earlier servers refuse the second list without a callback",
        antecedent: "a second NBD_OPT_LIST of one connection that succeeds",
        good: "NBD_OPT_LIST NBD_OPT_LIST",
        bad: "NBD_OPT_LIST NBD_OPT_LIST {}",
        fix: "none needed; a module should cope with any number of calls",
        check: Checker::Trace(|| Box::new(Lists::again())),
        ..Rule::OBSERVED
    },
    Rule {
        id: "conn.list.failure-survives",
        since: Version(1, 21, 22),
        statement: "When list_exports fails the client gets an error, and can go on with the same connection.",
        clause: "nbdkit-plugin(3), .list_exports",
        antecedent: "an outermost list_exports that returns -1 to a client that writes down what it asks",
        good: "NBD_OPT_LIST { L0.list_exports = -1 } = EINVAL NBD_OPT_LIST",
        bad: "NBD_OPT_LIST { L0.list_exports = -1 } = 0",
        fix: "answer with an error of the protocol and wait for the next option",
        check: Checker::Trace(|| {
            Box::new(Survives::new(Failure {
                exits: &[Callback::ListExports],
                is: |now| now.event.result() < 0 && now.parent().is_none(),
                ends: |_| false,
                is_told: true,
            }))
        }),
        ..Rule::REQUIRED
    },
    Rule {
        id: "conn.list.default-fallback",
        since: Version(1, 23, 6),
        statement: "Where no layer has list_exports a client is shown one export, as the plugin's default_export names it.",
        clause: "nbdkit-plugin(3), .list_exports and .default_export",
        antecedent: "an NBD_OPT_LIST that succeeds, and a stack without list_exports",
        good: r#"L0 without=list_exports; NBD_OPT_LIST { L0.default_export = "main" } = 0 "main""#,
        bad: r#"L0 without=list_exports; NBD_OPT_LIST { L0.default_export = "main" } = 0 """#,
        fix: "make the list of the default export's name alone",
        check: Checker::Trace(|| Box::new(FallsBack::default())),
        ..Rule::REQUIRED
    },
];

/// A client has asked for the list.
struct OnlyOnRequest;

impl Check for OnlyOnRequest {
    fn watches(&self) -> Watch {
        Watch::NONE.enters(&[Callback::ListExports])
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        nesting::inwards(now, report);
        let Some(call) = now.call.filter(|call| call.parent.is_none()) else { return };
        if !now.history.run().is_some_and(|run| run.client_log) {
            return;
        }
        report.exercised();
        let asks = match call.connection.and_then(|id| now.history.client_of(id)) {
            Some(client) => client.awaits(Operation::List).is_some(),
            None => now.history.clients().any(|client| client.awaits(Operation::List).is_some()),
        };
        if !asks {
            report.broken([now.event], "a client waits for the answer to NBD_OPT_LIST", "none does");
        }
    }
}

/// Nothing is open while the list is made.
struct NoOpenHandle;

impl Check for NoOpenHandle {
    fn watches(&self) -> Watch {
        Watch::NONE.enters(&[Callback::ListExports])
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(call) = now.call.filter(|call| call.parent.is_none()) else { return };
        if call.connection.is_none() || !now.history.is_for_client(call) {
            return;
        }
        report.exercised();
        let open = super::open::server_handles(now.history, call.connection).next();
        if let Some(handle) = open {
            let actual = format!("handle {} of L{} is open", handle.id, handle.layer);
            report.broken([&handle.open, now.event], "no handle of the connection is open", actual);
        }
    }
}

/// A list has a call of its own: the first of a connection, or those after it.
struct Lists {
    first: bool,
    /// The connections whose client has had a list.
    listed: Vec<ConnectionId>,
    /// Those that have had a call since their client's request.
    called: Vec<ConnectionId>,
}

impl Lists {
    fn first() -> Lists {
        Lists { first: true, listed: Vec::new(), called: Vec::new() }
    }

    fn again() -> Lists {
        Lists { first: false, ..Lists::first() }
    }
}

impl Check for Lists {
    fn watches(&self) -> Watch {
        Watch::NONE.enters(&[Callback::ListExports]).notes(EventKind::Request).notes(EventKind::Reply)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if let Some(call) = now.call {
            self.called.extend(call.connection.filter(|_| call.parent.is_none()));
            return;
        }
        if now.event.operation() != Some(Operation::List)
            || !now.history.run().is_some_and(|run| run.client_log)
        {
            return;
        }
        let client = now.history.client(now.event.handle);
        let Some(connection) = client.and_then(|client| client.connection) else { return };
        if now.event.kind == EventKind::Request {
            self.called.retain(|id| *id != connection);
        } else if now.event.result() == 0 && now.history.outermost(Callback::ListExports).is_some() {
            let first = !self.listed.contains(&connection);
            if first {
                self.listed.retain(|id| now.history.connection(*id).is_some());
                self.listed.push(connection);
            }
            if first == self.first {
                let called = self.called.contains(&connection);
                report.expect(called, [now.event], "list_exports is called for this list", "it is not");
            }
        }
    }
}

/// Without list_exports the default export is the list.
#[derive(Default)]
struct FallsBack {
    /// The last answer of the plugin's default_export on each connection: filters have no say in this.
    answers: Vec<(ConnectionId, Event)>,
}

impl FallsBack {
    fn listed(&self, now: &Now<'_>, report: &mut Report<'_>) {
        if now.event.operation() != Some(Operation::List) || now.event.result() != 0 {
            return;
        }
        let client = now.history.client(now.event.handle);
        let Some(connection) = client.and_then(|client| client.connection) else { return };
        if now.history.outermost(Callback::ListExports).is_some() || !now.history.is_complete() {
            return;
        }
        let answer = self.answers.iter().find(|(id, _)| *id == connection).map(|(_, answer)| answer);
        let name = match answer {
            Some(answer) => super::default_export::name(answer),
            None if !now.history.records(0, Callback::DefaultExport) => Some([].as_slice()),
            None => {
                report.expect(false, [now.event], "L0.default_export gives the name", "nobody has asked it");
                return;
            }
        };
        report.exercised();
        let shown: Vec<_> = now.event.texts.iter().filter(|text| text.field == Field::Export).collect();
        if !shown.iter().map(|text| text.bytes.as_slice()).eq(name) {
            report.broken(
                answer.into_iter().chain([now.event]),
                match name {
                    Some(name) => format!("the list is {:?} alone", String::from_utf8_lossy(name)),
                    None => "an empty list".to_owned(),
                },
                format!("the client is shown {} exports, or another one", shown.len()),
            );
        }
    }
}

impl Check for FallsBack {
    fn watches(&self) -> Watch {
        Watch::NONE.exits(&[Callback::DefaultExport]).notes(EventKind::Reply)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(call) = now.call else { return self.listed(now, report) };
        if let Some(connection) = call.connection.filter(|_| call.layer() == 0) {
            self.answers.retain(|(id, _)| *id != connection && now.history.connection(*id).is_some());
            self.answers.push((connection, now.event.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::*;
    use crate::run::Run;
    use crate::version::Version;
    use layers_trace::{Callback, Event, Field, Kind, Operation};

    fn reply_to(script: &mut Script, operation: Operation) -> &mut Event {
        let is = |event: &&mut Event| event.kind == Kind::Reply && event.operation() == Some(operation);
        script.events.iter_mut().find(is).unwrap()
    }

    #[test]
    fn lists_are_made_on_request() {
        const RULE: &str = "conn.list.only-on-request";
        accepts(RULE, reference());
        let good = reference();
        let late = good.index(Kind::Enter, 2, Callback::DefaultExport, 0);
        rejects(RULE, good.with(late, |script| script.through(2, Callback::ListExports, 0, |_| {})));
        rejects(RULE, reference().without(1, Callback::ListExports, 0));
        // A client is shown a list that nobody was asked for.
        let alone = reference().without(2, Callback::ListExports, 0).without(1, Callback::ListExports, 0);
        rejects(RULE, alone.without(0, Callback::ListExports, 0));
        let unlogged = served(&Run { client_log: false, ..run(0) });
        assert_eq!(judged(unlogged).result(RULE).unwrap().exercised, 0);
    }

    #[test]
    fn nothing_is_open_while_exports_are_listed() {
        const RULE: &str = "conn.list.no-open-handle";
        accepts(RULE, reference());
        let good = reference();
        let open = good.index(Kind::Enter, 1, Callback::Prepare, 0);
        rejects(RULE, good.with(open, |script| script.through(2, Callback::ListExports, 0, |_| {})));
    }

    #[test]
    fn a_second_list_is_made_anew() {
        const RULE: &str = "conn.list.repeat";
        let good = || served(&Run { version: Version(1, 46, 0), ..run(2) });
        let after_list = |script: &Script| script.index(Kind::Exit, 2, Callback::ListExports, 0) + 2;
        let (script, at) = (good(), after_list(&good()));
        accepts(
            RULE,
            script.with(at, |script| {
                let list = script.request(1, Operation::List).position;
                script.through(2, Callback::ListExports, 0, |event| {
                    event.context = if event.layer > 0 { backend(event.layer) } else { 0 };
                });
                script.reply(list, 0);
            }),
        );
        rejects(
            RULE,
            good().with(at, |script| {
                let list = script.request(1, Operation::List).position;
                script.reply(list, 0);
            }),
        );
        assert_eq!(judged(good()).result(RULE).unwrap().exercised, 0);
    }

    #[test]
    fn a_list_that_fails_is_an_error_and_no_end() {
        const RULE: &str = "conn.list.failure-survives";
        let failing = || {
            let fail = |event: &mut Event| event.a = u64::MAX;
            let failing =
                |script: Script, layer| script.changed(Kind::Exit, layer, Callback::ListExports, 0, fail);
            let mut script = (0..=2).fold(reference(), failing);
            (reply_to(&mut script, Operation::List).a, reply_to(&mut script, Operation::List).c) =
                (u64::MAX, 5);
            script
        };
        accepts(RULE, failing());
        let mut untold = failing();
        reply_to(&mut untold, Operation::List).a = 0;
        rejects(RULE, untold);
        let mut dropped = failing();
        reply_to(&mut dropped, Operation::List).c = libc::ENOTCONN.cast_unsigned();
        rejects(RULE, dropped);
    }

    #[test]
    fn a_connection_that_ends_at_the_next_option_has_not_survived() {
        let mut script = Script::new(&run(0));
        script.start(0);
        script.tid = CONNECTION;
        let connect = script.request(1, Operation::Connect).position;
        script.call(0, Callback::Preconnect, 0);
        script.reply(connect, 0);
        let list = script.request(1, Operation::List).position;
        script.call(0, Callback::ListExports, -1);
        script.reply(list, -1).c = 5;
        let go = script.request(1, Operation::Go).position;
        script.reply(go, -1).c = libc::ENOTCONN.cast_unsigned();
        let mut stopped = script.clone();
        script.stop(0);
        rejects("conn.list.failure-survives", script);
        // Nobody stopped this server: it may have been on its way out.
        stopped.tid = MAIN;
        stopped.cleanup(0);
        stopped.unload(0);
        stopped.exited(0);
        assert!(broken(stopped).is_empty());
    }

    #[test]
    fn the_default_export_is_the_list_where_there_is_no_other() {
        const RULE: &str = "conn.list.default-fallback";
        let named = |shown: &str, asks: bool| {
            let mut script =
                (0..=2).fold(reference(), |script, layer| script.lacking(layer, Callback::ListExports));
            reply_to(&mut script, Operation::List).texts =
                vec![text(Field::Export, shown), text(Field::Description, "")];
            let list =
                script.events.iter().position(|event| event.operation() == Some(Operation::List)).unwrap();
            if asks {
                script = script.without(0, Callback::DefaultExport, 0);
                script = script.with(list + 1, |script| {
                    script.call(0, Callback::DefaultExport, 1);
                    script.events.last_mut().unwrap().texts.push(text(Field::Export, "main"));
                });
            }
            script
        };
        accepts(RULE, named("main", true));
        rejects(RULE, named("", true));
        let unasked = (0..=2)
            .fold(named("main", false), |script, layer| script.without(layer, Callback::DefaultExport, 0));
        rejects(RULE, unasked);
        assert_eq!(judged(reference()).result(RULE).unwrap().exercised, 0);
    }
}
