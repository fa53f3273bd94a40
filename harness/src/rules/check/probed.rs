//! What instruments looked at inside the server because no argument shows it.

use layers_trace::{Kind, Probe};

use super::{Check, Now, Report, at, given, notes, unless};

/// What these probes looked at was as promised; `promise` says what they find when all is well.
pub(in crate::rules) fn probed(probes: &'static [Probe], promise: &'static str) -> impl Check {
    at(notes(&[Kind::Probe]), move |now: &Now<'_>, report: &mut Report<'_>| {
        given(now.event.probe().is_some_and(|probe| probes.contains(&probe)))?;
        // Strings may lie in the plugin's own memory (its magic_config_key does), so the promise ends with the plugin,
        // and filters may be unloaded after it.
        unless(now.event.layer > 0 && now.history.unloading().is_some())?;
        let during = now.history.call(now.event.tid, now.event.call);
        report.expect(now.event.a != 0, during, promise, "it is not so")
    })
}
