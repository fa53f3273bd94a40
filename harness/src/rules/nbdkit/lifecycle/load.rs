//! load.

use layers_trace::Callback::Load;
use layers_trace::Event;

use crate::history::History;
use crate::rules::check::{Now, PerLayer, Report, Said, given};

/// Each layer's first call is load, and no later one is.
pub(super) fn is_first(first: &mut PerLayer<Event>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let layer = now.event.layer;
    if let Some(first) = first.get(layer) {
        given(now.is(Load) && first.callback() == Some(Load))?;
        return report.expect(false, first, format_args!("one load of L{layer}"), "another one");
    }
    first.set(layer, now.event.clone());
    given(now.history.records(layer, Load))?;
    report.expect(now.is(Load), (), format_args!("L{layer} begins with load"), "load was not called")
}

pub(super) fn never_missing(first: &mut PerLayer<Event>, history: &History, report: &mut Report<'_>) -> Said {
    given(history.ended_cleanly())?;
    for layer in history.recording(Load).filter(|layer| !first.has(*layer)) {
        report.expect(false, (), format_args!("one load of L{layer}"), "none in the whole run");
    }
    Some(())
}
