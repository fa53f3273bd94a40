//! nbdkit-plugin(3), `.default_export`: what the empty name of an export stands for.

use layers_trace::Callback::{DefaultExport, Open};
use layers_trace::{Event, Field, Kind, Operation};

use super::super::pass_through::passed_through;
use super::survival::is_lost;
use crate::history::{Client, ConnectionId, Request};
use crate::protocol::{LONGEST_STRING, info};
use crate::rules::check::{
    Now, PerConnection, Report, Rule, Said, at, by, calls, enters, exits, given, quoted, remembering, unless,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "conn.default.only-empty-name",
        statement: "The outermost default_export is asked for an empty name, for a list, or for NBD_INFO_NAME only.",
        clause: "nbdkit-plugin(3), .default_export",
        antecedent: "a call of the outermost default_export, and clients that write down what they ask",
        good: r#"NBD_OPT_GO "" { L0.default_export }"#,
        bad: r#"NBD_OPT_GO "a" { L0.default_export }"#,
        fix: "use a name that is not empty as it is",
        check: by!(at(enters(&[DefaultExport]), only_empty_name)),
        ..Rule::REQUIRED.since(1, 23, 6)
    },
    Rule {
        id: "conn.default.before-open",
        statement: "For the empty name default_export is asked inwards before open, which gets its answer; so does the client.",
        clause: "nbdkit-plugin(3), .default_export; nbdkit-filter(3), .default_export",
        antecedent: "an open for a client that selects the empty name, and writes that down",
        good: r#"NBD_OPT_GO "" { L0.default_export = "main" L0.open "main" }"#,
        bad: r#"NBD_OPT_GO "" { L0.default_export = "main" L0.open "" }"#,
        fix: "ask default_export first, and go on as if the client had asked for its answer",
        check: by!(passed_through(
            calls(&[DefaultExport]),
            remembering(calls(&[DefaultExport]).enters(&[Open]), before_open)
        )),
        ..Rule::REQUIRED.since(1, 23, 6)
    },
    Rule {
        id: "conn.default.cached",
        statement: "A layer that has named its default export is not asked again on that connection, but after STARTTLS.",
        clause: "not in the manual",
        antecedent: "a client that needs the default name a second time",
        good: r#"NBD_OPT_INFO "" NBD_OPT_GO "" { open prepare queries }"#,
        bad: r#"NBD_OPT_INFO "" NBD_OPT_GO "" { L0.default_export }"#,
        fix: "none needed; a module should answer the same each time",
        check: by!(remembering(calls(&[DefaultExport]).notes(&[Kind::Request]), cached)),
        ..Rule::OBSERVED.since(1, 23, 6)
    },
    Rule {
        id: "conn.default.null-refuses",
        statement: "NULL, or a name beyond 4096 bytes, refuses the empty name: no open, and an error for the client.",
        clause: "nbdkit-plugin(3), .default_export",
        antecedent: "an outermost default_export that answers NULL, or too much, to a client that selects the empty name",
        good: r#"NBD_OPT_GO "" { L0.default_export = NULL } = EINVAL"#,
        bad: r#"NBD_OPT_GO "" { L0.default_export = NULL L0.open "" }"#,
        fix: "refuse the option with an error, and wait for another one",
        check: by!(remembering(exits(&[DefaultExport]).enters(&[Open]).notes(&[Kind::Reply]), null_refuses)),
        ..Rule::REQUIRED.since(1, 23, 6)
    },
];

/// The name that this exit of default_export gives; `None` when it refuses.
pub(super) fn name(exit: &Event) -> Option<&[u8]> {
    let text = exit.text(Field::Export).filter(|text| exit.result() != 0 && !text.cut)?;
    Some(text.bytes.as_slice()).filter(|name| name.len() <= LONGEST_STRING)
}

/// This exit of default_export gives a name.
pub(in super::super) fn is_name(exit: &Event) -> bool {
    name(exit).is_some()
}

/// This request is for the empty name.
fn is_empty(request: &Event) -> bool {
    request.text(Field::Export).is_none_or(|name| name.bytes.is_empty())
}

/// The client waits for something that needs the default name.
fn needs_default(client: &Client) -> bool {
    let needs = |request: &Request| is_empty(&request.event) || request.event.b & info::NAME != 0;
    client.awaits(Operation::List).is_some() || client.selecting().any(needs)
}

/// The request for the empty name that the client of this call waits for.
fn empty<'a>(now: &Now<'a>) -> Option<&'a Request> {
    now.served()?.selects().filter(|request| is_empty(&request.event))
}

/// Somebody needs the default name.
fn only_empty_name(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    // A client of the oldstyle protocol cannot say what it wants.
    given(now.history.run().is_some_and(|run| run.client_log && !run.oldstyle))?;
    now.server_call()?;
    let asks = now.served().and_then(Client::selects);
    let expected = "a client asks for the empty name, the list, or NBD_INFO_NAME";
    report.expect(now.may_serve(needs_default), asks, expected, "none does")
}

/// The default is asked for first; `answers` are those of the outermost layer, the last of each connection.
fn before_open(answers: &mut PerConnection<Event>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    match (now.event.kind, now.event.callback()) {
        (Kind::Enter, Some(DefaultExport)) => asked_inwards(now, report),
        (Kind::Exit, _) => {
            // In a list, too, where a layer without list_exports has its default export asked from within.
            given(now.history.outermost(DefaultExport) == Some(now.event.layer))?;
            answers.renew(now.history, now.connection()?, now.event.clone())
        }
        _ => opened(answers, now, report),
    }
}

fn asked_inwards(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let outer = now.history.outer(now.event.layer, DefaultExport)?;
    let inside = now.parent().is_some_and(|parent| {
        parent.layer() == outer || parent.callback != DefaultExport && parent.layer() > now.event.layer
    });
    let inside = inside && now.call.is_some_and(|call| !now.history.is_intrusion(call));
    // For a list that a layer does not make, its default export is asked alone.
    let lists = now.served().is_none_or(|client| client.awaits(Operation::List).is_some());
    unless(inside || lists)?;
    let expected = format!("L{outer} asks L{}", now.event.layer);
    report.expect(false, (), expected, "it is asked from elsewhere")
}

fn opened(answers: &PerConnection<Event>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    now.server_call().filter(|_| now.history.is_complete())?;
    let (request, answer) = (empty(now)?, answers.get(now.connection()?));
    let name = match (now.history.outermost(DefaultExport), answer) {
        (None, _) => [].as_slice(),
        // What a refusal leads to is another rule.
        (Some(_), Some(answer)) => name(answer)?,
        (Some(outermost), None) => {
            let expected = format!("L{outermost}.default_export is asked first");
            return report.expect(false, request, expected, "it is not");
        }
    };
    // So is what the plugin can say of its export's name.
    let opened = now.event.text(Field::Export)?.bytes.as_slice();
    let expected = format!("L{}.open gets {}", now.event.layer, quoted(name));
    report.expect(opened == name, answer, expected, quoted(opened))
}

/// What has been answered is not asked again; `answers` are those of each layer, for each connection.
fn cached(answers: &mut Vec<(ConnectionId, Event)>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    unless(now.event.operation().is_some_and(Operation::is_data))?;
    let connection = now.connection()?;
    match (now.event.kind, now.event.operation()) {
        (Kind::Request, Some(Operation::StartTls)) => answers.retain(|(id, _)| *id != connection),
        (Kind::Request, Some(Operation::Info | Operation::Go | Operation::ExportName)) => {
            let known = answers.iter().any(|(id, _)| *id == connection);
            report.exercised_if(known && is_empty(now.event));
        }
        (Kind::Exit, _) if is_name(now.event) => {
            answers.retain(|(id, _)| now.history.connection(*id).is_some());
            answers.push((connection, now.event.clone()));
        }
        (Kind::Enter, _) => {
            let mut same = answers.iter().filter(|(id, _)| *id == connection).map(|(_, answer)| answer);
            let earlier = same.find(|answer| answer.layer == now.event.layer)?;
            let expected = format!("L{} is asked once on this connection", now.event.layer);
            report.expect(false, earlier, expected, "it is asked again");
        }
        _ => {}
    }
    Some(())
}

/// No name, no export; a refusal is remembered with the position of the request that it answers.
fn null_refuses(refusals: &mut PerConnection<(Event, u32)>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    match now.event.kind {
        Kind::Exit => {
            now.server_call().filter(|_| !is_name(now.event))?;
            let request = empty(now)?.event.position;
            report.exercised();
            refusals.set(now.connection()?, (now.event.clone(), request))
        }
        Kind::Enter => {
            let (exit, _) = refusals.get(now.server_call()?.connection?)?;
            report.broken(exit, "nothing is opened", "open is called")
        }
        _ => {
            let (exit, _) = refusals.take_where(|_, (_, request)| *request == now.event.call)?;
            given(now.event.result() == 0 && !is_lost(now.event))?;
            report.broken(&exit, "an error for the client", "a success")
        }
    }
}
