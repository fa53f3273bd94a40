//! get_ready and after_fork: from the plugin outwards.

use layers_trace::{Callback, Event};

use crate::rules::check::per_layer::PerLayer;
use crate::rules::check::{Check, Now, Report, Watch, calls};

/// Visits each layer once, the innermost first, each after the one below has succeeded.
pub(super) struct Outwards {
    callback: Callback,
    /// What is over in all layers before the first visit.
    earlier: &'static [Callback],
    entered: PerLayer<Event>,
    succeeded: PerLayer<Event>,
    later: bool,
}

impl Outwards {
    pub(super) fn new(callback: Callback, earlier: &'static [Callback]) -> Outwards {
        Outwards {
            callback,
            earlier,
            entered: PerLayer::default(),
            succeeded: PerLayer::default(),
            later: false,
        }
    }

    fn visit(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let layer = now.event.layer;
        report.exercised();
        if let Some(first) = self.entered.get(layer) {
            report.broken([first, now.event], format!("one {} of L{layer}", self.callback), "another one");
        }
        let below = now.history.inner(layer, self.callback);
        if let Some(below) = below.filter(|below| !self.succeeded.has(*below)) {
            report.broken(
                self.entered.get(below).into_iter().chain([now.event]),
                format!("{} of L{below} has returned 0 before that of L{layer}", self.callback),
                "it has not",
            );
        }
        self.entered.set(layer, now.event.clone());
    }

    /// The first after_fork: no layer was left out.
    fn is_over(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if self.callback == Callback::AfterFork || std::mem::replace(&mut self.later, true) {
            return;
        }
        for layer in now.history.layers() {
            if layer.records(self.callback) && !self.entered.has(layer.number) {
                let expected = format!("{} of L{} comes first", self.callback, layer.number);
                report.expect(false, [now.event], expected, "it was left out");
            }
        }
    }
}

impl Check for Outwards {
    fn watches(&self) -> Watch {
        calls(&[self.callback]).enters(self.earlier).enters(&[Callback::AfterFork])
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(callback) = now.event.callback() else { return };
        if now.is_exit() {
            if now.event.result() == 0 {
                self.succeeded.set(now.event.layer, now.event.clone());
            }
        } else if callback == self.callback {
            self.visit(now, report);
        } else if self.earlier.contains(&callback) {
            if let Some(first) = self.entered.values().next() {
                let expected = format!("every {callback} comes before any {}", self.callback);
                report.broken([first, now.event], expected, "one comes later");
            }
        } else {
            self.is_over(now, report);
        }
    }
}
