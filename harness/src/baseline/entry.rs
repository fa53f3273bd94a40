//! The entries of a baseline: what goes wrong, in which scenario, how often, and why it is accepted.

use std::fmt;

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

/// One accepted finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The rule or check; of a server also `crash` or `hang`.
    pub id: String,
    /// What is seen: how the server crashes or hangs, or what comes instead of what a check expects; any, where it is not said.
    pub actual: Option<String>,
    /// In which scenario; in any, where it is not said.
    pub scenario: Option<String>,
    /// How often.
    pub how: How,
    /// Why the finding is kept.
    pub why: String,
}

impl Entry {
    /// This goes wrong in this scenario.
    pub fn of(what: &What, scenario: &str, how: How, why: &str) -> Entry {
        let (id, actual, scenario) = (what.id().to_owned(), what.reason(), Some(scenario.to_owned()));
        Entry { id, actual: actual.map(str::to_owned), scenario, how, why: why.to_owned() }
    }

    /// Returns whether `what` in `scenario` is what this entry knows.
    pub fn covers(&self, what: &What, scenario: &str) -> bool {
        self.is_in(scenario) && self.knows(what.id(), what.reason().unwrap_or_default())
    }

    /// Returns whether it knows what shows itself by this id and like this.
    ///
    /// A race that ends in a crash may end in any fatal signal: which one depends on what lies at the address that the
    /// server wrongly uses in that instant.
    pub fn knows(&self, id: &str, seen: &str) -> bool {
        let any_signal = matches!(self.how, How::Race { .. }) && id == Verdict::Crash(String::new()).word();
        self.id == id && (any_signal || self.actual.as_ref().is_none_or(|actual| actual == seen))
    }

    /// Returns whether it is about this scenario.
    pub fn is_in(&self, scenario: &str) -> bool {
        self.scenario.as_ref().is_none_or(|one| one == scenario)
    }

    /// The crash or hang, where it is of one.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        let how = self.actual.clone().unwrap_or_default();
        [Verdict::Crash(how.clone()), Verdict::Hang(how)].into_iter().find(|one| one.word() == self.id)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scenario {
            Some(scenario) => write!(f, "{} in {scenario}", self.id),
            None => f.write_str(&self.id),
        }
    }
}

/// What is accepted of one version of a server, or of a subject.
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

    /// Returns the entry that knows what shows itself by this id and like this.
    pub fn entry(&self, id: &str, seen: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.knows(id, seen))
    }
}
