//! `nbdkit_backend *`.

use layers_trace::{Callback, Event, Kind};

use super::super::probe_result::context_still_answers;
use crate::rules::check::per_layer::PerLayer;
use crate::rules::check::{Check, Now, Report, Watch, enters};

/// A filter is given one backend.
#[derive(Default)]
pub(super) struct BackendIsStable {
    seen: PerLayer<Event>,
}

/// The backend that a filter's callback is given; 0 where the instrument could not ask for it.
fn backend(event: &Event) -> u64 {
    if event.callback() == Some(Callback::Open) { event.b } else { event.context }
}

impl Check for BackendIsStable {
    fn watches(&self) -> Watch {
        const GIVEN: &[Callback] = &[
            Callback::AfterFork,
            Callback::Preconnect,
            Callback::ListExports,
            Callback::DefaultExport,
            Callback::Open,
            Callback::Cleanup,
        ];
        enters(GIVEN).notes(Kind::Probe)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let layer = now.event.layer;
        if now.event.kind == Kind::Probe {
            context_still_answers(
                now,
                report,
                "nbdkit_context_get_backend gives in close what it gave in open",
            );
            return;
        }
        let given = backend(now.event);
        if layer == 0 || (given == 0 && now.event.callback() == Some(Callback::Open)) {
            return;
        }
        match self.seen.get(layer) {
            None => self.seen.set(layer, now.event.clone()),
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
}
