//! Contexts that a handler reserves in the storage area, and those that it allocates itself.

use layers_trace::Callback::IoRelease;
use layers_trace::appctx::{Place, State};
use layers_trace::{Event, Probe};

use super::REQUIRED;
use crate::history::{End, History};
use crate::rules::check::{Now, Party, Report, Rule, Said, at, at_end, by, exits, probed};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "appctx.reserve.returns-storage",
        statement: "applet_reserve_svcctx of a size that fits returns the storage area and points svcctx to it, each time.",
        antecedent: "a keyword that reserves its context (the harness's own do)",
        good: "parse io_handler { Reserve }",
        bad: "parse io_handler { Reserve = 0 }",
        fix: "set svcctx to what is returned",
        check: by!(probed(&[Probe::Reserve], "the storage area is in svcctx")),
        ..REQUIRED
    },
    Rule {
        id: "appctx.reserve.oversize-crashes",
        statement: "A context larger than the storage area stops the server on purpose (in builds with DEBUG_STRICT, as Debian's are).",
        antecedent: "a keyword that reserves one byte too many (the harness's own does)",
        good: "parse enter io_handler ReserveTooMuch killed = 6",
        bad: "parse enter io_handler ReserveTooMuch SIGTERM ends",
        fix: "check the size in applet_reserve_svcctx",
        check: by!(at_end(too_much)),
        ..REQUIRED
    },
    Rule {
        id: "appctx.dynamic.left-alone",
        statement: "A pointer that the handler has stored in svcctx itself is neither changed nor freed by the server, up to and including release.",
        antecedent: "a keyword with memory of its own (the harness's own has)",
        good: "parse io_handler { OwnMemory }",
        bad: "parse io_handler { OwnMemory = 0 }",
        fix: "never free or replace svcctx",
        check: by!(probed(&[Probe::OwnMemory], "the memory is as it was written, and svcctx points at it")),
        ..REQUIRED
    },
    Rule {
        id: "appctx.dynamic.release-tolerates-null",
        statement: "io_release may be called with svcctx NULL, as when the allocation of the context has failed, and copes with that.",
        antecedent: "a command that is released with svcctx NULL",
        good: "parse io_handler = 1 io_release",
        bad: "parse io_handler = 1 enter io_release killed = 11",
        fix: "look whether svcctx is NULL in io_release",
        check: by!(at(exits(&[IoRelease]), tolerates_null).and_end(dies_of_null)),
        ..REQUIRED.of(Party::Handler)
    },
];

fn too_much(history: &History, report: &mut Report<'_>) -> Said {
    let asked = history.asked_too_much()?;
    let sent = |signal: i32| history.signals().iter().any(|sent| sent.a as i32 == signal);
    let died = matches!(history.end(), Some(End::Killed(signal)) if !sent(signal))
        // A master reports the death of its worker by its own exit status.
        || matches!(history.end(), Some(End::Exited(status)) if status >= 128);
    report.expect(died, asked, "the server stops at once", "it goes on")
}

/// This io_release was called with svcctx NULL.
fn has_null(enter: &Event) -> bool {
    let context = State::of(enter).and_then(|state| state.context);
    enter.callback() == Some(IoRelease) && context.is_some_and(|context| context.place == Place::Null)
}

fn tolerates_null(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    report.exercised_if(now.call.is_some_and(|call| has_null(&call.enter)))
}

fn dies_of_null(history: &History, report: &mut Report<'_>) -> Said {
    let killed = matches!(history.end(), Some(End::Killed(_)) | Some(End::Exited(128..)));
    let mut inside = history.in_flight().map(|call| &call.enter);
    let enter = inside.find(|enter| killed && has_null(enter))?;
    report.expect(false, enter, "io_release returns", "the server died in it")
}
