//! load.

use layers_trace::Callback::Load;
use layers_trace::Event;

use crate::history::History;
use crate::rules::check::{Checker, Now, PerLayer, Report, Rule, Said, by, enters_where, given, remembering};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "lifecycle.load.once-first",
        statement: "Every plugin and filter on the command line is loaded once, and load is the first call it gets.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .load",
        antecedent: "a layer with load",
        good: "L0.load L1.load config",
        bad: "L0.load L0.load",
        fix: "call load as soon as the module has registered itself, before any other callback of it, and never again",
        check: by!(remembering(
            // A data call has a handle, so an `open` comes before it, which would already be too early.
            enters_where(|callback| !callback.is_data()),
            is_first
        )
        .and_end(never_missing)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "lifecycle.load.order",
        statement: "The order in which layers are loaded is open (the servers load the plugin, then filters outwards).",
        clause: "not in the manual",
        antecedent: "two layers with load",
        fix: "rely on no order between the loads of different layers",
        check: Checker::Nothing,
        ..Rule::UNSPECIFIED
    },
];

/// Each layer's first call is load, and no later one is.
fn is_first(first: &mut PerLayer<Event>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let layer = now.event.layer;
    if let Some(first) = first.get(layer) {
        given(now.is(Load) && first.callback() == Some(Load))?;
        return report.expect(false, first, format_args!("one load of L{layer}"), "another one");
    }
    first.set(layer, now.event.clone());
    given(now.history.records(layer, Load))?;
    report.expect(now.is(Load), (), format_args!("L{layer} begins with load"), "load was not called")
}

fn never_missing(first: &mut PerLayer<Event>, history: &History, report: &mut Report<'_>) -> Said {
    given(history.ended_cleanly())?;
    for layer in history.recording(Load).filter(|layer| !first.has(*layer)) {
        report.expect(false, (), format_args!("one load of L{layer}"), "none in the whole run");
    }
    Some(())
}
