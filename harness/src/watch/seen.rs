//! What is told of one server.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::circumstances::Circumstances;
use super::end::Ended;
use crate::campaign::event_budget::Events;
use crate::conform::is_ground;
use crate::history::History;
use crate::rules::{Judgement, RuleResult};
use crate::run::FoundServer;

/// A server that has made a trace.
#[derive(Debug)]
pub struct Seen {
    /// The trace.
    pub path: PathBuf,
    /// What it is.
    pub server: FoundServer,
    /// Its command line, in one line.
    pub line: String,
    /// What has become of it.
    pub ended: Ended,
    /// What the rules say of it.
    pub judgement: Judgement,
    /// In what circumstances.
    pub circumstances: Circumstances,
    /// Its events, where they are to be drawn.
    pub events: Events,
}

impl Seen {
    /// What is found in it now that it has ended, but for these rules.
    pub(super) fn news(&self, told: &[&str]) -> News {
        let broken = self.judgement.results.iter();
        let broken = broken.filter(|result| result.broken > 0 && !told.contains(&result.rule.id));
        News {
            server: self.server.clone(),
            ended: self.ended,
            broken: if is_ground(&self.judgement.troubles) { broken.cloned().collect() } else { Vec::new() },
            circumstances: self.circumstances,
        }
    }

    /// Keeps what tells of it, and adds up how often each rule was put to the test.
    pub(super) fn lighten(&mut self, exercised: &mut BTreeMap<&'static str, u64>, draws: bool) {
        for result in self.judgement.results.iter().filter(|result| result.exercised > 0) {
            *exercised.entry(result.rule.id).or_default() += result.exercised;
        }
        if !draws {
            self.judgement.results.retain(|result| result.broken > 0);
            self.judgement.results.shrink_to_fit();
            self.judgement.history = History::new();
        }
    }
}

/// A server that could not be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// Its process, where that is known.
    pub pid: Option<u32>,
    /// Why.
    pub why: String,
}

/// What has just been found in a server.
#[derive(Debug)]
pub struct News {
    /// The server.
    pub server: FoundServer,
    /// How it has ended, if it has.
    pub ended: Ended,
    /// The rules that it has broken, and that were not told of yet.
    pub broken: Vec<RuleResult>,
    /// In what circumstances.
    pub circumstances: Circumstances,
}
