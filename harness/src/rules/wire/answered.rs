//! Answers that do not come.

use layers_trace::{Kind as EventKind, Probe};

use super::super::{Check, Checker, Kind, Now, Party, Report, Rule, Watch};
use super::is_option;
use crate::history::Request;
use crate::version::Version;

/// A server that has had nothing to do for so long (in nanoseconds) does not answer any more. No callback of ours sleeps
/// that long, and what a callback does is not the server's time.
const IDLE: u64 = 1_000_000_000;

/// The rules of this topic.
pub(super) const RULES: &[Rule] = &[Rule {
    id: "wire.answered",
    kind: Kind::Required,
    party: Party::Server,
    since: Version(1, 0, 0),
    statement: "Each request and option of a client that stays has its whole reply once the calls made for it have returned.",
    clause: "NBD protocol, Transmission, Fixed newstyle negotiation; nbdkit-plugin(3), .pread … .cache",
    antecedent: "a request or option that is answered, or not answered in time",
    example: "NBD_CMD_READ, L0.pread = 0, and no reply before the client gives up",
    fix: "send the reply, and with NBD_REPLY_FLAG_DONE in its last chunk",
    check: Checker::Trace(|| Box::new(Answered::default())),
}];

/// Nobody waits in vain.
#[derive(Default)]
struct Answered {
    /// A layer has told the server to stop, or to end a connection.
    ends: bool,
}

impl Answered {
    /// The server has nothing to do, and this request nothing to wait for.
    fn in_vain(&self, now: &Now<'_>, request: &Request) -> bool {
        let history = now.history;
        let client = history.client(now.event.handle);
        let stays = client.is_some_and(|client| client.leaving.is_none() && !client.lost);
        let made = request.made.calls().last().and_then(|made| made.exit.as_ref());
        let last = made.map_or(request.event.time, |exit| exit.time.max(request.event.time));
        let idle = history.in_flight().next().is_none() && now.event.time.saturating_sub(last) >= IDLE;
        stays && idle && !self.ends && history.signals().is_empty() && history.end().is_none()
    }
}

impl Check for Answered {
    fn watches(&self) -> Watch {
        Watch::NONE.notes(EventKind::Reply).notes(EventKind::Probe)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if now.event.kind == EventKind::Probe {
            self.ends |= matches!(now.event.probe(), Some(Probe::Shutdown | Probe::Disconnect));
            return;
        }
        let request =
            now.history.client(now.event.handle).and_then(|client| client.waits_for(now.event.call));
        let Some(request) = request else { return };
        if !request.operation.is_data() && !is_option(request.operation) {
            return;
        }
        if now.event.errno() != libc::ETIMEDOUT.cast_unsigned() {
            if !super::is_silent(now.event) {
                report.exercised();
            }
        } else if self.in_vain(now, request) {
            let made = request.made.calls().last();
            let actual = made.map_or("none, and no call for it".to_owned(), |made| {
                format!("none, though {} of L{} has returned", made.callback, made.layer())
            });
            let exit = made.and_then(|made| made.exit.as_ref());
            let events = [Some(&request.event), exit, Some(now.event)].into_iter().flatten();
            report.broken(events, "a whole reply", actual);
        }
    }
}
