//! Contexts that a handler reserves in the storage area, and those that it allocates itself.

use layers_trace::appctx::Place;
use layers_trace::{Callback, Event, Kind, Probe};

use super::{APPCTX, SVCCTX, Seen};
use crate::history::{End, History};
use crate::rules::check::{Check, Now, Party, Report, Rule, Watch, at_end, by, calls, notes, remembering};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "appctx.reserve.returns-storage",
        since: SVCCTX,
        statement: "applet_reserve_svcctx of a size that fits returns the storage area and points svcctx to it, each time.",
        clause: APPCTX,
        antecedent: "a keyword that reserves its context (the harness's own do)",
        good: "parse io_handler { Reserve }",
        bad: "parse io_handler { Reserve = 0 }",
        fix: "set svcctx to what is returned",
        check: by!(Probed { probe: Probe::Reserve, expected: "the storage area in svcctx" }),
        ..Rule::REQUIRED
    },
    Rule {
        id: "appctx.reserve.oversize-crashes",
        since: SVCCTX,
        statement: "A context larger than the storage area stops the server on purpose (in builds with DEBUG_STRICT, as Debian's are).",
        clause: APPCTX,
        antecedent: "a keyword that reserves one byte too many (the harness's own does)",
        good: "parse enter io_handler ReserveTooMuch killed = 6",
        bad: "parse enter io_handler ReserveTooMuch SIGTERM ends",
        fix: "check the size in applet_reserve_svcctx",
        check: by!(at_end(too_much)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "appctx.dynamic.left-alone",
        since: SVCCTX,
        statement: "A pointer that the handler has stored in svcctx itself is neither changed nor freed by the server, up to and including release.",
        clause: APPCTX,
        antecedent: "a keyword with memory of its own (the harness's own has)",
        good: "parse io_handler { OwnMemory }",
        bad: "parse io_handler { OwnMemory = 0 }",
        fix: "never free or replace svcctx",
        check: by!(Probed {
            probe: Probe::OwnMemory,
            expected: "the memory as it was written, and svcctx pointing at it",
        }),
        ..Rule::REQUIRED
    },
    Rule {
        id: "appctx.dynamic.release-tolerates-null",
        party: Party::Handler,
        since: SVCCTX,
        statement: "io_release may be called with svcctx NULL, as when the allocation of the context has failed, and copes with that.",
        clause: APPCTX,
        antecedent: "a command that is released with svcctx NULL",
        good: "parse io_handler = 1 io_release",
        bad: "parse io_handler = 1 enter io_release killed = 11",
        fix: "look whether svcctx is NULL in io_release",
        check: by!(remembering(calls(&[Callback::IoRelease]), tolerates_null).and_end(tolerates_null_at_end)),
        ..Rule::REQUIRED
    },
];

/// The instrument has looked, and says what it found.
pub(super) struct Probed {
    pub(super) probe: Probe,
    pub(super) expected: &'static str,
}

impl Check for Probed {
    fn watches(&self) -> Watch {
        notes(Kind::Probe)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if now.event.probe() == Some(self.probe) {
            report.expect(now.event.a == 1, [now.event], self.expected, "something else");
        }
    }
}

fn too_much(history: &History, report: &mut Report<'_>) {
    let Some(asked) = history.asked_too_much() else { return };
    let sent = |signal: i32| history.signals().iter().any(|sent| sent.a as i32 == signal);
    let died = matches!(history.end(), Some(End::Killed(signal)) if !sent(signal))
        // A master reports the death of its worker by its own exit status.
        || matches!(history.end(), Some(End::Exited(status)) if status >= 128);
    let events = [asked].into_iter().chain(history.end_event());
    report.expect(died, events, "the server stops at once", "it goes on");
}

fn tolerates_null(inside: &mut Option<Event>, now: &Now<'_>, report: &mut Report<'_>) {
    let Some(context) = Seen::of(now).and_then(|seen| seen.context()) else { return };
    if now.is_enter() && context.place == Place::Null {
        *inside = Some(now.event.clone());
    } else if let (true, Some(_)) = (now.is_exit(), inside.take_if(|enter| enter.position == now.event.call))
    {
        report.exercised();
    }
}

fn tolerates_null_at_end(inside: &mut Option<Event>, history: &History, report: &mut Report<'_>) {
    let killed = matches!(history.end(), Some(End::Killed(_)) | Some(End::Exited(128..)));
    if let Some(enter) = inside.as_ref().filter(|_| killed) {
        let events = [enter].into_iter().chain(history.end_event());
        report.expect(false, events, "io_release returns", "the server died in it");
    }
}
