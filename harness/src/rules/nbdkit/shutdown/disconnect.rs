//! nbdkit_disconnect: the end of one connection.

use layers_trace::{Event, Kind, Probe};

use super::super::connection::survival::is_lost;
use super::{callback_of, request_of};
use crate::history::{ConnectionId, End, History};
use crate::rules::check::{Now, Report, Watch, notes};

/// A connection that a layer has ended.
pub(super) struct Ended {
    connection: ConnectionId,
    probe: Event,
    /// The call that did it, and whether that has returned: from then on the server knows.
    by: u32,
    known: Option<Event>,
    /// Requests whose calls were running: their positions, and the calls.
    running: Vec<(u32, Event)>,
}

impl Ended {
    /// A layer calls nbdkit_disconnect with this `force`, and the server has such a function.
    fn of(now: &Now<'_>, force: bool) -> Option<Ended> {
        let is = now.event.probe() == Some(Probe::Disconnect) && now.event.a == 1;
        if !is || (now.event.b != 0) != force {
            return None;
        }
        let thread = now.history.thread(now.event.tid)?;
        let by = thread.stack().first()?;
        let connection = by.connection?;
        let calls = now.history.in_flight().filter(|call| call.connection == Some(connection));
        let running = calls.filter_map(|call| {
            request_of(now, call).map(|(_, request)| (request.event.position, call.enter.clone()))
        });
        let running = running.collect();
        Some(Ended { connection, probe: now.event.clone(), by: by.id(), known: None, running })
    }
}

pub(super) const WATCHED: Watch = notes(Kind::Probe).notes(Kind::Reply).notes(Kind::Request);

/// What is running is finished and answered; no more is begun.
#[derive(Default)]
pub(super) struct Soft {
    ended: Vec<Ended>,
}

impl Soft {
    fn answered(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        for ended in &mut self.ended {
            let Some(index) = ended.running.iter().position(|(request, _)| *request == now.event.call) else {
                continue;
            };
            let (_, call) = ended.running.swap_remove(index);
            report.exercised();
            if is_lost(now.event) {
                report.broken(
                    [&call, &ended.probe, now.event],
                    "a request that is running at nbdkit_disconnect(0) is answered",
                    "its client has lost the connection",
                );
            }
        }
    }

    fn begun(&self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(call) = now.call else { return };
        let Some(ended) = self.ended.iter().find(|ended| Some(ended.connection) == call.connection) else {
            return;
        };
        let Some((known, (_, request))) = ended.known.as_ref().zip(request_of(now, call)) else { return };
        if request.event.position > known.position {
            report.broken(
                [&ended.probe, &request.event, now.event],
                "a request that comes after nbdkit_disconnect(0) leads to no callback",
                format!("{} of L{} is called", call.callback, call.layer()),
            );
        }
    }

    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        match now.event.kind {
            Kind::Probe => self.ended.extend(Ended::of(now, false)),
            Kind::Reply => self.answered(now, report),
            Kind::Enter => self.begun(now, report),
            Kind::Request => {
                let client = now.history.client(now.event.handle).and_then(|client| client.connection);
                let known = |ended: &&Ended| ended.known.is_some() && Some(ended.connection) == client;
                let data = now.event.operation().and_then(callback_of).is_some();
                if data && self.ended.iter().any(|ended| known(&ended)) {
                    report.exercised();
                }
            }
            Kind::Exit => {
                for ended in self.ended.iter_mut().filter(|ended| ended.by == now.event.call) {
                    ended.known = Some(now.event.clone());
                }
            }
            _ => {}
        }
    }
}

/// Nothing is answered any more; what is running returns.
pub(super) fn hard(ended: &mut Vec<Ended>, now: &Now<'_>, report: &mut Report<'_>) {
    match now.event.kind {
        Kind::Probe => ended.extend(Ended::of(now, true)),
        Kind::Reply => {
            for ended in ended {
                let place = ended.running.iter().position(|(request, _)| *request == now.event.call);
                let Some(index) = place else { continue };
                let (_, call) = ended.running.swap_remove(index);
                report.exercised();
                // A client that has given up tells nothing.
                let late = now.event.errno() == libc::ETIMEDOUT.cast_unsigned();
                let lost = is_lost(now.event) || now.event.result() < 0 && late;
                if !lost {
                    report.broken(
                        [&call, &ended.probe, now.event],
                        "a request that is running at nbdkit_disconnect(1) gets no answer",
                        "it is answered",
                    );
                }
            }
        }
        _ => {}
    }
}

#[expect(clippy::ptr_arg, reason = "it is what the check remembers")]
pub(super) fn hard_at_end(ended: &mut Vec<Ended>, history: &History, report: &mut Report<'_>) {
    if !matches!(history.end(), Some(End::Exited(_))) {
        return;
    }
    for call in history.in_flight().filter(|call| call.callback.is_data() && call.parent.is_none()) {
        let ended = ended.iter().find(|ended| Some(ended.connection) == call.connection);
        if let Some(ended) = ended {
            report.broken(
                [&call.enter, &ended.probe].into_iter().chain(history.end_event()),
                "a callback that is running at nbdkit_disconnect(1) returns",
                "it never does",
            );
        }
    }
}
