//! `nbdkit_backend *`.

use layers_trace::{Callback, Event, Kind};

use super::super::probe_result::context_still_answers;
use crate::rules::check::per_layer::PerLayer;
use crate::rules::check::{Now, Report};

/// The backend that a filter's callback is given; 0 where the instrument could not ask for it.
fn backend(event: &Event) -> u64 {
    if event.callback() == Some(Callback::Open) { event.b } else { event.context }
}

/// A filter is given one backend.
pub(super) fn backend_is_stable(seen: &mut PerLayer<Event>, now: &Now<'_>, report: &mut Report<'_>) {
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
