//! What is running when the server is told to stop.

use layers_trace::{Event, Kind};

use super::super::connection::survival::is_lost;
use super::{request_of, tells_to_stop};
use crate::history::{End, History};
use crate::rules::check::{Now, Report};

/// A client that waits for a request which is running.
struct Owed {
    request: u32,
    call: Event,
    stop: Event,
    returned: bool,
}

/// It is finished, and answered.
#[derive(Default)]
pub(super) struct FinishRunning {
    told: bool,
    owed: Vec<Owed>,
}

impl FinishRunning {
    fn stops(&mut self, now: &Now<'_>) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        for call in now.history.in_flight() {
            if let Some((client, request)) = request_of(now, call)
                && client.leaving.is_none()
            {
                let (request, call, stop) = (request.event.position, call.enter.clone(), now.event.clone());
                self.owed.push(Owed { request, call, stop, returned: false });
            }
        }
    }

    fn answered(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(index) = self.owed.iter().position(|owed| owed.request == now.event.call) else { return };
        let owed = self.owed.swap_remove(index);
        // The client has given up; it may be about to be answered.
        if now.event.errno() == libc::ETIMEDOUT.cast_unsigned() {
            return;
        }
        report.exercised();
        if is_lost(now.event) {
            report.broken(
                [&owed.call, &owed.stop, now.event],
                "a request that was running when the server was told to stop is answered",
                "its client has lost the connection",
            );
        }
    }

    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        match now.event.kind {
            Kind::Signal | Kind::Probe if tells_to_stop(now.event) => self.stops(now),
            Kind::Reply => self.answered(now, report),
            Kind::Request => {
                // Who leaves waits for nothing.
                let leaves = matches!(
                    now.event.operation(),
                    Some(layers_trace::Operation::Hangup | layers_trace::Operation::Disconnect)
                );
                if leaves && let Some(client) = now.history.client(now.event.handle) {
                    let waits = |position: u32| {
                        client.waiting.iter().any(|request| request.event.position == position)
                    };
                    self.owed.retain(|owed| owed.returned || !waits(owed.request));
                }
            }
            Kind::Exit => {
                if let Some(owed) = self.owed.iter_mut().find(|owed| owed.call.position == now.event.call) {
                    owed.returned = true;
                }
            }
            _ => {}
        }
    }

    pub(super) fn end(&mut self, history: &History, report: &mut Report<'_>) {
        if !matches!(history.end(), Some(End::Exited(_))) {
            return;
        }
        for owed in self.owed.iter().filter(|owed| !owed.returned) {
            report.broken(
                [&owed.call, &owed.stop].into_iter().chain(history.end_event()),
                "a callback that was running when the server was told to stop returns",
                "it never does",
            );
        }
    }
}
