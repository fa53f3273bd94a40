//! nbdkit-plugin(3), "SHUTDOWN" and "SLEEPING": what is running when the server is told to stop, and what comes then.

use layers_trace::{Callback, Event, Kind, Operation, Probe};

use super::super::connection::survival::{is_lost, is_timed_out};
use super::request::request_of;
use crate::history::{Call, History, callback_of};
use crate::rules::check::{
    Now, Report, Rule, Said, by, enters_where, exits_where, given, notes, remembering, unless,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "quit.finish-running",
        statement: "A signal or nbdkit_shutdown interrupts no request that a layer works on: the callback returns, and the client is answered.",
        clause: "nbdkit-plugin(3), SHUTDOWN",
        antecedent: "a signal or nbdkit_shutdown while a request is running whose client waits for the answer",
        good: "send NBD_CMD_READ enter L0.pread SIGTERM exit L0.pread reply NBD_CMD_READ L0.close cleanup unload ends",
        bad: "L0 without=close,cleanup,unload; send NBD_CMD_READ enter L0.pread SIGTERM ends",
        fix: "wait for all requests before ending",
        check: by!(remembering(
            exits_where(Callback::is_data).notes(&[Kind::Signal, Kind::Probe, Kind::Request, Kind::Reply]),
            FinishRunning::see
        )
        .and_end(FinishRunning::end)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "quit.no-new-data",
        statement: "A request that is sent once the server is known to be stopping leads to no callback.",
        clause: "not in the manual, which says that further callbacks may occur",
        antecedent: "a request sent after nbdkit_shutdown, or after the server has refused one because it stops",
        good: r#"NBD_OPT_GO "a" c2: connect c2: NBD_OPT_GO "a" NBD_CMD_READ { L0.pread { Shutdown } } c2: NBD_CMD_READ {} = ESHUTDOWN"#,
        bad: r#"NBD_OPT_GO "a" c2: connect c2: NBD_OPT_GO "a" NBD_CMD_READ { L0.pread { Shutdown } } c2: send NBD_CMD_READ c2: L0.pread"#,
        fix: "none needed; a layer that depends on it should refuse requests itself after nbdkit_shutdown",
        check: by!(remembering(
            enters_where(Callback::is_data).exits_where(|_| true).notes(&[
                Kind::Probe,
                Kind::Request,
                Kind::Reply
            ]),
            NoNewData::see
        )),
        ..Rule::OBSERVED.since(1, 1, 0)
    },
    Rule {
        id: "quit.may-still-negotiate",
        statement: "A client that negotiates while the server is told to stop may still be served: open, prepare, queries and finalize can follow.",
        clause: "nbdkit-plugin(3), SHUTDOWN (further callbacks may occur)",
        antecedent: "a signal during negotiation",
        fix: "expect callbacks up to cleanup",
        ..Rule::UNSPECIFIED
    },
    Rule {
        id: "quit.waits-for-idle-client",
        statement: "Whether a server that is told to stop waits for a client that stays connected and idle is not said.",
        clause: "nbdkit-plugin(3), SHUTDOWN, which does not say",
        antecedent: "a signal while a client is connected and idle",
        fix: "disconnect clients before or after the signal",
        ..Rule::UNSPECIFIED.since(1, 15, 7)
    },
    Rule {
        id: "quit.nanosleep",
        statement: "nbdkit_nanosleep sleeps for as long as it was asked to, and ends early, with an error, when the server is told to stop.",
        clause: "nbdkit-plugin(3), SLEEPING",
        antecedent: "a reference layer that sleeps with nbdkit_nanosleep",
        good: "NBD_CMD_READ { L0.pread { Nanosleep = 1 b=1000 context=1000 } }",
        bad: r#"send NBD_CMD_READ enter L0.pread SIGTERM wait "10" Nanosleep = 1 b=10000000000 context=10000000000"#,
        fix: "wake sleepers when the server is told to stop",
        check: by!(remembering(notes(&[Kind::Probe, Kind::Signal]), nanosleep)),
        ..Rule::REQUIRED.since(1, 13, 9)
    },
];

/// SIGHUP, SIGINT, SIGQUIT and SIGTERM (nbdkit(1), "SIGNALS").
const STOPPING: &[u64] = &[1, 2, 3, 15];

/// The server is told to stop: by a signal or by a layer.
fn tells_to_stop(event: &Event) -> bool {
    match event.kind {
        Kind::Signal => STOPPING.contains(&event.a),
        _ => event.probe() == Some(Probe::Shutdown),
    }
}

/// A client that waits for a request which is running.
struct Owed {
    request: u32,
    call: Event,
    stop: Event,
    returned: bool,
}

/// It is finished, and answered.
#[derive(Default)]
struct FinishRunning {
    told: bool,
    owed: Vec<Owed>,
}

impl FinishRunning {
    fn stops(&mut self, now: &Now<'_>) -> Said {
        unless(std::mem::replace(&mut self.told, true))?;
        let owed = |call: &Call| {
            let (client, request) = request_of(now, call)?;
            given(client.leaving.is_none())?;
            let (request, call, stop) = (request.event.position, call.enter.clone(), now.event.clone());
            Some(Owed { request, call, stop, returned: false })
        };
        self.owed.extend(now.history.in_flight().filter_map(owed));
        Some(())
    }

    fn answered(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let index = self.owed.iter().position(|owed| owed.request == now.event.call)?;
        let owed = self.owed.swap_remove(index);
        // The client has given up; it may be about to be answered.
        unless(is_timed_out(now.event))?;
        let expected = "a request that was running when the server was told to stop is answered";
        let actual = "its client has lost the connection";
        report.expect(!is_lost(now.event), (&owed.call, &owed.stop), expected, actual)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        match now.event.kind {
            Kind::Signal | Kind::Probe if tells_to_stop(now.event) => self.stops(now),
            Kind::Reply => self.answered(now, report),
            Kind::Request => {
                // Who leaves waits for nothing.
                given(now.is_about(Operation::Hangup) || now.is_about(Operation::Disconnect))?;
                let client = now.client()?;
                self.owed.retain(|owed| owed.returned || client.waits_for(owed.request).is_none());
                Some(())
            }
            Kind::Exit => {
                self.owed.iter_mut().find(|owed| owed.call.position == now.event.call)?.returned = true;
                Some(())
            }
            _ => None,
        }
    }

    fn end(&mut self, history: &History, report: &mut Report<'_>) -> Said {
        given(history.has_exited())?;
        for owed in self.owed.iter().filter(|owed| !owed.returned) {
            let expected = "a callback that was running when the server was told to stop returns";
            report.broken((&owed.call, &owed.stop), expected, "it never does");
        }
        Some(())
    }
}

/// They are refused.
#[derive(Default)]
struct NoNewData {
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
    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        match now.event.kind {
            Kind::Probe if now.event.probe() == Some(Probe::Shutdown) && self.asked.is_none() => {
                self.asked = now.during().map(|call| call.id());
                Some(())
            }
            Kind::Exit | Kind::Reply => {
                // nbdkit_disconnect leads to the same answer, on one connection.
                let refuses = refuses(now.event) && !now.history.signals().is_empty();
                let tells = if now.is_exit() { self.asked == Some(now.event.call) } else { refuses };
                given(tells)?;
                self.known.get_or_insert_with(|| now.event.clone());
                Some(())
            }
            Kind::Request => {
                let is_data = now.event.operation().and_then(callback_of).is_some();
                report.exercised_if(self.known.is_some() && is_data)
            }
            Kind::Enter => {
                let (known, call) = (self.known.as_ref()?, now.call?);
                let (_, request) = request_of(now, call)?;
                given(request.event.position > known.position)?;
                let expected = "a request that is sent when the server is stopping leads to no callback";
                let actual = format!("{} of L{} is called", call.callback, call.layer());
                report.broken((known, request), expected, actual)
            }
            _ => None,
        }
    }
}

/// A server that was told to stop may take this long to wake a sleeper, nanoseconds: a busy machine is no fault of its.
const PATIENCE: u64 = 2_000_000_000;

/// nbdkit_nanosleep sleeps as long as it should; `told` is what has told the server to stop.
fn nanosleep(told: &mut Option<Event>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if tells_to_stop(now.event) {
        told.get_or_insert_with(|| now.event.clone());
        return None;
    }
    given(now.event.probe() == Some(Probe::Nanosleep))?;
    let (whole, asked, slept) = (now.event.a == 1, now.event.b, now.event.context);
    let begun = now.event.time.saturating_sub(slept);
    let call = now.during();
    report.exercised();
    if whole && slept < asked {
        let expected = format!("nbdkit_nanosleep sleeps for {asked} ns when it returns 0");
        report.broken(call, expected, format!("for {slept} ns"));
    }
    let told = told.as_ref()?;
    let due = told.time.max(begun).saturating_add(PATIENCE);
    given(due < begun.saturating_add(asked) && (whole || due < now.event.time))?;
    let expected = "nbdkit_nanosleep ends early, with an error, when the server is told to stop";
    let actual = if whole { "it sleeps to the end" } else { "it goes on sleeping" };
    report.broken((call, told), expected, actual)
}
