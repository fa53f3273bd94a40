//! nbdkit_nanosleep.

use layers_trace::{Event, Kind, Probe};

use super::tells_to_stop;
use crate::rules::check::{Check, Now, Report, Watch, notes};

/// A server that was told to stop may take this long to wake a sleeper, nanoseconds: a busy machine is no fault of its.
const PATIENCE: u64 = 2_000_000_000;

/// It sleeps as long as it should.
#[derive(Default)]
pub(super) struct Nanosleep {
    told: Option<Event>,
}

impl Check for Nanosleep {
    fn watches(&self) -> Watch {
        notes(Kind::Probe).notes(Kind::Signal)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if tells_to_stop(now.event) {
            self.told = self.told.take().or_else(|| Some(now.event.clone()));
            return;
        }
        if now.event.probe() != Some(Probe::Nanosleep) {
            return;
        }
        let (whole, asked, slept) = (now.event.a == 1, now.event.b, now.event.context);
        let begun = now.event.time.saturating_sub(slept);
        let during = now.history.thread(now.event.tid).and_then(|thread| thread.current());
        let call = during.map(|call| &call.enter);
        report.exercised();
        if whole && slept < asked {
            let expected = format!("nbdkit_nanosleep sleeps for {asked} ns when it returns 0");
            report.broken(call.into_iter().chain([now.event]), expected, format!("for {slept} ns"));
        }
        let Some(told) = &self.told else { return };
        let due = told.time.max(begun).saturating_add(PATIENCE);
        if due < begun.saturating_add(asked) && (whole || due < now.event.time) {
            report.broken(
                call.into_iter().chain([told, now.event]),
                "nbdkit_nanosleep ends early, with an error, when the server is told to stop",
                if whole { "it sleeps to the end" } else { "it goes on sleeping" },
            );
        }
    }
}
