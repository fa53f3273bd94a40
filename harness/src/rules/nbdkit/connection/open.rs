//! nbdkit-plugin(3) and nbdkit-filter(3), `.open`: when, in which order, and how many at a time.

use layers_trace::{Callback, Event, Field, Kind, Operation};

use super::super::pass_through::PassThrough;
use crate::history::{Call, Client, ConnectionId, Handle, History};
use crate::rules::check::all_of::Both;
use crate::rules::check::{Now, Party, Report, Rule, at, by, calls, enters, exits, remembering};
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "open.after-handshake-choice",
        since: Version(1, 15, 1),
        statement: "Open is called once a client has chosen an export, or asks about one: not because it has connected.",
        clause: "nbdkit-plugin(3), .open",
        antecedent: "an open for a client, and clients that write down what they ask",
        good: r#"NBD_OPT_GO "a" { L0.open }"#,
        bad: "start connect L0.open",
        fix: "call open when the handshake has come to NBD_OPT_INFO, NBD_OPT_GO or NBD_OPT_EXPORT_NAME",
        check: by!(at(enters(&[Callback::Open]), after_choice)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "open.nested",
        since: Version(1, 1, 27),
        statement: "Open enters the outermost layer and comes inwards by each filter's call of next, one layer at a time.",
        clause: "nbdkit-filter(3), Next config, open and close, and .open",
        antecedent: "an open of an inner layer that is part of a client's",
        good: r#"NBD_OPT_GO "a" { L1.open { L0.open } }"#,
        bad: r#"NBD_OPT_GO "a" { L1.open L0.open }"#,
        fix: "open only the outermost layer, and the layer right below when a filter calls next",
        check: by!(Both::new(
            at(enters(&[Callback::Open]), open_nests),
            PassThrough(|callback| callback == Callback::Open)
        )),
        ..Rule::REQUIRED
    },
    Rule {
        id: "open.readonly-propagates",
        party: Party::Filter,
        since: Version(1, 21, 20),
        statement: "An inner open gets the readonly flag and the name that the filter above has passed to next.",
        clause: "nbdkit-filter(3), .open",
        antecedent: "an open below a filter that has no open of its own, so that it passes on what it got",
        good: r#"L1 made_up=open; NBD_OPT_GO "a" { L1.open { L0.open } prepare queries }"#,
        bad: r#"L1 made_up=open; NBD_OPT_GO "a" { L1.open { L0.open "b" } }"#,
        fix: "give the layer below what next was called with",
        check: by!(at(enters(&[Callback::Open]), passed_on)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "open.cycle-per-option",
        since: Version(1, 15, 2),
        statement: "Each NBD_OPT_INFO has an open and a close of its own, apart from those of any later option.",
        clause: "not spelled out in the manual; nbdkit-filter(3), .prepare, and the server's history (1.15.2)",
        antecedent: "an NBD_OPT_INFO that succeeds, or an NBD_OPT_GO after one",
        good: r#"NBD_OPT_INFO "a" NBD_OPT_GO "a""#,
        bad: r#"NBD_OPT_INFO "a" NBD_OPT_GO "a" {}"#,
        fix: "close what NBD_OPT_INFO opened as soon as it is answered, and open anew for the next option",
        check: by!(remembering(calls(&[Callback::Open]).notes(Kind::Reply), CyclePerOption::see)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "open.one-live",
        since: Version(1, 15, 2),
        statement: "Of the handles that the server opens for a connection, a layer never has two at a time.",
        clause: "nbdkit-plugin(3), .open and .close; the server's history (1.15.2)",
        antecedent: "a second open on one connection",
        good: r#"NBD_OPT_INFO "a" NBD_OPT_GO "a""#,
        bad: r#"NBD_OPT_GO "a" { open = NULL open } = EIO NBD_OPT_GO "b" { open }"#,
        fix: "close the handles of an attempt before the next one",
        check: by!(remembering(exits(&[Callback::Open]), one_live)),
        ..Rule::REQUIRED
    },
];

/// Handles that the server has opened for this connection, and whose close would be in the trace.
pub(super) fn server_handles(
    history: &History,
    connection: Option<ConnectionId>,
) -> impl Iterator<Item = &Handle> {
    history.handles().filter(move |handle| {
        connection.is_some()
            && handle.connection == connection
            && !handle.manual
            && history.records(handle.layer, Callback::Close)
            && !history
                .layers()
                .iter()
                .any(|above| above.number > handle.layer && history.opens_contexts(above.number))
    })
}

/// The outermost open, made by the server for a client.
fn is_servers(history: &History, call: &Call) -> bool {
    call.callback == Callback::Open && call.parent.is_none() && history.is_for_client(call)
}

/// The client waits for the answer to something that opens an export.
fn has_chosen(client: &Client) -> bool {
    client.selecting().next().is_some()
}

/// A client has asked for it.
fn after_choice(now: &Now<'_>, report: &mut Report<'_>) {
    // In the oldstyle protocol to connect is to choose.
    let chooses = now.history.run().is_some_and(|run| run.client_log && !run.oldstyle);
    let Some(call) = now.call.filter(|call| chooses && is_servers(now.history, call)) else { return };
    report.exercised();
    let chosen = match call.connection.and_then(|id| now.history.client_of(id)) {
        Some(client) => has_chosen(client),
        None => now.history.clients().any(has_chosen),
    };
    if !chosen {
        let expected = "a client waits for the answer to NBD_OPT_INFO, NBD_OPT_GO or NBD_OPT_EXPORT_NAME";
        report.broken([now.event], expected, "none does");
    }
}

/// Each layer's open is called from within that of the layer above.
fn open_nests(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(call) = now.call else { return };
    let Some(outer) = now.history.outer(call.layer(), Callback::Open) else { return };
    let expected = || format!("L{outer}.open calls L{}.open", call.layer());
    match now.parent() {
        Some(parent) if parent.callback == Callback::Open => {
            report.exercised();
            if parent.layer() != outer {
                let actual = format!("L{}.open does", parent.layer());
                report.broken([&parent.enter, now.event], expected(), actual);
            }
        }
        // Within another callback a filter opens a context of its own.
        Some(_) => {}
        None => {
            // A thread of a filter's may open, too; the thread of a connection that goes on is the server's.
            let connection = call.connection.and_then(|id| now.history.connection(id));
            let going_on = connection.filter(|it| it.tid == now.event.tid && it.id.0 != now.event.position);
            let client = going_on.and_then(|connection| now.history.client_of(connection.id));
            if client.is_some_and(|client| client.leaving.is_none()) {
                report.expect(false, [now.event], expected(), "the server does");
            }
        }
    }
}

/// A filter without open passes on what it got.
fn passed_on(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(parent) = now.parent().filter(|parent| parent.callback == Callback::Open) else { return };
    let above = now.history.layer(parent.layer());
    let has_open = above.is_none_or(|layer| layer.has(Callback::Open));
    if has_open || now.history.outer(now.event.layer, Callback::Open) != Some(parent.layer()) {
        return;
    }
    report.exercised();
    let (passed, got) = (&parent.enter, now.event);
    if passed.readonly() != got.readonly() {
        let said = |readonly: bool| if readonly { "readonly 1" } else { "readonly 0" };
        report.broken([passed, got], said(passed.readonly()), said(got.readonly()));
    }
    // For an empty name the layer below has a default of its own.
    let names = passed.text(Field::Export).zip(got.text(Field::Export));
    if let Some((passed_name, got_name)) = names
        && !passed_name.bytes.is_empty()
        && passed_name.bytes != got_name.bytes
    {
        let show = |bytes: &[u8]| format!("{:?}", String::from_utf8_lossy(bytes));
        report.broken([passed, got], show(&passed_name.bytes), show(&got_name.bytes));
    }
}

/// What the last successful open of a connection was for.
struct Cycle {
    connection: ConnectionId,
    /// The request of the client.
    request: Event,
    /// The outermost open.
    open: Event,
    /// An NBD_OPT_INFO of this connection has been answered.
    informed: bool,
}

/// Each option has an open of its own.
#[derive(Default)]
struct CyclePerOption {
    cycles: Vec<Cycle>,
}

impl CyclePerOption {
    fn entered(&self, now: &Now<'_>, call: &Call, report: &mut Report<'_>) {
        let Some(client) = call.connection.and_then(|id| now.history.client_of(id)) else { return };
        let Some(request) = client.selects() else { return };
        let Some(cycle) = self.cycles.iter().find(|cycle| Some(cycle.connection) == call.connection) else {
            return;
        };
        if cycle.request.position == request.event.position {
            let expected = "one open for one option";
            report.expect(false, [&cycle.request, &cycle.open, now.event], expected, "another one");
        } else if cycle.request.operation() == Some(Operation::Info)
            && let Some(handle) = server_handles(now.history, call.connection).next()
        {
            let actual = format!("handle {} of L{} is open", handle.id, handle.layer);
            let expected = "what NBD_OPT_INFO opened is closed before the next open";
            report.expect(false, [&handle.open, now.event], expected, actual);
        }
    }

    fn opened(&mut self, now: &Now<'_>, call: &Call) {
        let Some(client) = call.connection.and_then(|id| now.history.client_of(id)) else { return };
        let (Some(request), Some(connection)) = (client.selects(), client.connection) else { return };
        let informed = self.cycles.iter().any(|cycle| cycle.connection == connection && cycle.informed);
        let (request, open) = (request.event.clone(), call.enter.clone());
        self.cycles.retain(|cycle| {
            cycle.connection != connection && now.history.connection(cycle.connection).is_some()
        });
        self.cycles.push(Cycle { connection, request, open, informed });
    }

    fn answered(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let is_info = now.event.operation() == Some(Operation::Info);
        let is_choice = is_info || now.event.operation() == Some(Operation::Go);
        if !is_choice || now.event.result() != 0 {
            return;
        }
        let client = now.history.client(now.event.handle).filter(|client| !client.pipelines);
        let Some(connection) = client.and_then(|client| client.connection) else { return };
        let cycle = self.cycles.iter_mut().find(|cycle| cycle.connection == connection);
        if is_info || cycle.as_ref().is_some_and(|cycle| cycle.informed) {
            report.exercised();
            if cycle.as_ref().is_none_or(|cycle| cycle.request.position != now.event.call) {
                report.broken([now.event], "an open for this option", "there is none");
            }
        }
        if let Some(cycle) = cycle {
            cycle.informed |= is_info;
        }
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        match now.call.filter(|call| is_servers(now.history, call)) {
            Some(call) if now.is_enter() => self.entered(now, call, report),
            Some(call) if now.event.result() != 0 => self.opened(now, call),
            Some(_) => {}
            None if now.event.kind == Kind::Reply => self.answered(now, report),
            None => {}
        }
    }
}

/// A layer has one handle at a time for a connection.
fn one_live(opened: &mut Vec<ConnectionId>, now: &Now<'_>, report: &mut Report<'_>) {
    let Some(call) = now.call.filter(|_| now.event.result() != 0) else { return };
    let Some(connection) = call.connection else { return };
    let root = now.history.root(call);
    if !is_servers(now.history, root)
        || now
            .history
            .layers()
            .iter()
            .any(|l| l.number > call.layer() && now.history.opens_contexts(l.number))
    {
        return;
    }
    if opened.contains(&connection) {
        report.exercised();
        let mut others = server_handles(now.history, Some(connection));
        if let Some(other) = others.find(|handle| handle.layer == call.layer()) {
            report.broken(
                [&other.open, now.event],
                format!("L{} has one handle on this connection", call.layer()),
                format!("handle {} is still open", other.id),
            );
        }
    }
    if root.id() == call.id() && !opened.contains(&connection) {
        opened.retain(|id| now.history.connection(*id).is_some());
        opened.push(connection);
    }
}
