//! The order and the number of cleanups.

use layers_trace::Callback::{AfterFork, Cleanup, Unload};
use layers_trace::Event;

use crate::history::History;
use crate::rules::check::{Now, PerLayer, Report, Said, given};

/// Cleanup visits the outermost layer first, and each returns before the next; `left` is the one that has returned last.
pub(super) fn outer_first(left: &mut Option<Event>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if now.is_exit() {
        *left = Some(now.event.clone());
        return None;
    }
    let outer = now.history.outer(now.event.layer, Cleanup)?;
    let in_order = left.as_ref().is_some_and(|left| left.layer == outer);
    let expected = format!("cleanup of L{outer} has returned before L{} is cleaned up", now.event.layer);
    report.expect(in_order, left.as_ref(), expected, "cleanup starts out of order")
}

/// All cleanups are over when the first unload begins.
pub(super) fn before_unload(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    const EXPECTED: &str = "every cleanup is over before the first unload";
    let unload = now.history.first_enters(Unload).next();
    if now.is(Cleanup) {
        return report.expect(false, unload?, EXPECTED, "a cleanup starts after it");
    }
    given(unload.is_none() && now.history.cleaning().is_some())?;
    let running = now.history.in_flight().find(|call| call.callback == Cleanup);
    report.expect(running.is_none(), running, EXPECTED, "a cleanup is in progress")
}

/// Cleanup is for runs that have come through every after_fork; `forked` are the layers of which it has succeeded.
pub(super) fn after_every_fork(forked: &mut PerLayer<()>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if now.is_exit() {
        given(now.event.result() == 0)?;
        return forked.set(now.event.layer, ());
    }
    report.exercised();
    if now.history.run().is_some_and(|run| !run.start.serves()) {
        report.broken((), "no cleanup: this run serves nobody", "cleanup is called");
    }
    let layer = now.history.recording(AfterFork).find(|layer| !forked.has(*layer))?;
    report.broken((), format!("after_fork of L{layer} has returned 0 earlier"), "it has not")
}

pub(super) fn none_without_fork(_: &mut PerLayer<()>, history: &History, report: &mut Report<'_>) -> Said {
    let never_forked = history.failed_start().is_some() || !history.serves();
    let has_cleanup = history.outermost(Cleanup).is_some();
    given(never_forked && has_cleanup && history.end().is_some())?;
    report.exercised_if(history.cleaning().is_none())
}
