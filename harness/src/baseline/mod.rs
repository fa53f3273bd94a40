//! What is known to go wrong with a given version of a server: reviewed, and explained entry by entry.
//!
//! The baselines of servers that this project has run are embedded; see docs/baseline.md.

mod file;

use std::fmt;
use std::path::Path;

use crate::bounded;
use crate::rules::Rule;
use crate::verdict::Verdict;
use crate::version::Version;

pub use file::BaselineError;
#[cfg(test)]
pub(crate) use file::parse;

/// Server, version and text of each embedded baseline.
const EMBEDDED: &[(&str, Version, &str)] = &[
    ("nbdkit", Version(1, 32, 5), include_str!("../scenario/baseline/nbdkit-1.32.5.toml")),
    ("nbdkit", Version(1, 42, 3), include_str!("../scenario/baseline/nbdkit-1.42.3.toml")),
    ("nbdkit", Version(1, 48, 1), include_str!("../scenario/baseline/nbdkit-1.48.1.toml")),
    ("haproxy", Version(2, 6, 12), include_str!("../scenario/baseline/haproxy-2.6.12.toml")),
    ("haproxy", Version(3, 0, 11), include_str!("../scenario/baseline/haproxy-3.0.11.toml")),
    ("haproxy", Version(3, 2, 26), include_str!("../scenario/baseline/haproxy-3.2.26.toml")),
];

/// What can go wrong in a scenario.
#[derive(Clone, Debug)]
pub enum What {
    /// This rule is broken.
    Rule(&'static Rule),
    /// The server crashes or hangs, in this way.
    Verdict(Verdict),
}

impl PartialEq for What {
    fn eq(&self, other: &What) -> bool {
        match (self, other) {
            (What::Rule(one), What::Rule(other)) => one.id == other.id,
            (What::Verdict(one), What::Verdict(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for What {}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Rule(rule) => f.pad(rule.id),
            What::Verdict(verdict) => f.pad(verdict.word()),
        }
    }
}

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
    /// The embedded one of this version; `None` when there is none.
    pub fn embedded(server: &str, version: Version) -> Result<Option<Baseline>, BaselineError> {
        let found = EMBEDDED.iter().find(|(name, of, _)| *name == server && *of == version);
        found
            .map(|(_, _, text)| file::parse(text, &format!("{server}-{version}.toml"), server, version))
            .transpose()
    }

    /// The one in this file, which must be of this server and version.
    pub fn load(path: &Path, server: &str, version: Version) -> Result<Baseline, BaselineError> {
        let shown = path.display().to_string();
        let text = bounded::text(path)
            .map_err(|source| BaselineError::Unreadable { file: shown.clone(), source })?;
        file::parse(&text, &shown, server, version)
    }

    /// What it says of this in this scenario.
    pub fn find(&self, what: &What, scenario: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.covers(what, scenario))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_rate_that_tells_makes_a_race_none() {
        let race = |seen, tries| How::Race { seen, tries };
        assert!(!race(19, 28).is_hardly_there(0, 1), "none of one says nothing");
        assert!(race(150, 150).is_hardly_there(0, 25));
        assert!(race(935, 1250).is_hardly_there(0, 25));
        assert!(!race(935, 1250).is_hardly_there(1, 25), "it is still there");
        assert!(!race(935, 1250).is_hardly_there(25, 25), "more often than ever is no news");
        assert!(!race(22, 368).is_hardly_there(0, 25), "at that rate it may well stay away so often");
        assert!(!race(1, 2).is_hardly_there(0, 3), "the baseline has seen too little itself");
        assert!(!How::Deterministic.is_hardly_there(0, 25));
    }

    #[test]
    fn every_embedded_baseline_can_be_read() {
        for (server, version, _) in EMBEDDED {
            let baseline = Baseline::embedded(server, *version).unwrap().unwrap();
            assert!(!baseline.entries.is_empty(), "{server} {version}");
        }
        assert_eq!(Baseline::embedded("nbdkit", Version(1, 0, 0)).unwrap(), None);
    }
}
