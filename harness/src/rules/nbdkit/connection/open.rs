//! nbdkit-plugin(3) and nbdkit-filter(3), `.open`: when, in which order, and how many at a time.

use layers_trace::Callback::{Close, Open};
use layers_trace::{Event, Field, Kind, Operation};

use super::super::pass_through::passed_through;
use crate::history::{ConnectionId, Handle, History};
use crate::rules::check::{
    Now, Party, PerConnection, Report, Rule, Said, at, by, calls, enters, exits, given, quoted, remembering,
    unless,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "open.after-handshake-choice",
        statement: "Open is called once a client has chosen an export, or asks about one: not because it has connected.",
        clause: "nbdkit-plugin(3), .open",
        antecedent: "an open for a client, and clients that write down what they ask",
        good: r#"NBD_OPT_GO "a" { L0.open }"#,
        bad: "start connect L0.open",
        fix: "call open when the handshake has come to NBD_OPT_INFO, NBD_OPT_GO or NBD_OPT_EXPORT_NAME",
        check: by!(at(enters(&[Open]), after_choice)),
        ..Rule::REQUIRED.since(1, 15, 1)
    },
    Rule {
        id: "open.nested",
        statement: "Open enters the outermost layer and comes inwards by each filter's call of next, one layer at a time.",
        clause: "nbdkit-filter(3), Next config, open and close, and .open",
        antecedent: "an open of an inner layer that is part of a client's",
        good: r#"NBD_OPT_GO "a" { L1.open { L0.open } }"#,
        bad: r#"NBD_OPT_GO "a" { L1.open L0.open }"#,
        fix: "open only the outermost layer, and the layer right below when a filter calls next",
        check: by!(passed_through(calls(&[Open]), at(enters(&[Open]), open_nests))),
        ..Rule::REQUIRED.since(1, 1, 27)
    },
    Rule {
        id: "open.readonly-propagates",
        statement: "An inner open gets the readonly flag and the name that the filter above has passed to next.",
        clause: "nbdkit-filter(3), .open",
        antecedent: "an open below a filter that has no open of its own, so that it passes on what it got",
        good: r#"L1 made_up=open; NBD_OPT_GO "a" { L1.open { L0.open } prepare queries }"#,
        bad: r#"L1 made_up=open; NBD_OPT_GO "a" { L1.open { L0.open "b" } }"#,
        fix: "give the layer below what next was called with",
        check: by!(at(enters(&[Open]), passed_on)),
        ..Rule::REQUIRED.since(1, 21, 20).of(Party::Filter)
    },
    Rule {
        id: "open.cycle-per-option",
        statement: "Each NBD_OPT_INFO has an open and a close of its own, apart from those of any later option.",
        clause: "not spelled out in the manual; nbdkit-filter(3), .prepare, and the server's history (1.15.2)",
        antecedent: "an NBD_OPT_INFO that succeeds, or an NBD_OPT_GO after one",
        good: r#"NBD_OPT_INFO "a" NBD_OPT_GO "a""#,
        bad: r#"NBD_OPT_INFO "a" NBD_OPT_GO "a" {}"#,
        fix: "close what NBD_OPT_INFO opened as soon as it is answered, and open anew for the next option",
        check: by!(remembering(calls(&[Open]).notes(&[Kind::Reply]), cycle_per_option)),
        ..Rule::REQUIRED.since(1, 15, 2)
    },
    Rule {
        id: "open.one-live",
        statement: "Of the handles that the server opens for a connection, a layer never has two at a time.",
        clause: "nbdkit-plugin(3), .open and .close; the server's history (1.15.2)",
        antecedent: "a second open on one connection",
        good: r#"NBD_OPT_INFO "a" NBD_OPT_GO "a""#,
        bad: r#"NBD_OPT_GO "a" { open = NULL open } = EIO NBD_OPT_GO "b" { open }"#,
        fix: "close the handles of an attempt before the next one",
        check: by!(remembering(exits(&[Open]), one_live)),
        ..Rule::REQUIRED.since(1, 15, 2)
    },
];

/// Handles that the server has opened for this connection, and whose close would be in the trace.
pub(super) fn server_handles(history: &History, connection: ConnectionId) -> impl Iterator<Item = &Handle> {
    let mine = history.handles().filter(move |handle| handle.connection == Some(connection));
    mine.filter(|handle| history.is_servers(handle) && history.records(handle.layer, Close))
}

/// How findings put the argument `readonly`.
pub(super) fn readonly(is: bool) -> &'static str {
    if is { "readonly 1" } else { "readonly 0" }
}

/// A client has asked for it.
fn after_choice(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    // In the oldstyle protocol to connect is to choose.
    given(now.history.run().is_some_and(|run| run.client_log && !run.oldstyle))?;
    now.server_call()?;
    let chosen = now.may_serve(|client| client.selecting().next().is_some());
    let expected = "a client waits for the answer to NBD_OPT_INFO, NBD_OPT_GO or NBD_OPT_EXPORT_NAME";
    report.expect(chosen, (), expected, "none does")
}

/// Each layer's open is called from within that of the layer above.
fn open_nests(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let call = now.call?;
    let outer = now.history.outer(call.layer(), Open)?;
    let expected = format!("L{outer}.open calls L{}.open", call.layer());
    if let Some(parent) = now.parent() {
        // Within another callback a filter opens a context of its own.
        given(parent.callback == Open)?;
        let actual = format!("L{}.open does", parent.layer());
        return report.expect(parent.layer() == outer, parent, expected, actual);
    }
    // A thread of a filter's may open, too; the thread of a connection that goes on is the server's.
    let connection = now.history.connection(call.connection?)?;
    given(connection.tid == now.event.tid && connection.id.0 != now.event.position)?;
    given(now.served()?.leaving.is_none())?;
    report.expect(false, (), expected, "the server does")
}

/// A filter without open passes on what it got.
fn passed_on(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let parent = now.parent().filter(|parent| parent.callback == Open)?;
    unless(now.history.layer(parent.layer())?.has(Open))?;
    given(now.history.outer(now.event.layer, Open) == Some(parent.layer()))?;
    report.same(parent, parent.enter.readonly(), now.event.readonly(), readonly);
    // For an empty name the layer below has a default of its own.
    let (passed, got) = (parent.enter.text(Field::Export)?, now.event.text(Field::Export)?);
    unless(passed.bytes.is_empty() || passed.bytes == got.bytes)?;
    report.broken(parent, quoted(&passed.bytes), quoted(&got.bytes))
}

/// What the last successful open of a connection was for.
struct Cycle {
    /// The request of the client.
    request: Event,
    /// The outermost open.
    open: Event,
    /// An NBD_OPT_INFO of this connection has been answered.
    informed: bool,
}

/// Each option has an open of its own.
fn cycle_per_option(cycles: &mut PerConnection<Cycle>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if now.event.kind == Kind::Reply {
        return answered(cycles, now, report);
    }
    let (call, connection) = (now.server_call()?, now.connection()?);
    let request = now.served()?.selects()?;
    let cycle = cycles.get(connection);
    if now.is_exit() {
        given(now.event.result() != 0)?;
        let informed = cycle.is_some_and(|cycle| cycle.informed);
        let (request, open) = (request.event.clone(), call.enter.clone());
        return cycles.renew(now.history, connection, Cycle { request, open, informed });
    }
    let cycle = cycle?;
    if cycle.request.position == request.event.position {
        let expected = "one open for one option";
        return report.expect(false, (&cycle.request, &cycle.open), expected, "another one");
    }
    given(cycle.request.operation() == Some(Operation::Info))?;
    let handle = server_handles(now.history, connection).next()?;
    let actual = format!("handle {} of L{} is open", handle.id, handle.layer);
    report.expect(false, &handle.open, "what NBD_OPT_INFO opened is closed before the next open", actual)
}

fn answered(cycles: &mut PerConnection<Cycle>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let is_info = now.succeeds(Operation::Info);
    given(is_info || now.succeeds(Operation::Go))?;
    let client = now.client().filter(|client| !client.pipelines)?;
    let mut cycle = cycles.get_mut(client.connection?);
    if is_info || cycle.as_ref().is_some_and(|cycle| cycle.informed) {
        let holds = cycle.as_ref().is_some_and(|cycle| cycle.request.position == now.event.call);
        report.expect(holds, (), "an open for this option", "there is none");
    }
    cycle.as_mut()?.informed |= is_info;
    Some(())
}

/// A layer has one handle at a time for a connection; `opened` are those with an open that has succeeded.
fn one_live(opened: &mut PerConnection<()>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let call = now.call.filter(|_| now.event.result() != 0)?;
    let (connection, root) = (call.connection?, now.history.root(call));
    given(root.callback == Open && root.parent.is_none() && now.history.is_for_client(root))?;
    unless(now.history.opens_contexts_above(call.layer()))?;
    if !opened.has(connection) {
        given(root.id() == call.id())?;
        return opened.renew(now.history, connection, ());
    }
    report.exercised();
    let mut others = server_handles(now.history, connection);
    let other = others.find(|handle| handle.layer == call.layer())?;
    let expected = format!("L{} has one handle on this connection", call.layer());
    report.broken(&other.open, expected, format!("handle {} is still open", other.id))
}
