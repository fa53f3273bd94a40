//! What instruments looked at inside the server because no argument shows it.

use layers_trace::{Kind, Probe};

use super::{Check, Given, Now, Report, Watch, given, notes, unless};

/// What these probes looked at was as promised.
pub(in crate::rules) struct Probed {
    probes: &'static [Probe],
    promise: &'static str,
}

impl Probed {
    /// `promise` says what the probes find when all is well.
    pub(in crate::rules) fn new(probes: &'static [Probe], promise: &'static str) -> Probed {
        Probed { probes, promise }
    }
}

impl Check for Probed {
    fn watches(&self) -> Watch {
        notes(Kind::Probe)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Given {
        given(now.event.probe().is_some_and(|probe| self.probes.contains(&probe)))?;
        // Strings may lie in the plugin's own memory (its magic_config_key does), so the promise ends with the plugin,
        // and filters may be unloaded after it.
        unless(now.event.layer > 0 && now.history.unloading().is_some())?;
        report.exercised();
        given(now.event.a == 0)?;
        let during = now.history.call(now.event.tid, now.event.call);
        report.broken(during, self.promise, "it is not so")
    }
}
