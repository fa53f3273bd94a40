//! The entries of a baseline: what goes wrong, in which scenario, how often, and why it is accepted.

use crate::outcome::{Verdict, What};

/// How often it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Every time.
    Deterministic,
    /// As chance has it.
    Race {
        /// How often it was seen …
        seen: u32,
        /// … in how many tries, over all the runs that the entry rests on.
        tries: u32,
    },
}

/// How sure it must be that a rate has changed: the chance that it has not is smaller than this.
const CHANCE: f64 = 0.01;

/// The same, in standard deviations, for the bound of the rate that the baseline tells.
const DEVIATIONS: f64 = 2.576;

impl How {
    /// It happened in none of so many tries, which it would hardly do at the rate that the baseline has seen: perhaps the
    /// race is mended. That it happens more often than when it was listed tells nothing of the server: how often threads
    /// meet depends on what else the machine does.
    pub fn is_hardly_there(self, times: u32, tries: u32) -> bool {
        let How::Race { seen, tries: of } = self else { return false };
        if times > 0 || tries == 0 || of == 0 {
            return false;
        }
        // Wilson's lower bound of the rate.
        let (many, square) = (f64::from(of), DEVIATIONS * DEVIATIONS);
        let rate = f64::from(seen) / many;
        let spread = (rate * (1.0 - rate) / many + square / (4.0 * many * many)).sqrt();
        let bound = (rate + square / (2.0 * many) - DEVIATIONS * spread) / (1.0 + square / many);
        (1.0 - bound).powf(f64::from(tries)) < CHANCE
    }
}

/// One known finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What goes wrong.
    pub what: What,
    /// In which scenario.
    pub scenario: String,
    /// How often.
    pub how: How,
    /// Why the server is to blame and the finding is kept.
    pub why: String,
}

impl Entry {
    /// Returns whether `what` in `scenario` is what this entry knows.
    ///
    /// A race that ends in a crash may end in any fatal signal: which one depends on what lies at the address that the
    /// server wrongly uses in that instant.
    pub fn covers(&self, what: &What, scenario: &str) -> bool {
        let crash = |what: &What| matches!(what, What::Verdict(Verdict::Crash(_)));
        let any_signal = matches!(self.how, How::Race { .. }) && crash(&self.what) && crash(what);
        self.scenario == scenario && (self.what == *what || any_signal)
    }
}

/// What is known of one version of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    /// In the order of the file.
    pub entries: Vec<Entry>,
}

impl Baseline {
    /// Returns the entry that covers `what` in `scenario`.
    pub fn find(&self, what: &What, scenario: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.covers(what, scenario))
    }
}
