//! load.

use layers_trace::{Callback, Event};

use crate::history::History;
use crate::rules::check::per_layer::PerLayer;
use crate::rules::check::{Check, Now, Report, Watch, enters_where};

/// Each layer's first call is load, and no later one is.
#[derive(Default)]
pub(super) struct LoadIsFirst {
    first: PerLayer<Event>,
}

impl Check for LoadIsFirst {
    fn watches(&self) -> Watch {
        // A data call has a handle, so an `open` comes before it, which would already be too early.
        enters_where(|callback| !callback.is_data())
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let layer = now.event.layer;
        let is_load = now.event.callback() == Some(Callback::Load);
        let Some(first) = self.first.get(layer) else {
            self.first.keep_first(layer, || now.event.clone());
            if now.history.records(layer, Callback::Load) {
                report.expect(
                    is_load,
                    [now.event],
                    format!("L{layer} begins with load"),
                    "load was not called",
                );
            }
            return;
        };
        if is_load && first.callback() == Some(Callback::Load) {
            report.expect(false, [first, now.event], format!("one load of L{layer}"), "another one");
        }
    }

    fn end(&mut self, history: &History, report: &mut Report<'_>) {
        if !history.ended_cleanly() {
            return;
        }
        for layer in history.layers() {
            if layer.records(Callback::Load) && !self.first.has(layer.number) {
                let expected = format!("one load of L{}", layer.number);
                report.expect(false, history.end_event(), expected, "none in the whole run");
            }
        }
    }
}
