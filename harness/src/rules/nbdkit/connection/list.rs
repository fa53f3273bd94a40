//! nbdkit-plugin(3), `.list_exports`: what an answer to NBD_OPT_LIST is made of.

use layers_trace::{Callback, Event, Field, Kind, Operation};

use super::super::pass_through::PassThrough;
use super::nesting;
use super::survival::{Failure, Survives};
use crate::history::ConnectionId;
use crate::rules::check::all_of::Both;
use crate::rules::check::{Check, Now, Report, Rule, Watch, at, by, enters, exits, remembering};
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
        check: by!({
            let calls = Both::new(
                at(enters(&[Callback::ListExports]), only_on_request),
                PassThrough(|callback| callback == Callback::ListExports),
            );
            Both::new(calls, Lists::first())
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
        check: by!(at(enters(&[Callback::ListExports]), no_open_handle)),
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
        check: by!(Lists::again()),
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
        check: by!(Survives::new(Failure {
            exits: &[Callback::ListExports],
            is: |now| now.event.result() < 0 && now.parent().is_none(),
            ends: |_| false,
            is_told: true,
        })),
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
        check: by!(remembering(exits(&[Callback::DefaultExport]).notes(Kind::Reply), FallsBack::see)),
        ..Rule::REQUIRED
    },
];

/// A client has asked for the list.
fn only_on_request(now: &Now<'_>, report: &mut Report<'_>) {
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

/// Nothing is open while the list is made.
fn no_open_handle(now: &Now<'_>, report: &mut Report<'_>) {
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
        enters(&[Callback::ListExports]).notes(Kind::Request).notes(Kind::Reply)
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
        if now.event.kind == Kind::Request {
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

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(call) = now.call else { return self.listed(now, report) };
        if let Some(connection) = call.connection.filter(|_| call.layer() == 0) {
            self.answers.retain(|(id, _)| *id != connection && now.history.connection(*id).is_some());
            self.answers.push((connection, now.event.clone()));
        }
    }
}
