//! Requests that come when the server is stopping.

use layers_trace::{Event, Kind, Probe};

use super::{callback_of, request_of};
use crate::rules::check::{Now, Report};

/// They are refused.
#[derive(Default)]
pub(super) struct NoNewData {
    /// What showed that the server stops: its refusal of a request, or a layer's nbdkit_shutdown.
    known: Option<Event>,
    /// The call in which a layer asks for that.
    asked: Option<u32>,
}

/// The answer to a request that comes too late.
fn refuses(reply: &Event) -> bool {
    reply.result() < 0 && reply.errno() == libc::ESHUTDOWN.cast_unsigned()
}

impl NoNewData {
    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        match now.event.kind {
            Kind::Probe if now.event.probe() == Some(Probe::Shutdown) && self.asked.is_none() => {
                let thread = now.history.thread(now.event.tid);
                self.asked = thread.and_then(|thread| thread.current()).map(|call| call.id());
            }
            Kind::Exit if self.asked == Some(now.event.call) => {
                self.known = self.known.take().or_else(|| Some(now.event.clone()));
            }
            // nbdkit_disconnect leads to the same answer, on one connection.
            Kind::Reply if refuses(now.event) && !now.history.signals().is_empty() => {
                self.known = self.known.take().or_else(|| Some(now.event.clone()));
            }
            Kind::Request
                if self.known.is_some() && now.event.operation().and_then(callback_of).is_some() =>
            {
                report.exercised();
            }
            Kind::Enter => {
                let (Some(known), Some(call)) = (&self.known, now.call) else { return };
                if let Some((_, request)) = request_of(now, call)
                    && request.event.position > known.position
                {
                    report.broken(
                        [known, &request.event, now.event],
                        "a request that is sent when the server is stopping leads to no callback",
                        format!("{} of L{} is called", call.callback, call.layer()),
                    );
                }
            }
            _ => {}
        }
    }
}
