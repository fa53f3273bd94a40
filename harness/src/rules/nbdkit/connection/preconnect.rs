//! nbdkit-plugin(3), `.preconnect`: the first that a layer hears of a client.

use layers_trace::{Callback, Event, Kind, Operation};

use super::super::pass_through::PassThrough;
use super::nesting;
use crate::history::ConnectionId;
use crate::rules::check::all_of::Both;
use crate::rules::check::{Check, Now, Report, Rule, Watch, at, by, enters, exits, remembering};
use crate::run::Start;
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "conn.preconnect.first-nested",
        since: Version(1, 17, 1),
        statement: "A connection starts with one preconnect from the outermost layer inwards; the greeting comes after.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .preconnect",
        antecedent: "a connection, and a layer with preconnect",
        good: "connect { L1.preconnect { L0.preconnect } }",
        bad: "connect {}",
        fix: "call preconnect on the outermost layer once for each accepted connection, before sending a byte",
        check: by!(Both::new(
            PreconnectFirst::default(),
            PassThrough(|callback| callback == Callback::Preconnect),
        )),
        ..Rule::REQUIRED
    },
    Rule {
        id: "conn.preconnect.readonly",
        since: Version(1, 17, 1),
        statement: "The outermost preconnect, list_exports, default_export and open are told whether the server has -r.",
        clause: "nbdkit-plugin(3), .preconnect, .list_exports, .default_export and .open",
        antecedent: "one of these callbacks at the outermost layer, and a run that says how it was started",
        good: "run readonly=1; connect { L0.preconnect readonly=1 }",
        bad: "run readonly=1; connect { L0.preconnect readonly=0 }",
        fix: "pass the setting of the command line to the outermost layer",
        check: by!(at(
            {
                const TOLD: &[Callback] =
                    &[Callback::Preconnect, Callback::ListExports, Callback::DefaultExport, Callback::Open];
                enters(TOLD)
            },
            readonly_as_started
        )),
        ..Rule::REQUIRED
    },
    Rule {
        id: "conn.preconnect.deny",
        since: Version(1, 17, 1),
        statement: "A connection that preconnect refuses is dropped: it gets no greeting, no callback, and no close.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .preconnect",
        antecedent: "an outermost preconnect that returns -1",
        good: "connect { L0.preconnect = -1 } = ENOTCONN",
        bad: "connect { L0.preconnect = -1 } = 0",
        fix: "close the socket as soon as preconnect fails",
        check: by!(remembering(
            exits(&[Callback::Preconnect]).enters_where(Callback::is_connected).notes(Kind::Reply),
            DeniedIsDropped::see
        )),
        ..Rule::REQUIRED
    },
];

/// Preconnect comes first, once, inwards, and before the greeting.
#[derive(Default)]
struct PreconnectFirst {
    /// Clients that have connected, and traversals of preconnect.
    connects: u64,
    traversals: u64,
}

impl PreconnectFirst {
    /// One of the server's; there are no more of them than clients that have connected.
    fn traverse(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        report.exercised();
        self.traversals += 1;
        let logged = now.history.run().is_some_and(|run| run.client_log && run.start != Start::Single);
        if logged && self.traversals > self.connects {
            report.broken(
                [now.event],
                "one preconnect for each connection",
                "more of them than clients have connected",
            );
        }
    }

    /// A call that the server makes, on a connection that has had no preconnect.
    fn first(now: &Now<'_>, report: &mut Report<'_>) {
        let (Some(call), Some(outermost)) = (now.call, now.history.outermost(Callback::Preconnect)) else {
            return;
        };
        let begins = call.connection == Some(ConnectionId(now.event.position));
        if begins && now.history.is_for_client(call) && now.history.is_complete() {
            let expected = format!("L{outermost}.preconnect comes first");
            report.expect(false, [now.event], expected, format!("{} does", call.callback));
        }
    }

    /// The client has read the greeting.
    fn greeted(now: &Now<'_>, report: &mut Report<'_>) {
        if now.event.operation() != Some(Operation::Connect) || now.event.result() != 0 {
            return;
        }
        let Some(outermost) = now.history.outermost(Callback::Preconnect) else { return };
        let Some(client) = now.history.client(now.event.handle) else { return };
        let expected = format!("no greeting before L{outermost}.preconnect has returned");
        if let Some(connection) = client.connection.and_then(|id| now.history.connection(id)) {
            report.exercised();
            let running = now.history.call(connection.tid, connection.first.position);
            if let Some(running) = running.filter(|call| call.callback == Callback::Preconnect) {
                report.broken([&running.enter, now.event], expected, "the client has it");
            }
        } else if now.history.has_no_connection(client.number) {
            report.expect(false, [now.event], expected, "the client has it, and there was no preconnect");
        }
    }
}

impl Check for PreconnectFirst {
    fn watches(&self) -> Watch {
        const FIRST: &[Callback] =
            &[Callback::Preconnect, Callback::ListExports, Callback::DefaultExport, Callback::Open];
        enters(FIRST).notes(Kind::Request).notes(Kind::Reply)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        match now.event.callback() {
            None if now.event.kind == Kind::Request => {
                self.connects += u64::from(now.event.operation() == Some(Operation::Connect));
            }
            None => PreconnectFirst::greeted(now, report),
            Some(Callback::Preconnect) => {
                nesting::inwards(now, report);
                if now.call.is_some_and(|call| call.parent.is_none()) {
                    self.traverse(now, report);
                }
            }
            Some(_) => PreconnectFirst::first(now, report),
        }
    }
}

/// The outermost layer gets the server's `-r`.
fn readonly_as_started(now: &Now<'_>, report: &mut Report<'_>) {
    let (Some(run), Some(call)) = (now.history.run(), now.call) else { return };
    // A layer that is not registered may stand outside, and pass on something else.
    if call.parent.is_some() || !now.history.is_for_client(call) || !now.history.is_complete() {
        return;
    }
    report.exercised();
    if now.event.readonly() != run.readonly {
        let said = |readonly: bool| if readonly { "readonly 1" } else { "readonly 0" };
        report.broken([now.event], said(run.readonly), said(now.event.readonly()));
    }
}

/// Nothing is heard of a connection that was refused.
#[derive(Default)]
struct DeniedIsDropped {
    denied: Vec<(ConnectionId, Event)>,
}

impl DeniedIsDropped {
    fn denial(&self, connection: Option<ConnectionId>) -> Option<&Event> {
        let connection = connection?;
        self.denied.iter().find(|(denied, _)| *denied == connection).map(|(_, event)| event)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if now.is_exit() {
            let Some(call) = now.call.filter(|call| call.parent.is_none()) else { return };
            if let Some(connection) = call.connection.filter(|_| now.event.result() < 0) {
                report.exercised();
                self.denied.retain(|(id, _)| now.history.connection(*id).is_some());
                self.denied.push((connection, now.event.clone()));
            }
            return;
        }
        if self.denied.is_empty() {
            return;
        }
        if let Some(call) = now.call {
            if let Some(denial) = self.denial(call.connection) {
                report.broken(
                    [denial, now.event],
                    "no callback for a connection that was refused",
                    format!("L{}.{}", call.layer(), call.callback),
                );
            }
        } else if now.event.operation() == Some(Operation::Connect) && now.event.result() == 0 {
            let client = now.history.client(now.event.handle);
            if let Some(denial) = self.denial(client.and_then(|client| client.connection)) {
                report.broken([denial, now.event], "no greeting for a client that was refused", "it has one");
            }
        }
    }
}
