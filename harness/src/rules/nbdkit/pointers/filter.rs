//! `nbdkit_backend *` and `nbdkit_next *`, which filters are given.

use layers_trace::Callback::{self, AfterFork, Cleanup, Close, DefaultExport, ListExports, Open, Preconnect};
use layers_trace::{Below, Event, Kind};

use super::handle::context_still_answers;
use crate::history::{Handle, History};
use crate::rules::check::{
    Now, Party, PerLayer, Report, Rule, Said, at, by, enters, enters_where, given, remembering, unless,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "ptr.backend.stable",
        statement: "A filter sees one and the same backend from after_fork to cleanup, its contexts' backend included.",
        clause: "nbdkit-filter(3), nbdkit_next and nbdkit_context_get_backend",
        antecedent: "a filter that is given a backend twice",
        good: "start connect { L1.preconnect { L0.preconnect } }",
        bad: "start connect { L1.preconnect backend=7 }",
        fix: "give a filter the same nbdkit_backend pointer in all its callbacks",
        check: by!(remembering(enters(GIVEN).notes(&[Kind::Probe]), backend_is_stable)),
        ..Rule::REQUIRED.since(1, 25, 8)
    },
    Rule {
        id: "ptr.backend.config-unrelated",
        statement: "What config and config_complete get as nxdata need not be the backend of later callbacks.",
        clause: "nbdkit-filter(3), Next config, open and close",
        antecedent: "a filter with config and after_fork",
        fix: "pass nxdata to next and use it for nothing else",
        ..Rule::UNSPECIFIED.since(1, 25, 4)
    },
    Rule {
        id: "ptr.next.stable",
        statement: "A filter that leaves its context alone gets the same next in all callbacks of a handle.",
        clause: "nbdkit-filter(3), nbdkit_next",
        antecedent: "a handle of a filter that opens no contexts of its own, called a second time",
        good: "NBD_CMD_READ { L1.pread { L0.pread } }",
        bad: "NBD_CMD_READ { L1.pread next=7 }",
        fix: "keep one next for each context, from prepare to finalize",
        check: by!(at(enters_where(given_next), next_is_stable)),
        ..Rule::REQUIRED.since(1, 17, 8)
    },
    Rule {
        id: "ptr.next.null-when-skipped",
        // What the server gives is seen in every trace, what a filter does with it only where it writes that down.
        statement: "A filter that has opened nothing below gets NULL as next, and does not use it.",
        clause: "nbdkit-filter(3), nbdkit_context_set_next and Other considerations",
        antecedent: "a filter whose open does not call next, or in which next failed, and whose handle is used",
        good: r#"NBD_OPT_GO "a" { L1.open L1.prepare }"#,
        bad: r#"NBD_OPT_GO "a" { L1.open L1.prepare next=7 }"#,
        fix: "pass NULL until a context is associated",
        check: by!(at(enters_where(given_next).notes(&[Kind::Ask]), null_when_skipped)),
        ..Rule::REQUIRED.since(1, 25, 4).of(Party::Filter)
    },
];

/// Callbacks in which a filter is given its backend.
const GIVEN: &[Callback] = &[AfterFork, Preconnect, ListExports, DefaultExport, Open, Cleanup];

/// The backend that a filter's callback is given; 0 where the instrument could not ask for it.
fn backend(event: &Event) -> u64 {
    if event.callback() == Some(Open) { event.b } else { event.context }
}

/// A filter is given one backend.
fn backend_is_stable(seen: &mut PerLayer<Event>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let layer = now.event.layer;
    if now.event.kind == Kind::Probe {
        let expected = "nbdkit_context_get_backend gives in close what it gave in open";
        return context_still_answers(now, report, expected);
    }
    let got = backend(now.event);
    unless(layer == 0 || (got == 0 && now.is(Open)))?;
    let Some(first) = seen.get(layer) else { return seen.set(layer, now.event.clone()) };
    report.exercised();
    given(backend(first) != got)?;
    let expected = format!("L{layer} gets the same backend in every callback");
    report.broken(first, expected, if got == 0 { "NULL" } else { "another one" })
}

/// All callbacks of a filter that are given both a handle and a next.
fn given_next(callback: Callback) -> bool {
    callback.has_handle() && callback != Close
}

/// A handle's next does not change.
fn next_is_stable(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let handle = now.own_handle()?;
    let next = handle.next.filter(|_| now.history.keeps_next(handle.layer))?;
    report.exercised();
    given(now.event.context != next)?;
    let expected = format!("L{} gets the same next for handle {} every time", handle.layer, handle.id);
    report.broken(&handle.open, expected, if now.event.context == 0 { "NULL" } else { "another one" })
}

/// What a filter did not open it is not given.
fn null_when_skipped(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if now.event.kind == Kind::Ask {
        let Some(Below::Next(operation)) = now.event.below() else { return None };
        given(now.event.context == 0)?;
        let actual = format!("L{} calls next->{operation}", now.event.layer);
        return report.broken(now.during(), "NULL is not used as next", actual);
    }
    // Only the first next of a handle is of interest, and that of one that has had none.
    let handle = now.own_handle().filter(|handle| handle.next.is_none())?;
    given(opened_nothing(now.history, handle))?;
    report.exercised();
    given(now.event.context != 0)?;
    let expected = format!("NULL for next: L{} has opened nothing below", handle.layer);
    report.broken(&handle.open, expected, "a pointer")
}

/// It can be told that this filter's `open` has opened nothing, and that nothing else could be below it.
fn opened_nothing(history: &History, handle: &Handle) -> bool {
    let below = handle.layer.checked_sub(1);
    below.is_some_and(|below| history.records(below, Open))
        && !history.opens_contexts(handle.layer)
        && !history.handles().any(|other| other.chain == handle.chain && other.layer < handle.layer)
}
