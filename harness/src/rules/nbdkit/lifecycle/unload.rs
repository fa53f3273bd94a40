//! unload.

use layers_trace::{Callback, Event};

use crate::history::History;
use crate::rules::check::per_layer::PerLayer;
use crate::rules::check::{Check, Now, Report, Watch, enters};

/// This callback is called at most once in each layer, and exactly once where the run owes it.
pub(super) struct AtTheEnd {
    callback: Callback,
    /// The run owes it to every layer.
    owed: fn(&History) -> bool,
    called: PerLayer<Event>,
}

impl AtTheEnd {
    pub(super) fn new(callback: Callback, owed: fn(&History) -> bool) -> AtTheEnd {
        AtTheEnd { callback, owed, called: PerLayer::default() }
    }
}

impl Check for AtTheEnd {
    fn watches(&self) -> Watch {
        enters(&[self.callback])
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let layer = now.event.layer;
        match self.called.get(layer) {
            Some(first) => {
                report.broken(
                    [first, now.event],
                    format!("one {} of L{layer}", self.callback),
                    "another one",
                );
            }
            None => {
                report.exercised();
                self.called.set(layer, now.event.clone());
            }
        }
    }

    fn end(&mut self, history: &History, report: &mut Report<'_>) {
        if !(self.owed)(history) {
            return;
        }
        for layer in history.layers() {
            if layer.records(self.callback) && !self.called.has(layer.number) {
                let expected = format!("{} of L{} before the server ends", self.callback, layer.number);
                report.expect(false, history.end_event(), expected, "the server ended without it");
            }
        }
    }
}

/// After a failed start there is neither cleanup nor unload.
pub(super) fn nothing_after_failure(now: &Now<'_>, report: &mut Report<'_>) {
    if let Some(failed) = now.history.failed_start() {
        report.broken([failed, now.event], "the process exits without it", "it is called");
    }
}

pub(super) fn nothing_after_failure_at_end(history: &History, report: &mut Report<'_>) {
    if history.failed_start().is_some() {
        report.exercised();
    }
}

/// A layer is not called once its unload was entered.
pub(super) fn unload_is_last(unloaded: &mut PerLayer<Event>, now: &Now<'_>, report: &mut Report<'_>) {
    if now.event.callback() == Some(Callback::Unload) {
        report.exercised();
        unloaded.keep_first(now.event.layer, || now.event.clone());
    } else if let Some(unload) = unloaded.get(now.event.layer) {
        let expected = format!("nothing of L{} after its unload", now.event.layer);
        report.broken([unload, now.event], expected, "it is called");
    }
}

/// An unload runs alone.
pub(super) fn unload_runs_alone(running: &mut Option<Event>, now: &Now<'_>, report: &mut Report<'_>) {
    let is_unload = now.event.callback() == Some(Callback::Unload);
    if now.is_exit() {
        *running = None;
        return;
    }
    if let Some(unload) = &*running {
        report.broken([unload, now.event], "nothing starts while an unload runs", "a call starts");
    } else if is_unload && let Some(call) = now.history.in_flight().next() {
        report.broken([&call.enter, now.event], "every call has returned", "one is still in progress");
    }
    if is_unload {
        report.exercised();
        *running = Some(now.event.clone());
    }
}
