//! nbdkit-plugin(3), `.default_export`: what the empty name of an export stands for.

use layers_trace::{Callback, Event, Field, Kind, Operation};

use super::super::pass_through::PassThrough;
use super::survival::is_lost;
use crate::history::{Client, ConnectionId, Request};
use crate::protocol::LONGEST_STRING;
use crate::rules::check::all_of::Both;
use crate::rules::check::{Check, Now, Report, Rule, Watch, at, by, calls, enters, exits, remembering};
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "conn.default.only-empty-name",
        since: Version(1, 23, 6),
        statement: "The outermost default_export is asked for an empty name, for a list, or for NBD_INFO_NAME only.",
        clause: "nbdkit-plugin(3), .default_export",
        antecedent: "a call of the outermost default_export, and clients that write down what they ask",
        good: r#"NBD_OPT_GO "" { L0.default_export }"#,
        bad: r#"NBD_OPT_GO "a" { L0.default_export }"#,
        fix: "use a name that is not empty as it is",
        check: by!(at(enters(&[Callback::DefaultExport]), only_empty_name)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "conn.default.before-open",
        since: Version(1, 23, 6),
        statement: "For the empty name default_export is asked inwards before open, which gets its answer; so does the client.",
        clause: "nbdkit-plugin(3), .default_export; nbdkit-filter(3), .default_export",
        antecedent: "an open for a client that selects the empty name, and writes that down",
        good: r#"NBD_OPT_GO "" { L0.default_export = "main" L0.open "main" }"#,
        bad: r#"NBD_OPT_GO "" { L0.default_export = "main" L0.open "" }"#,
        fix: "ask default_export first, and go on as if the client had asked for its answer",
        check: by!(Both::new(
            BeforeOpen::default(),
            PassThrough(|callback| callback == Callback::DefaultExport),
        )),
        ..Rule::REQUIRED
    },
    Rule {
        id: "conn.default.cached",
        since: Version(1, 23, 6),
        statement: "A layer that has named its default export is not asked again on that connection, but after STARTTLS.",
        clause: "not in the manual",
        antecedent: "a client that needs the default name a second time",
        good: r#"NBD_OPT_INFO "" NBD_OPT_GO "" { open prepare queries }"#,
        bad: r#"NBD_OPT_INFO "" NBD_OPT_GO "" { L0.default_export }"#,
        fix: "none needed; a module should answer the same each time",
        check: by!(remembering(calls(&[Callback::DefaultExport]).notes(Kind::Request), cached)),
        ..Rule::OBSERVED
    },
    Rule {
        id: "conn.default.null-refuses",
        since: Version(1, 23, 6),
        statement: "NULL, or a name beyond 4096 bytes, refuses the empty name: no open, and an error for the client.",
        clause: "nbdkit-plugin(3), .default_export",
        antecedent: "an outermost default_export that answers NULL, or too much, to a client that selects the empty name",
        good: r#"NBD_OPT_GO "" { L0.default_export = NULL } = EINVAL"#,
        bad: r#"NBD_OPT_GO "" { L0.default_export = NULL L0.open "" }"#,
        fix: "refuse the option with an error, and wait for another one",
        check: by!(remembering(
            exits(&[Callback::DefaultExport]).enters(&[Callback::Open]).notes(Kind::Reply),
            null_refuses
        )),
        ..Rule::REQUIRED
    },
];

/// The bit of NBD_INFO_NAME in a request.
const INFO_NAME: u64 = 1 << 1;

/// The name that this exit of default_export gives; `None` when it refuses.
pub(super) fn name(exit: &Event) -> Option<&[u8]> {
    let text = exit.text(Field::Export).filter(|text| exit.result() != 0 && !text.cut)?;
    Some(text.bytes.as_slice()).filter(|name| name.len() <= LONGEST_STRING)
}

/// This exit of default_export gives a name.
pub(in super::super) fn is_name(exit: &Event) -> bool {
    name(exit).is_some()
}

/// The client asks for the empty name.
fn is_empty(request: &Request) -> bool {
    request.event.text(Field::Export).is_none_or(|name| name.bytes.is_empty())
}

/// The client waits for something that needs the default name.
fn needs_default(client: &Client) -> bool {
    client.awaits(Operation::List).is_some()
        || client.selecting().any(|request| is_empty(request) || request.event.b & INFO_NAME != 0)
}

/// The call is the server's own, for a client.
fn is_servers(now: &Now<'_>) -> bool {
    now.call.is_some_and(|call| call.parent.is_none() && now.history.is_for_client(call))
}

/// The client whose waiting request this call serves.
fn client<'a>(now: &Now<'a>) -> Option<&'a Client> {
    now.call.and_then(|call| call.connection).and_then(|id| now.history.client_of(id))
}

/// Somebody needs the default name.
fn only_empty_name(now: &Now<'_>, report: &mut Report<'_>) {
    // A client of the oldstyle protocol cannot say what it wants.
    let says = now.history.run().is_some_and(|run| run.client_log && !run.oldstyle);
    if !says || !is_servers(now) {
        return;
    }
    report.exercised();
    let needed = match client(now) {
        Some(client) => needs_default(client),
        None => now.history.clients().any(needs_default),
    };
    if !needed {
        let asks = client(now).and_then(Client::selects).map(|request| &request.event);
        let expected = "a client asks for the empty name, the list, or NBD_INFO_NAME";
        report.broken(asks.into_iter().chain([now.event]), expected, "none does");
    }
}

/// The answers of the outermost default_export, the last of each connection.
#[derive(Default)]
struct BeforeOpen {
    answers: Vec<(ConnectionId, Event)>,
}

impl BeforeOpen {
    fn answer(&self, connection: ConnectionId) -> Option<&Event> {
        self.answers.iter().find(|(id, _)| *id == connection).map(|(_, answer)| answer)
    }

    fn asked(now: &Now<'_>, report: &mut Report<'_>) {
        let Some(outer) = now.history.outer(now.event.layer, Callback::DefaultExport) else { return };
        let inside = now.parent().is_some_and(|parent| {
            parent.layer() == outer
                || parent.callback != Callback::DefaultExport && parent.layer() > now.event.layer
        });
        let inside = inside && now.call.is_some_and(|call| !now.history.is_intrusion(call));
        // For a list that a layer does not make, its default export is asked alone.
        let lists = client(now).is_none_or(|client| client.awaits(Operation::List).is_some());
        if !inside && !lists {
            let expected = format!("L{outer} asks L{}", now.event.layer);
            report.expect(false, [now.event], expected, "it is asked from elsewhere");
        }
    }

    fn opened(&self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(client) = client(now).filter(|_| is_servers(now) && now.history.is_complete()) else {
            return;
        };
        let Some(request) = client.selects().filter(|request| is_empty(request)) else { return };
        let answer = client.connection.and_then(|id| self.answer(id));
        let name = match (now.history.outermost(Callback::DefaultExport), answer) {
            (None, _) => Some([].as_slice()),
            (Some(_), Some(answer)) => name(answer),
            (Some(outermost), None) => {
                let expected = format!("L{outermost}.default_export is asked first");
                report.expect(false, [&request.event, now.event], expected, "it is not");
                return;
            }
        };
        // What a refusal leads to is another rule; so is what the plugin can say of its export's name.
        let (Some(name), Some(given)) = (name, now.event.text(Field::Export)) else { return };
        report.exercised();
        if given.bytes != name {
            report.broken(
                answer.into_iter().chain([now.event]),
                format!("L{}.open gets {:?}", now.event.layer, String::from_utf8_lossy(name)),
                format!("{:?}", String::from_utf8_lossy(&given.bytes)),
            );
        }
    }
}

impl Check for BeforeOpen {
    fn watches(&self) -> Watch {
        calls(&[Callback::DefaultExport]).enters(&[Callback::Open])
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        match (now.event.kind, now.event.callback()) {
            (Kind::Enter, Some(Callback::DefaultExport)) => BeforeOpen::asked(now, report),
            (Kind::Exit, _) => {
                // In a list, too, where a layer without list_exports has its default export asked from within.
                let outermost = now.history.outermost(Callback::DefaultExport) == Some(now.event.layer);
                if let Some(id) = now.call.and_then(|call| call.connection).filter(|_| outermost) {
                    self.answers
                        .retain(|(other, _)| *other != id && now.history.connection(*other).is_some());
                    self.answers.push((id, now.event.clone()));
                }
            }
            _ => self.opened(now, report),
        }
    }
}

/// What has been answered is not asked again.
fn cached(answers: &mut Vec<(ConnectionId, Event)>, now: &Now<'_>, report: &mut Report<'_>) {
    if now.event.operation().is_some_and(Operation::is_data) {
        return;
    }
    if now.event.kind == Kind::Request {
        let client = now.history.client(now.event.handle);
        let Some(connection) = client.and_then(|client| client.connection) else { return };
        let needs = match now.event.operation() {
            Some(Operation::StartTls) => {
                answers.retain(|(id, _)| *id != connection);
                false
            }
            Some(Operation::Info | Operation::Go | Operation::ExportName) => {
                now.event.text(Field::Export).is_none_or(|name| name.bytes.is_empty())
            }
            _ => false,
        };
        if needs && answers.iter().any(|(id, _)| *id == connection) {
            report.exercised();
        }
        return;
    }
    let Some(connection) = now.call.and_then(|call| call.connection) else { return };
    if now.is_exit() {
        if name(now.event).is_some() {
            answers.retain(|(id, _)| now.history.connection(*id).is_some());
            answers.push((connection, now.event.clone()));
        }
        return;
    }
    let earlier = answers
        .iter()
        .find(|(id, answer)| *id == connection && answer.layer == now.event.layer)
        .map(|(_, answer)| answer);
    if let Some(earlier) = earlier {
        let expected = format!("L{} is asked once on this connection", now.event.layer);
        report.expect(false, [earlier, now.event], expected, "it is asked again");
    }
}

/// A refusal, and the request that it answers.
struct Refusal {
    connection: ConnectionId,
    exit: Event,
    request: Event,
}

/// No name, no export.
fn null_refuses(refusals: &mut Vec<Refusal>, now: &Now<'_>, report: &mut Report<'_>) {
    match now.event.kind {
        Kind::Exit => {
            let Some(client) = client(now).filter(|_| is_servers(now) && name(now.event).is_none()) else {
                return;
            };
            let request = client.selects().filter(|request| is_empty(request));
            if let (Some(request), Some(connection)) = (request, client.connection) {
                report.exercised();
                refusals.retain(|refusal| refusal.connection != connection);
                let (exit, request) = (now.event.clone(), request.event.clone());
                refusals.push(Refusal { connection, exit, request });
            }
        }
        Kind::Enter => {
            let connection = now.call.and_then(|call| call.connection).filter(|_| is_servers(now));
            let refusal = refusals.iter().find(|refusal| Some(refusal.connection) == connection);
            if let Some(refusal) = refusal {
                report.broken([&refusal.exit, now.event], "nothing is opened", "open is called");
            }
        }
        _ => {
            let answers = |refusal: &Refusal| refusal.request.position == now.event.call;
            let Some(index) = refusals.iter().position(answers) else { return };
            let refusal = refusals.swap_remove(index);
            if now.event.result() == 0 && !is_lost(now.event) {
                report.broken([&refusal.exit, now.event], "an error for the client", "a success");
            }
        }
    }
}
