//! What a run has found: a broken rule, a crash or a hang, where, and what it means.

use super::standing::Standing;
use super::what::What;
use crate::campaign::event_budget::Events;
use crate::rules::{Finding, Kind, Rule, RuleResult};

/// A rule that a scenario broke, or a crash or hang of the server in it.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which.
    pub what: What,
    /// The scenario.
    pub scenario: String,
    /// In how many tries.
    pub times: u32,
    /// Of how many: those that were played, or, for a rule, those that could be judged.
    pub tries: u32,
    /// The first time.
    pub first: Option<Finding>,
    /// Position in the trace of that run at which it shows.
    pub at: u32,
    /// The events of that run, where they were asked for and there was room.
    pub run: Option<Events>,
    /// What a program of the scenario's has written in that run.
    pub wrote: Option<String>,
    /// What it means for the run.
    pub standing: Standing,
}

impl Fault {
    /// This, seen once in this scenario, with nothing else known of it.
    pub(crate) fn new(what: What, scenario: &str) -> Fault {
        Fault {
            what,
            scenario: scenario.to_owned(),
            times: 1,
            tries: 1,
            first: None,
            at: u32::MAX,
            run: None,
            wrote: None,
            standing: Standing::New,
        }
    }

    /// A rule that is broken in a trace by itself: no baseline, and the layers are somebody's own.
    pub(crate) fn in_trace(scenario: &str, result: &RuleResult) -> Fault {
        let first = result.findings.first();
        let standing = if result.rule.kind == Kind::Observed { Standing::Habit } else { Standing::New };
        Fault {
            first: first.cloned(),
            at: first.and_then(|finding| finding.calls.last()).map_or(0, |call| call.position),
            standing,
            ..Fault::new(What::Rule(result.rule), scenario)
        }
    }

    /// Returns whether this rule is what is broken.
    pub fn is_of(&self, rule: &Rule) -> bool {
        matches!(self.what, What::Rule(one) if one.id == rule.id)
    }

    /// Returns what was seen the first time: what came in place of what was expected, or how the server crashed or hung.
    pub fn seen(&self) -> &str {
        match (&self.what, &self.first) {
            (What::Verdict(verdict), _) => verdict.reason().unwrap_or_default(),
            (_, Some(first)) => &first.actual,
            _ => "",
        }
    }
}
