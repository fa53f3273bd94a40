//! nbdkit-plugin(3), `.preconnect`: the first that a layer hears of a client.

use layers_trace::Callback::{self, DefaultExport, ListExports, Open, Preconnect};
use layers_trace::{Event, Kind, Operation};

use super::super::order::inwards;
use super::super::pass_through::passed_through;
use super::open::readonly;
use crate::history::ConnectionId;
use crate::rules::check::{
    Now, PerConnection, Report, Rule, Said, at, by, calls, enters, exits, given, remembering,
};
use crate::run::Start;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "conn.preconnect.first-nested",
        statement: "A connection starts with one preconnect from the outermost layer inwards; the greeting comes after.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .preconnect",
        antecedent: "a connection, and a layer with preconnect",
        good: "connect { L1.preconnect { L0.preconnect } }",
        bad: "connect {}",
        fix: "call preconnect on the outermost layer once for each accepted connection, before sending a byte",
        check: by!(passed_through(
            calls(&[Preconnect]),
            remembering(enters(FIRST).notes(&[Kind::Request, Kind::Reply]), PreconnectFirst::see)
        )),
        ..Rule::REQUIRED.since(1, 17, 1)
    },
    Rule {
        id: "conn.preconnect.readonly",
        statement: "The outermost preconnect, list_exports, default_export and open are told whether the server has -r.",
        clause: "nbdkit-plugin(3), .preconnect, .list_exports, .default_export and .open",
        antecedent: "one of these callbacks at the outermost layer, and a run that says how it was started",
        good: "run readonly=1; connect { L0.preconnect readonly=1 }",
        bad: "run readonly=1; connect { L0.preconnect readonly=0 }",
        fix: "pass the setting of the command line to the outermost layer",
        check: by!(at(enters(&[Preconnect, ListExports, DefaultExport, Open]), readonly_as_started)),
        ..Rule::REQUIRED.since(1, 17, 1)
    },
    Rule {
        id: "conn.preconnect.deny",
        statement: "A connection that preconnect refuses is dropped: it gets no greeting, no callback, and no close.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .preconnect",
        antecedent: "an outermost preconnect that returns -1",
        good: "connect { L0.preconnect = -1 } = ENOTCONN",
        bad: "connect { L0.preconnect = -1 } = 0",
        fix: "close the socket as soon as preconnect fails",
        check: by!(remembering(
            exits(&[Preconnect]).enters_where(Callback::is_connected).notes(&[Kind::Reply]),
            denied_is_dropped
        )
        .minding_data_if(|denied, _| !denied.is_empty())),
        ..Rule::REQUIRED.since(1, 17, 1)
    },
];

/// Preconnect comes first, once, inwards, and before the greeting.
#[derive(Default)]
struct PreconnectFirst {
    /// Clients that have connected, and traversals of preconnect.
    connects: u64,
    traversals: u64,
}

const FIRST: &[Callback] = &[Preconnect, ListExports, DefaultExport, Open];

impl PreconnectFirst {
    /// One of the server's; there are no more of them than clients that have connected.
    fn traverse(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        self.traversals += 1;
        let logged = now.history.run().is_some_and(|run| run.client_log && run.start != Start::Single);
        let holds = !logged || self.traversals <= self.connects;
        let expected = "one preconnect for each connection";
        report.expect(holds, (), expected, "more of them than clients have connected")
    }

    /// A call that the server makes, on a connection that has had no preconnect.
    fn first(now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let (call, outermost) = (now.call?, now.history.outermost(Preconnect)?);
        let begins = call.connection == Some(ConnectionId(now.event.position));
        given(begins && now.history.is_for_client(call) && now.history.is_complete())?;
        let expected = format!("L{outermost}.preconnect comes first");
        report.expect(false, (), expected, format_args!("{} does", call.callback))
    }

    /// The client has read the greeting.
    fn greeted(now: &Now<'_>, report: &mut Report<'_>) -> Said {
        given(now.succeeds(Operation::Connect))?;
        let (outermost, client) = (now.history.outermost(Preconnect)?, now.client()?);
        let expected = format!("no greeting before L{outermost}.preconnect has returned");
        if let Some(connection) = client.connection.and_then(|id| now.history.connection(id)) {
            let first = now.history.call(connection.tid, connection.first.position);
            let running = first.filter(|call| call.callback == Preconnect);
            return report.expect(running.is_none(), running, expected, "the client has it");
        }
        given(now.history.has_no_connection(client.number))?;
        report.expect(false, (), expected, "the client has it, and there was no preconnect")
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        match now.event.callback() {
            None if now.event.kind == Kind::Request => {
                self.connects += u64::from(now.is_about(Operation::Connect));
                None
            }
            None => PreconnectFirst::greeted(now, report),
            Some(Preconnect) => {
                inwards(now, report);
                now.root()?;
                self.traverse(now, report)
            }
            Some(_) => PreconnectFirst::first(now, report),
        }
    }
}

/// The outermost layer gets the server's `-r`.
fn readonly_as_started(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    // A layer that is not registered may stand outside, and pass on something else.
    now.server_call().filter(|_| now.history.is_complete())?;
    report.same((), now.history.run()?.readonly, now.event.readonly(), readonly)
}

/// Nothing is heard of a connection that was refused.
fn denied_is_dropped(denied: &mut PerConnection<Event>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if now.is_exit() {
        let connection = now.root().filter(|_| now.event.result() < 0)?.connection?;
        report.exercised();
        return denied.renew(now.history, connection, now.event.clone());
    }
    if let Some(call) = now.call {
        let denial = denied.get(call.connection?)?;
        let expected = "no callback for a connection that was refused";
        return report.broken(denial, expected, format_args!("L{}.{}", call.layer(), call.callback));
    }
    let denial = denied.get(now.connection().filter(|_| now.succeeds(Operation::Connect))?)?;
    report.broken(denial, "no greeting for a client that was refused", "it has one")
}
