//! A failure of the layers' that a client is told of, and after which it goes on with the same connection.
//!
//! A connection is lost with certainty only when the server was not on its way out: a harness that still sends the
//! signal to stop says so. Until then a loss is a suspicion.

use layers_trace::{Callback, Event, Kind, Operation};

use super::negotiates;
use crate::history::ConnectionId;
use crate::protocol::is_gone;
use crate::rules::check::{Check, Now, Report, Said, exits_where, given, remembering, unless};

/// What a rule of this shape speaks of.
#[derive(Clone, Copy)]
pub(super) struct Failure {
    /// The exits to look at.
    pub exits: fn(Callback) -> bool,
    /// This exit is the failure.
    pub is: fn(&Now<'_>) -> bool,
    /// This exit, of `exits` too, is one after which the server may well drop the connection.
    pub ends: fn(&Now<'_>) -> bool,
    /// The client must not be told of a success.
    pub is_told: bool,
}

/// What is remembered of failures, and of connections that were lost after them.
#[derive(Default)]
struct Cases {
    cases: Vec<Case>,
    suspicions: Vec<[Event; 2]>,
}

/// Judges whether the connection outlives the failure.
pub(super) fn survives(failure: Failure) -> impl Check {
    let watch = exits_where(failure.exits).enters_where(negotiates);
    let watch = watch.notes(&[Kind::Request, Kind::Reply, Kind::Signal]);
    remembering(watch, move |cases: &mut Cases, now: &Now<'_>, report: &mut Report<'_>| {
        match now.event.kind {
            Kind::Exit => cases.failed(failure, now),
            Kind::Enter => cases.called(now),
            Kind::Request => cases.asked(now.event),
            Kind::Reply => cases.answered(failure, now, report),
            _ => cases.stopped(report),
        }
    })
}

/// A failure, up to the answer to the client's next request.
struct Case {
    client: u32,
    connection: ConnectionId,
    failure: Event,
    /// Position of the request whose answer comes next.
    request: Option<u32>,
    /// The client knows of the failure.
    told: bool,
    /// A callback of this connection has come since the request.
    alive: bool,
}

impl Cases {
    fn failed(&mut self, failure: Failure, now: &Now<'_>) -> Said {
        let connection = now.connection()?;
        if (failure.ends)(now) {
            self.cases.retain(|case| case.connection != connection);
            return None;
        }
        let client = now.history.client_of(connection).filter(|client| !client.pipelines)?;
        let request = client.waiting.iter().find(|request| is_option(request.operation));
        let known = self.cases.iter().any(|case| case.connection == connection && !case.told);
        let request = request.filter(|_| !known && (failure.is)(now))?;
        self.cases.retain(|case| case.client != client.number);
        let (client, failure, request) = (client.number, now.event.clone(), Some(request.event.position));
        self.cases.push(Case { client, connection, failure, request, told: false, alive: false });
        Some(())
    }

    fn asked(&mut self, event: &Event) -> Said {
        if is_option(event.operation()?) {
            let case = self.cases.iter_mut().find(|case| case.client == event.handle)?;
            (case.request, case.alive) = (Some(event.position), false);
        } else {
            self.cases.retain(|case| case.client != event.handle);
        }
        Some(())
    }

    fn called(&mut self, now: &Now<'_>) -> Said {
        let connection = now.connection()?;
        let told = self.cases.iter_mut().filter(|case| case.told && case.connection == connection);
        told.for_each(|case| case.alive = true);
        Some(())
    }

    fn answered(&mut self, failure: Failure, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let event = now.event;
        let mine = |case: &Case| case.client == event.handle && case.request == Some(event.call);
        let index = self.cases.iter().position(mine)?;
        let mut case = self.cases.swap_remove(index);
        if is_lost(event) {
            if !case.alive && now.history.signals().is_empty() {
                self.suspicions.push([case.failure, event.clone()]);
            }
            return None;
        }
        unless(case.told)?;
        if event.result() == 0 {
            given(failure.is_told)?;
            return report.expect(false, &case.failure, "the client is told of the failure", "a success");
        }
        (case.told, case.request) = (true, None);
        self.cases.push(case);
        report.exercised()
    }

    /// The server is told to stop, and was not on its way out before.
    fn stopped(&mut self, report: &mut Report<'_>) -> Said {
        for [failure, reply] in std::mem::take(&mut self.suspicions) {
            let expected = "the connection goes on, and the next request is answered";
            let actual = "the server has dropped the connection";
            report.without_present().expect(false, (&failure, &reply), expected, actual);
        }
        Some(())
    }
}

/// The client is told of the end of the connection, instead of an answer.
pub(in crate::rules) fn is_lost(reply: &Event) -> bool {
    reply.result() < 0 && is_gone(reply.errno().cast_signed())
}

/// The client has waited for an answer in vain.
pub(in crate::rules) fn is_timed_out(reply: &Event) -> bool {
    reply.errno() == libc::ETIMEDOUT.cast_unsigned()
}

fn is_option(operation: Operation) -> bool {
    matches!(operation, Operation::List | Operation::Info | Operation::Go)
}
