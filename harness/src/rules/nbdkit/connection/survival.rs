//! A failure of the layers' that a client is told of, and after which it goes on with the same connection.
//!
//! A connection is lost with certainty only when the server was not on its way out: a harness that still sends the
//! signal to stop says so. Until then a loss is a suspicion.

use layers_trace::{Callback, Event, Kind, Operation};

use super::negotiates;
use crate::history::ConnectionId;
use crate::protocol::is_gone;
use crate::rules::check::{Check, Now, Report, Watch, exits};

/// What a rule of this shape speaks of.
#[derive(Clone, Copy)]
pub(super) struct Failure {
    /// The exits to look at.
    pub exits: &'static [Callback],
    /// This exit is the failure.
    pub is: fn(&Now<'_>) -> bool,
    /// This exit, of `exits` too, is one after which the server may well drop the connection.
    pub ends: fn(&Now<'_>) -> bool,
    /// The client must not be told of a success.
    pub is_told: bool,
}

/// Judges whether the connection outlives the failure.
pub(super) struct Survives {
    failure: Failure,
    cases: Vec<Case>,
    suspicions: Vec<[Event; 2]>,
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

impl Survives {
    pub(super) fn new(failure: Failure) -> Survives {
        Survives { failure, cases: Vec::new(), suspicions: Vec::new() }
    }

    fn failed(&mut self, now: &Now<'_>) {
        let Some(connection) = now.call.and_then(|call| call.connection) else { return };
        if (self.failure.ends)(now) {
            self.cases.retain(|case| case.connection != connection);
            return;
        }
        let client = now.history.client_of(connection).filter(|client| !client.pipelines);
        let Some(client) = client else { return };
        let request = client.waiting.iter().find(|request| is_option(request.operation));
        let known = self.cases.iter().any(|case| case.connection == connection && !case.told);
        if let Some(request) = request.filter(|_| !known && (self.failure.is)(now)) {
            self.cases.retain(|case| case.client != client.number);
            self.cases.push(Case {
                client: client.number,
                connection,
                failure: now.event.clone(),
                request: Some(request.event.position),
                told: false,
                alive: false,
            });
        }
    }

    fn asked(&mut self, event: &Event) {
        let Some(operation) = event.operation() else { return };
        if !is_option(operation) {
            self.cases.retain(|case| case.client != event.handle);
        } else if let Some(case) = self.cases.iter_mut().find(|case| case.client == event.handle) {
            (case.request, case.alive) = (Some(event.position), false);
        }
    }

    fn answered(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let event = now.event;
        let mine = |case: &Case| case.client == event.handle && case.request == Some(event.call);
        let Some(index) = self.cases.iter().position(mine) else { return };
        let mut case = self.cases.swap_remove(index);
        if is_lost(event) {
            if !case.alive && now.history.signals().is_empty() {
                self.suspicions.push([case.failure, event.clone()]);
            }
            return;
        }
        if case.told {
            return;
        }
        if event.result() == 0 {
            if self.failure.is_told {
                let expected = "the client is told of the failure";
                report.expect(false, [&case.failure, event], expected, "a success");
            }
            return;
        }
        report.exercised();
        (case.told, case.request) = (true, None);
        self.cases.push(case);
    }
}

/// The client is told of the end of the connection, instead of an answer.
pub(in crate::rules) fn is_lost(reply: &Event) -> bool {
    reply.result() < 0 && is_gone(reply.errno().cast_signed())
}

fn is_option(operation: Operation) -> bool {
    matches!(operation, Operation::List | Operation::Info | Operation::Go)
}

impl Check for Survives {
    fn watches(&self) -> Watch {
        exits(self.failure.exits)
            .enters_where(negotiates)
            .notes(Kind::Request)
            .notes(Kind::Reply)
            .notes(Kind::Signal)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        match now.event.kind {
            Kind::Exit => self.failed(now),
            Kind::Enter => {
                let connection = now.call.and_then(|call| call.connection);
                for case in self.cases.iter_mut().filter(|case| case.told) {
                    case.alive |= connection == Some(case.connection);
                }
            }
            Kind::Request => self.asked(now.event),
            Kind::Reply => self.answered(now, report),
            _ => {
                for [failure, reply] in std::mem::take(&mut self.suspicions) {
                    let expected = "the connection goes on, and the next request is answered";
                    report.expect(
                        false,
                        [&failure, &reply],
                        expected,
                        "the server has dropped the connection",
                    );
                }
            }
        }
    }
}
