//! config_complete.

use layers_trace::{Callback, Event};

use crate::history::History;
use crate::rules::check::per_layer::PerLayer;
use crate::rules::check::{Check, Now, Report, Watch, enters};

/// The callbacks that come when configuration is complete.
const AFTER: &[Callback] = &[Callback::ThreadModel, Callback::GetReady, Callback::AfterFork];

/// Once in each layer, inner in outer, and not left out at the outermost.
#[derive(Default)]
pub(super) struct CompletedOnce {
    called: PerLayer<Event>,
    over: bool,
}

impl Check for CompletedOnce {
    fn watches(&self) -> Watch {
        enters(&[Callback::ConfigComplete]).enters(AFTER)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        const CALLBACK: Callback = Callback::ConfigComplete;
        let layer = now.event.layer;
        if now.event.callback() != Some(CALLBACK) {
            if !std::mem::replace(&mut self.over, true)
                && now.history.run().is_some_and(|run| run.start.serves())
                && let Some(top) = now.history.outermost(CALLBACK).filter(|top| !self.called.has(*top))
            {
                let expected = format!("config_complete of L{top} comes first");
                report.expect(false, [now.event], expected, "it was left out");
            }
            return;
        }
        report.exercised();
        if let Some(first) = self.called.get(layer) {
            report.broken([first, now.event], format!("one config_complete of L{layer}"), "another one");
        }
        self.called.set(layer, now.event.clone());
        if let Some(outer) = now.history.outer(layer, CALLBACK) {
            let parent = now.parent();
            let nests = parent.is_some_and(|call| call.callback == CALLBACK && call.layer() == outer);
            if !nests {
                report.broken(
                    parent.map(|call| &call.enter).into_iter().chain([now.event]),
                    format!("L{outer}.config_complete calls L{layer}.config_complete"),
                    "it is called from elsewhere",
                );
            }
        }
    }
}

/// Not for `--dump-plugin`.
pub(super) fn not_in_dump(now: &Now<'_>, report: &mut Report<'_>) {
    if now.history.is_dump() {
        report.broken([now.event], "no config_complete with --dump-plugin", "it is called");
    }
}

pub(super) fn not_in_dump_at_end(history: &History, report: &mut Report<'_>) {
    let has_it = history.outermost(Callback::ConfigComplete).is_some();
    if history.is_dump() && has_it && history.ended_cleanly() {
        report.exercised();
    }
}
