//! Answers that do not come.

use layers_trace::{Event, Kind, Operation};

use super::super::connection::survival::{is_lost, is_timed_out};
use super::blamed::Blamed;
use super::reply::is_option;
use crate::history::{Client, End, History, Request};
use crate::rules::check::{Now, Report, Rule, Said, by, given, remembering, unless};
use crate::run::Start;

/// A server that has had nothing to do for so long (in nanoseconds) does not answer any more. No callback of ours sleeps
/// that long, and what a callback does is not the server's time.
const IDLE: u64 = 1_000_000_000;

pub(super) const RULES: &[Rule] = &[Rule {
    id: "wire.answered",
    statement: "Each request and option of a client that stays, and each request that a layer was working on when the client sent NBD_CMD_DISC, has its whole reply once the calls made for it have returned; the server does not end the connection instead, unless it stops or the client has broken the protocol.",
    clause: "NBD protocol, Transmission, Fixed newstyle negotiation, Termination of the session during option haggling, Terminating the transmission phase; nbdkit-plugin(3), .pread … .cache",
    antecedent: "a request or option that is answered, or not answered in time",
    good: "NBD_CMD_READ",
    bad: r#"NBD_CMD_READ { L0.pread wait "5" } = ETIMEDOUT speaker=none"#,
    fix: "send the reply, and with NBD_REPLY_FLAG_DONE in its last chunk",
    check: by!(remembering(Blamed::watches().notes(&[Kind::Reply, Kind::Signal]), Answered::see)
        .and_end(Answered::end)),
    ..Rule::REQUIRED
}];

/// Nobody waits in vain.
#[derive(Default)]
struct Answered {
    blamed: Blamed,
    /// Requests for which a client has got the end of the connection.
    lost: Vec<[Event; 2]>,
    /// Those of them after which the server was told to stop: it had not stopped by itself.
    outlived: Vec<[Event; 2]>,
}

impl Answered {
    /// The server has nothing to do, and this request nothing to wait for.
    fn in_vain(&self, now: &Now<'_>, request: &Request) -> bool {
        let history = now.history;
        let stays = now.client().is_some_and(|client| client.leaving.is_none() && !client.lost);
        let made = request.made.calls().last().and_then(|made| made.exit.as_ref());
        let last = made.map_or(request.event.time, |exit| exit.time.max(request.event.time));
        let idle = history.in_flight().next().is_none() && now.event.time.saturating_sub(last) >= IDLE;
        stays && idle && !self.blamed.stops(history)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        match now.event.kind {
            Kind::Reply => {}
            Kind::Signal => {
                self.outlived.append(&mut self.lost);
                return None;
            }
            _ => return self.blamed.see(now),
        }
        let request = now.request()?;
        given(request.operation.is_data() || is_option(request.operation))?;
        if is_lost(now.event) {
            given(self.is_owed(now, request))?;
            self.lost.push([request.event.clone(), now.event.clone()]);
            return None;
        }
        if !is_timed_out(now.event) {
            return report.exercised();
        }
        given(self.in_vain(now, request))?;
        let made = request.made.calls().last();
        let actual = match made {
            Some(made) => format!("none, though {} of L{} has returned", made.callback, made.layer()),
            None => "none, and no call for it".to_owned(),
        };
        report.broken((request, made.and_then(|made| made.exit.as_ref())), "a whole reply", actual)
    }

    fn end(&mut self, history: &History, report: &mut Report<'_>) -> Said {
        // A server that has crashed is another finding.
        unless(matches!(history.end(), Some(End::Killed(_))))?;
        // That of `-s` ends with its only connection.
        if history.run().is_some_and(|run| run.start == Start::Single) {
            self.outlived.append(&mut self.lost);
        }
        for [request, reply] in &self.outlived {
            let actual = "none: the server has ended the connection";
            report.without_present().broken((request, reply), "a whole reply", actual);
        }
        Some(())
    }
}

/// The client has said goodbye while a layer was working on this request, and waits for what is outstanding with its socket
/// open.
fn is_outstanding(client: &Client, request: &Request, leaving: &Event) -> bool {
    let awaits = |operation| client.awaits(operation).is_some();
    let works = request.made.calls().iter().any(|made| made.enter.position < leaving.position);
    leaving.operation() == Some(Operation::Disconnect)
        && awaits(Operation::Disconnect)
        && !awaits(Operation::Hangup)
        && !awaits(Operation::HalfClose)
        && works
        && !client.is_ambiguous(request)
}

impl Answered {
    /// The end of the connection is no answer to this request.
    fn is_owed(&self, now: &Now<'_>, request: &Request) -> bool {
        let (history, number) = (now.history, now.event.handle);
        let stays = now.client().is_some_and(|client| {
            let leaving = client.leaving.as_ref();
            !client.lost && leaving.is_none_or(|leaving| is_outstanding(client, request, leaving))
        });
        // What cannot be refused ends the connection.
        let refusable = !matches!(request.operation, Operation::ExportName | Operation::StartTls);
        let exits = history.run().is_none_or(|run| !run.never_exits || run.start == Start::Captive);
        stays && refusable && !exits && !self.blamed.explains(history, number, request)
    }
}
