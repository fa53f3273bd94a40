//! load.

use layers_trace::{Callback, Event};

use crate::history::History;
use crate::rules::check::per_layer::PerLayer;
use crate::rules::check::{Now, Report};

/// Each layer's first call is load, and no later one is.
pub(super) fn load_is_first(first: &mut PerLayer<Event>, now: &Now<'_>, report: &mut Report<'_>) {
    let layer = now.event.layer;
    let is_load = now.event.callback() == Some(Callback::Load);
    let Some(first) = first.get(layer) else {
        first.keep_first(layer, || now.event.clone());
        if now.history.records(layer, Callback::Load) {
            report.expect(is_load, [now.event], format!("L{layer} begins with load"), "load was not called");
        }
        return;
    };
    if is_load && first.callback() == Some(Callback::Load) {
        report.expect(false, [first, now.event], format!("one load of L{layer}"), "another one");
    }
}

pub(super) fn load_is_first_at_end(first: &mut PerLayer<Event>, history: &History, report: &mut Report<'_>) {
    if !history.ended_cleanly() {
        return;
    }
    for layer in history.layers() {
        if layer.records(Callback::Load) && !first.has(layer.number) {
            let expected = format!("one load of L{}", layer.number);
            report.expect(false, history.end_event(), expected, "none in the whole run");
        }
    }
}
