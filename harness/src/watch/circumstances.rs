//! In what circumstances something was found, as far as what is known of a server depends on them.

use crate::baseline::Entry;
use crate::history::History;
use crate::run::Start;

/// In what circumstances something was found, as far as what is known of a server depends on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// The server was told to stop, or has begun to for another reason than that its only client has gone.
    stopping: bool,
    /// It had several requests of one client at a time.
    parallel: bool,
}

/// Scenarios in which a server is told to stop.
const STOPPING: &[&str] = &["end/", "quit/", "captive/", "single/", "race/signal-", "race/connect-at-signal"];
/// Scenarios in which it has several requests at a time.
const PARALLEL: &[&str] = &["race/asked-late"];

impl Circumstances {
    /// Of a server with this history.
    pub(super) fn of(history: &History) -> Circumstances {
        let single = history.run().is_some_and(|run| run.start == Start::Single);
        // A stack may have no `cleanup` at all.
        let stops = history.cleaning().or(history.unloading()).is_some();
        Circumstances {
            stopping: !history.signals().is_empty() || !single && stops,
            parallel: history.most_data_at_once() > 1,
        }
    }

    /// It could be what this entry tells of.
    pub(super) fn fit(self, entry: &Entry) -> bool {
        let scenario = entry.scenario.as_deref().unwrap_or_default();
        let is_in = |families: &[&str]| families.iter().any(|family| scenario.starts_with(family));
        (self.stopping || !is_in(STOPPING)) && (self.parallel || !is_in(PARALLEL))
    }
}

#[cfg(test)]
mod tests {
    use layers_trace::Callback;

    use super::*;
    use crate::testing::{Script, judged, run};

    #[test]
    fn a_server_whose_layers_are_unloaded_is_stopping_whether_or_not_one_has_a_cleanup() {
        let stops = |callback: Option<Callback>| {
            let mut script = Script::new(&run(0));
            if let Some(callback) = callback {
                script.call(0, callback, 0);
            }
            Circumstances::of(&judged(script).history).stopping
        };
        assert!(!stops(None) && !stops(Some(Callback::Load)));
        assert!(stops(Some(Callback::Cleanup)) && stops(Some(Callback::Unload)));
    }
}
