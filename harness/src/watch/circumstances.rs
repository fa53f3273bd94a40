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
        Circumstances {
            stopping: !history.signals().is_empty() || !single && history.cleaning().is_some(),
            parallel: history.most_data_at_once() > 1,
        }
    }

    /// It could be what this entry tells of.
    pub(super) fn fit(self, entry: &Entry) -> bool {
        let is_in = |families: &[&str]| families.iter().any(|family| entry.scenario.starts_with(family));
        (self.stopping || !is_in(STOPPING)) && (self.parallel || !is_in(PARALLEL))
    }
}
