//! One scenario, played as often as the level asks, and what the tries say together.

use super::verdicts::verdict_of;
use crate::rules::{Finding, Rule};
use crate::scenario::{Player, Recording, Scenario};
use crate::server::nbdkit::ServerError;
use crate::verdict::Verdict;

/// What all tries of a scenario say.
#[derive(Clone, Debug, Default)]
pub struct Tries {
    /// How often it was played.
    pub count: u32,
    /// How many tries went as planned and left a whole trace.
    pub passed: u32,
    /// What became of the others, each with how often.
    pub astray: Vec<(Verdict, u32)>,
    /// Events recorded in all of them.
    pub events: u64,
    /// What the tries that passed say of each rule.
    pub rules: Vec<RuleTries>,
}

/// What all tries of a scenario say of one rule.
#[derive(Clone, Debug)]
pub struct RuleTries {
    /// The rule.
    pub rule: &'static Rule,
    /// How often its antecedent was true.
    pub exercised: u64,
    /// How often it was broken.
    pub broken: u64,
    /// In how many tries it was broken.
    pub tries: u32,
    /// The first time.
    pub first: Option<Finding>,
}

impl Tries {
    /// Plays it `count` times.
    pub(super) fn play(player: &Player<'_>, scenario: &Scenario, count: u32) -> Result<Tries, ServerError> {
        let mut tries = Tries { count, ..Tries::default() };
        for _ in 0..count {
            let recording = player.play(scenario)?;
            let verdict = verdict_of(&recording, scenario);
            tries.add(verdict, recording);
        }
        Ok(tries)
    }

    fn add(&mut self, verdict: Verdict, recording: Recording) {
        self.events += recording.judgement.events;
        // What a run that went astray shows is not what its scenario is about; that it did is a verdict of its own.
        if verdict != Verdict::Pass {
            return self.add_astray(verdict);
        }
        self.passed += 1;
        for result in recording.judgement.results {
            let known = self.rules.iter().position(|one| one.rule.id == result.rule.id);
            let first = result.findings.into_iter().next();
            let tries = u32::from(result.broken > 0);
            match known.and_then(|index| self.rules.get_mut(index)) {
                Some(one) => {
                    one.exercised += result.exercised;
                    one.broken += result.broken;
                    one.tries += tries;
                    one.first = one.first.take().or(first);
                }
                None => self.rules.push(RuleTries {
                    rule: result.rule,
                    exercised: result.exercised,
                    broken: result.broken,
                    tries,
                    first,
                }),
            }
        }
    }

    fn add_astray(&mut self, verdict: Verdict) {
        match self.astray.iter_mut().find(|(one, _)| *one == verdict) {
            Some((_, times)) => *times += 1,
            None => self.astray.push((verdict, 1)),
        }
    }
}
