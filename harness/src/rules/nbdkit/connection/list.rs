//! nbdkit-plugin(3), `.list_exports`: what an answer to NBD_OPT_LIST is made of.

use layers_trace::Callback::{DefaultExport, ListExports};
use layers_trace::{Event, Field, Kind, Operation};

use super::super::order::inwards;
use super::super::pass_through::passed_through;
use super::survival::{Failure, survives};
use crate::rules::check::{
    Both, Now, PerConnection, Report, Rule, Said, Watch, at, by, calls, enters, exits, given, quoted,
    remembering,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "conn.list.only-on-request",
        statement: "Exports are listed for a client that asks with NBD_OPT_LIST, from the outermost layer inwards.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .list_exports",
        antecedent: "a call of list_exports, or a client's first list, and clients that write down what they ask",
        good: "NBD_OPT_LIST { L0.list_exports }",
        bad: r#"NBD_OPT_GO "a" { L0.list_exports }"#,
        fix: "call list_exports on the outermost layer while answering NBD_OPT_LIST, and at no other time",
        check: by!(passed_through(
            calls(&[ListExports]),
            Both::new(at(enters(&[ListExports]), only_on_request), remembering(LISTS, Lists::first))
        )),
        ..Rule::REQUIRED.since(1, 21, 22)
    },
    Rule {
        id: "conn.list.no-open-handle",
        statement: "While exports are listed, the connection has no handle open.",
        clause: "nbdkit-plugin(3), Callback lifecycle",
        antecedent: "a call of list_exports for a client",
        good: "NBD_OPT_LIST { L0.list_exports }",
        bad: r#"NBD_OPT_GO "a" { L0.open send NBD_OPT_LIST L0.list_exports }"#,
        fix: "close what NBD_OPT_INFO opened before answering the next option",
        check: by!(at(enters(&[ListExports]), no_open_handle)),
        ..Rule::REQUIRED.since(1, 23, 6)
    },
    Rule {
        id: "conn.list.repeat",
        statement: "A client that lists twice is served twice, each time by a call of list_exports of its own.",
        clause: "not in the manual; earlier servers refuse the second list without a callback",
        antecedent: "a second NBD_OPT_LIST of one connection that succeeds",
        good: "NBD_OPT_LIST NBD_OPT_LIST",
        bad: "NBD_OPT_LIST NBD_OPT_LIST {}",
        fix: "none needed; a module should cope with any number of calls",
        check: by!(remembering(LISTS, Lists::again)),
        ..Rule::OBSERVED.since(1, 45, 0)
    },
    Rule {
        id: "conn.list.failure-survives",
        statement: "When list_exports fails the client gets an error, and can go on with the same connection.",
        clause: "nbdkit-plugin(3), .list_exports",
        antecedent: "an outermost list_exports that returns -1 to a client that writes down what it asks",
        good: "NBD_OPT_LIST { L0.list_exports = -1 } = EINVAL NBD_OPT_LIST",
        bad: "NBD_OPT_LIST { L0.list_exports = -1 } = 0",
        fix: "answer with an error of the protocol and wait for the next option",
        check: by!(survives(Failure {
            exits: |callback| callback == ListExports,
            is: |now| now.event.result() < 0 && now.parent().is_none(),
            ends: |_| false,
            is_told: true,
        })),
        ..Rule::REQUIRED.since(1, 21, 22)
    },
    Rule {
        id: "conn.list.default-fallback",
        statement: "Where no layer has list_exports a client is shown one export, as the plugin's default_export names it.",
        clause: "nbdkit-plugin(3), .list_exports and .default_export",
        antecedent: "an NBD_OPT_LIST that succeeds, and a stack without list_exports",
        good: r#"L0 without=list_exports; NBD_OPT_LIST { L0.default_export = "main" } = 0 "main""#,
        bad: r#"L0 without=list_exports; NBD_OPT_LIST { L0.default_export = "main" } = 0 """#,
        fix: "make the list of the default export's name alone",
        check: by!(remembering(exits(&[DefaultExport]).notes(&[Kind::Reply]), falls_back)),
        ..Rule::REQUIRED.since(1, 23, 6)
    },
];

/// A client has asked for the list.
fn only_on_request(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    inwards(now, report);
    now.root().filter(|_| now.history.has_client_log())?;
    let asks = now.may_serve(|client| client.awaits(Operation::List).is_some());
    report.expect(asks, (), "a client waits for the answer to NBD_OPT_LIST", "none does")
}

/// Nothing is open while the list is made.
fn no_open_handle(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let connection = now.server_call()?.connection?;
    report.exercised();
    let handle = super::open::server_handles(now.history, connection).next()?;
    let actual = format!("handle {} of L{} is open", handle.id, handle.layer);
    report.broken(&handle.open, "no handle of the connection is open", actual)
}

/// The connections whose client has had a list, and those that have had a call since their client's request.
#[derive(Default)]
struct Lists {
    listed: PerConnection<()>,
    called: PerConnection<()>,
}

const LISTS: Watch = enters(&[ListExports]).notes(&[Kind::Request, Kind::Reply]);

impl Lists {
    /// Whether this is the answer to the first list of a connection, and whether there was a call for it.
    fn answered(&mut self, now: &Now<'_>) -> Option<(bool, bool)> {
        if now.is_enter() {
            self.called.renew(now.history, now.root()?.connection?, ())?;
        }
        given(now.is_about(Operation::List) && now.history.has_client_log())?;
        let connection = now.connection()?;
        if now.event.kind == Kind::Request {
            self.called.take(connection);
        }
        given(now.succeeds(Operation::List) && now.history.outermost(ListExports).is_some())?;
        let first = !self.listed.has(connection);
        self.listed.renew(now.history, connection, ());
        Some((first, self.called.has(connection)))
    }

    /// The first list of a connection has a call of its own.
    fn first(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let (_, called) = self.answered(now).filter(|(first, _)| *first)?;
        report.expect(called, (), "list_exports is called for this list", "it is not")
    }

    /// So has each one after it.
    fn again(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let (_, called) = self.answered(now).filter(|(first, _)| !first)?;
        report.expect(called, (), "list_exports is called for this list", "it is not")
    }
}

/// Without list_exports the default export is the list; `answers` are the plugin's last, as filters have no say in this.
fn falls_back(answers: &mut PerConnection<Event>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if let Some(call) = now.call {
        given(call.layer() == 0)?;
        return answers.renew(now.history, call.connection?, now.event.clone());
    }
    given(now.succeeds(Operation::List))?;
    let answer = answers.get(now.connection()?);
    given(now.history.outermost(ListExports).is_none() && now.history.is_complete())?;
    let name = match answer {
        Some(answer) => super::default_export::name(answer),
        None if !now.history.records(0, DefaultExport) => Some([].as_slice()),
        None => {
            return report.expect(false, (), "L0.default_export gives the name", "nobody has asked it");
        }
    };
    let shown: Vec<_> = now.event.texts.iter().filter(|text| text.field == Field::Export).collect();
    let holds = shown.iter().map(|text| text.bytes.as_slice()).eq(name);
    let expected =
        name.map_or("an empty list".to_owned(), |name| format!("the list is {} alone", quoted(name)));
    let actual = format!("the client is shown {} exports, or another one", shown.len());
    report.expect(holds, answer, expected, actual)
}
