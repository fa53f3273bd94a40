//! `nbdkit_backend *` and `nbdkit_next *`, which filters are given.

use layers_trace::{Below, Callback, Event, Kind};

use super::super::probe_result::context_still_answers;
use crate::history::{Handle, History};
use crate::rules::check::per_layer::PerLayer;
use crate::rules::check::{Now, Party, Report, Rule, at, by, enters, enters_where, remembering};

/// The rules of this topic.
pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "ptr.backend.stable",
        statement: "A filter sees one and the same backend from after_fork to cleanup, its contexts' backend included.",
        clause: "nbdkit-filter(3), nbdkit_next and nbdkit_context_get_backend",
        antecedent: "a filter that is given a backend twice",
        good: "start connect { L1.preconnect { L0.preconnect } }",
        bad: "start connect { L1.preconnect backend=7 }",
        fix: "give a filter the same nbdkit_backend pointer in all its callbacks",
        check: by!(remembering(
            {
                const GIVEN: &[Callback] = &[
                    Callback::AfterFork,
                    Callback::Preconnect,
                    Callback::ListExports,
                    Callback::DefaultExport,
                    Callback::Open,
                    Callback::Cleanup,
                ];
                enters(GIVEN).notes(Kind::Probe)
            },
            backend_is_stable
        )),
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
        check: by!(at(enters_where(given_next).notes(Kind::Ask), null_when_skipped)),
        ..Rule::REQUIRED.since(1, 25, 4).of(Party::Filter)
    },
];

/// The backend that a filter's callback is given; 0 where the instrument could not ask for it.
fn backend(event: &Event) -> u64 {
    if event.callback() == Some(Callback::Open) { event.b } else { event.context }
}

/// A filter is given one backend.
fn backend_is_stable(seen: &mut PerLayer<Event>, now: &Now<'_>, report: &mut Report<'_>) {
    let layer = now.event.layer;
    if now.event.kind == Kind::Probe {
        context_still_answers(now, report, "nbdkit_context_get_backend gives in close what it gave in open");
        return;
    }
    let given = backend(now.event);
    if layer == 0 || (given == 0 && now.event.callback() == Some(Callback::Open)) {
        return;
    }
    match seen.get(layer) {
        None => seen.set(layer, now.event.clone()),
        Some(first) => {
            report.exercised();
            if backend(first) != given {
                report.broken(
                    [first, now.event],
                    format!("L{layer} gets the same backend in every callback"),
                    if given == 0 { "NULL" } else { "another one" },
                );
            }
        }
    }
}

/// All callbacks of a filter that are given both a handle and a next.
fn given_next(callback: Callback) -> bool {
    callback.has_handle() && callback != Callback::Close
}

/// A handle's next does not change.
fn next_is_stable(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(handle) = now.handle else { return };
    let Some(next) = handle.next.filter(|_| handle.layer == now.event.layer) else { return };
    if !now.history.keeps_next(handle.layer) {
        return;
    }
    report.exercised();
    if now.event.context != next {
        report.broken(
            [&handle.open, now.event],
            format!("L{} gets the same next for handle {} every time", handle.layer, handle.id),
            if now.event.context == 0 { "NULL" } else { "another one" },
        );
    }
}

/// What a filter did not open it is not given.
fn null_when_skipped(now: &Now<'_>, report: &mut Report<'_>) {
    if now.event.kind == Kind::Ask {
        let call = now.during().map(|call| &call.enter);
        if let (Some(Below::Next(operation)), 0) = (now.event.below(), now.event.context) {
            let actual = format!("L{} calls next->{operation}", now.event.layer);
            report.broken(call.into_iter().chain([now.event]), "NULL is not used as next", actual);
        }
        return;
    }
    // Only the first next of a handle is of interest, and that of one that has had none.
    let Some(handle) = now.handle.filter(|handle| handle.next.is_none()) else { return };
    if handle.layer != now.event.layer || !opened_nothing(now.history, handle) {
        return;
    }
    report.exercised();
    if now.event.context != 0 {
        let expected = format!("NULL for next: L{} has opened nothing below", handle.layer);
        report.broken([&handle.open, now.event], expected, "a pointer");
    }
}

/// It can be told that this filter's `open` has opened nothing, and that nothing else could be below it.
fn opened_nothing(history: &History, handle: &Handle) -> bool {
    let below = handle.layer.checked_sub(1);
    below.is_some_and(|below| history.records(below, Callback::Open))
        && !history.opens_contexts(handle.layer)
        && !history.handles().any(|other| other.chain == handle.chain && other.layer < handle.layer)
}
