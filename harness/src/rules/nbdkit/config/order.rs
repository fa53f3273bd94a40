//! When config is called, and from where.

use layers_trace::{Callback, Event};

use crate::rules::check::{Now, Report};

/// Config of an inner layer runs inside that of the next outer one.
pub(super) fn config_nests(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(outer) = now.history.outer(now.event.layer, Callback::Config) else { return };
    let parent = now.parent();
    let nests = parent.is_some_and(|call| call.callback == Callback::Config && call.layer() == outer);
    report.expect(
        nests,
        parent.map(|call| &call.enter).into_iter().chain([now.event]),
        format!("L{outer}.config calls L{}.config", now.event.layer),
        "it is called from elsewhere",
    );
}

/// Config comes after every load and before every config_complete.
#[derive(Default)]
pub(super) struct ConfigPhase {
    config: Option<Event>,
    complete: Option<Event>,
}

impl ConfigPhase {
    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        match now.event.callback() {
            Some(Callback::Load) => {
                if let Some(config) = &self.config {
                    report.broken(
                        [config, now.event],
                        "all layers are loaded first",
                        "a layer is loaded later",
                    );
                }
            }
            Some(Callback::Config) => {
                report.exercised();
                if let Some(complete) = &self.complete {
                    let expected = "no parameter after config_complete";
                    report.broken([complete, now.event], expected, "another parameter");
                }
                self.config.get_or_insert_with(|| now.event.clone());
            }
            _ => {
                self.complete.get_or_insert_with(|| now.event.clone());
            }
        }
    }
}
