//! What a run of `conform` comes to: a verdict for each rule and scenario, and the faults.

use super::attempts::Control;
use super::unclear::Unclear;
use crate::baseline::Entry;
use crate::campaign::halt::Halt;
use crate::history::Wrapped;
use crate::outcome::{Exit, Fault, RunEnd, Verdict};
use crate::rules::Rule;
use crate::scenario::Unplayable;

/// What the whole run says of one rule.
#[derive(Clone, Debug)]
pub struct RuleVerdict {
    /// The rule.
    pub rule: &'static Rule,
    /// What is said of it.
    pub verdict: Verdict,
    /// How often its antecedent was true, in all scenarios that are no race.
    pub exercised: u64,
    /// In how many scenarios that was.
    pub scenarios: usize,
    /// How often it was true in runs that crashed, hung or went astray, of which what holds does not count.
    pub in_vain: u64,
    /// How often it was broken there.
    pub broken: u64,
    /// The scenarios that broke it.
    pub broken_in: Vec<String>,
    /// Every one of those is in the baseline.
    pub known: bool,
}

/// What one scenario says, apart from the rules.
#[derive(Clone, Debug)]
pub struct ScenarioVerdict {
    /// Its name.
    pub name: String,
    /// Pass: it went as planned, and its trace is whole. A race passes that went so in one of its tries.
    pub verdict: Verdict,
    /// It is a race: decided by chance, and counted.
    pub race: bool,
    /// Why it cannot be told how it went, where that is the verdict.
    pub unclear: Option<Unclear>,
    /// How often it was played.
    pub tries: u32,
    /// Tries that went otherwise, by what became of them.
    pub astray: Vec<(Verdict, u32)>,
    /// Events recorded.
    pub events: u64,
    /// What it must show.
    pub controls: Vec<Control>,
}

/// A scenario that says nothing here, because it could not be played.
#[derive(Clone, Debug)]
pub struct NotPlayed {
    /// Its name.
    pub scenario: String,
    /// Why.
    pub why: Unplayable,
}

/// A command of which a rule says nothing in a scenario that is about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnjudgedCommand {
    /// The rule.
    pub rule: &'static str,
    /// The scenario.
    pub scenario: String,
    /// As it was asked.
    pub command: String,
    /// Why nothing is said of it.
    pub why: String,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Conformance {
    /// One for each selected rule, in the order of the catalogue.
    pub rules: Vec<RuleVerdict>,
    /// One for each scenario played, in the order of the selection.
    pub scenarios: Vec<ScenarioVerdict>,
    /// Everything that went wrong, by scenario.
    pub faults: Vec<Fault>,
    /// What the baseline says of the scenarios played and rules judged: entries that still hold, races included.
    pub known: Vec<Entry>,
    /// Deterministic entries of the baseline of what never happened.
    pub stale: Vec<Entry>,
    /// Some rule was put to the test.
    pub judged: bool,
    /// What the instrument of HAProxy stands in for.
    pub wrapped: Wrapped,
    /// Scenarios that were not played.
    pub not_played: Vec<NotPlayed>,
    /// Commands of HAProxy of which a rule says nothing.
    pub unjudged: Vec<UnjudgedCommand>,
    /// What has ended the run before everything was played.
    pub halt: Option<Halt>,
}

impl Conformance {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        let faults = self.faults.iter().map(|fault| fault.standing.exit());
        // A crash or a hang is among the faults, where the baseline has been heard.
        let untold = |verdict: &Verdict| !matches!(verdict, Verdict::Crash(_) | Verdict::Hang(_));
        let scenarios = self.scenarios.iter().map(|scenario| &scenario.verdict).filter(|one| untold(one));
        let end = RunEnd { halt: self.halt, judged: self.judged, stale: !self.stale.is_empty() };
        end.exit(faults.chain(scenarios.map(Verdict::exit)))
    }

    /// What the exit code means here, in one line.
    pub fn meaning(&self) -> String {
        match self.exit() {
            Exit::Inconclusive => format!("inconclusive: {}", self.unclear()),
            exit => exit.meaning_except(self.known.len()),
        }
    }

    /// Why it cannot be told of so many scenarios how they went: each cause by itself.
    pub fn unclear(&self) -> String {
        let mut causes: Vec<(Unclear, usize)> = Vec::new();
        for cause in self.scenarios.iter().filter_map(|scenario| scenario.unclear) {
            match causes.iter_mut().find(|(one, _)| *one == cause) {
                Some((_, times)) => *times += 1,
                None => causes.push((cause, 1)),
            }
        }
        causes.sort_unstable();
        let halt = |cause| self.halt.filter(|_| cause == Unclear::NotPlayed);
        let sentences = causes.into_iter().map(|(cause, times)| match halt(cause) {
            Some(halt) => format!("{}: {}", cause.sentence(times), halt.reason()),
            None => cause.sentence(times),
        });
        sentences.collect::<Vec<_>>().join("; ")
    }

    /// Commands of which a rule says nothing, quoted, by rule and scenario, and by the reason as well where `reasons` are asked for;
    /// with each group its first.
    pub fn left_out(&self, reasons: bool) -> Vec<(&UnjudgedCommand, Vec<String>)> {
        let mut groups: Vec<(&UnjudgedCommand, Vec<String>)> = Vec::new();
        for one in &self.unjudged {
            let same = |first: &UnjudgedCommand| {
                (first.rule, &first.scenario) == (one.rule, &one.scenario)
                    && (!reasons || first.why == one.why)
            };
            let command = format!("`{}`", one.command);
            match groups.iter_mut().find(|(first, _)| same(first)) {
                Some((_, commands)) => commands.push(command),
                None => groups.push((one, vec![command])),
            }
        }
        groups
    }

    /// How many rules have this verdict.
    pub fn count(&self, word: &str) -> usize {
        self.rules.iter().filter(|rule| rule.verdict.word() == word).count()
    }
}
