//! `nbdkit_next *`.

use layers_trace::{Below, Callback, Kind};

use crate::history::{Handle, History};
use crate::rules::check::{Now, Report};

/// All callbacks of a filter that are given both a handle and a next.
pub(super) fn given_next(callback: Callback) -> bool {
    callback.has_handle() && callback != Callback::Close
}

/// A handle's next does not change.
pub(super) fn next_is_stable(now: &Now<'_>, report: &mut Report<'_>) {
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
pub(super) fn null_when_skipped(now: &Now<'_>, report: &mut Report<'_>) {
    if now.event.kind == Kind::Ask {
        let current = now.history.thread(now.event.tid).and_then(|thread| thread.current());
        let call = current.map(|call| &call.enter);
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
