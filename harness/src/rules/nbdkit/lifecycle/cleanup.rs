//! The order and the number of cleanups.

use layers_trace::{Callback, Event};

use crate::history::History;
use crate::rules::check::per_layer::PerLayer;
use crate::rules::check::{Now, Report};

/// Cleanup visits the outermost layer first, and each returns before the next.
pub(super) fn cleanup_outer_to_inner(left: &mut Option<Event>, now: &Now<'_>, report: &mut Report<'_>) {
    if now.is_exit() {
        *left = Some(now.event.clone());
        return;
    }
    let Some(outer) = now.history.outer(now.event.layer, Callback::Cleanup) else { return };
    let in_order = left.as_ref().is_some_and(|left| left.layer == outer);
    report.expect(
        in_order,
        left.iter().chain([now.event]),
        format!("cleanup of L{outer} has returned before L{} is cleaned up", now.event.layer),
        "cleanup starts out of order",
    );
}

/// All cleanups are over when the first unload begins.
pub(super) fn cleanup_before_unload(unload: &mut Option<Event>, now: &Now<'_>, report: &mut Report<'_>) {
    const EXPECTED: &str = "every cleanup is over before the first unload";
    match (&*unload, now.event.callback()) {
        (Some(unload), Some(Callback::Cleanup)) => {
            report.expect(false, [unload, now.event], EXPECTED, "a cleanup starts after it");
        }
        (None, Some(Callback::Unload)) => {
            if now.history.cleaning().is_some() {
                report.exercised();
                if let Some(cleanup) = now.history.in_flight().find(|c| c.callback == Callback::Cleanup) {
                    report.broken([&cleanup.enter, now.event], EXPECTED, "a cleanup is in progress");
                }
            }
            *unload = Some(now.event.clone());
        }
        _ => {}
    }
}

/// Cleanup is for runs that have come through every after_fork.
#[derive(Default)]
pub(super) struct CleanupIffAfterFork {
    forked: PerLayer<Event>,
    cleaned: bool,
}

impl CleanupIffAfterFork {
    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if now.is_exit() {
            if now.event.result() == 0 {
                self.forked.set(now.event.layer, now.event.clone());
            }
            return;
        }
        self.cleaned = true;
        report.exercised();
        if now.history.run().is_some_and(|run| !run.start.serves()) {
            report.broken([now.event], "no cleanup: this run serves nobody", "cleanup is called");
        }
        let missing = now
            .history
            .layers()
            .iter()
            .find(|layer| layer.records(Callback::AfterFork) && !self.forked.has(layer.number));
        if let Some(layer) = missing {
            report.broken(
                [now.event],
                format!("after_fork of L{} has returned 0 earlier", layer.number),
                "it has not",
            );
        }
    }

    pub(super) fn end(&mut self, history: &History, report: &mut Report<'_>) {
        let never_forked = history.failed_start().is_some() || !history.serves();
        let has_cleanup = history.outermost(Callback::Cleanup).is_some();
        if never_forked && has_cleanup && !self.cleaned && history.end().is_some() {
            report.exercised();
        }
    }
}
