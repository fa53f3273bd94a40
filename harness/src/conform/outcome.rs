//! What a run of `conform` comes to: a verdict for each rule and scenario, and the faults.

use super::attempts::Control;
use super::unclear::Unclear;
use crate::baseline::{Entry, What};
use crate::campaign::event_budget::Events;
use crate::campaign::halt::Halt;
use crate::history::Wrapped;
use crate::outcome::{Exit, Verdict};
use crate::rules::{Finding, Kind, Rule, RuleResult};
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

    /// Returns what was seen the first time: what came in place of what was expected, or how the server crashed or hung.
    pub fn seen(&self) -> &str {
        match (&self.what, &self.first) {
            (What::Verdict(verdict), _) => verdict.reason().unwrap_or_default(),
            (_, Some(first)) => &first.actual,
            _ => "",
        }
    }
}

/// What a fault means for the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The server is at fault.
    New,
    /// The server is at fault, and the baseline says so.
    Known {
        /// Why, as the baseline has it.
        why: String,
        /// Decided by chance.
        race: bool,
    },
    /// A habit has changed: a warning.
    Habit,
    /// It is the duty of a plugin, filter or client, which here are the harness's own.
    Ours,
    /// The same, in a scenario in which the server is at fault: our layers did not get what they need.
    Follows,
}

impl Standing {
    /// One lower-case word.
    pub fn word(&self) -> &'static str {
        match self {
            Standing::New => "new",
            Standing::Known { .. } => "known",
            Standing::Habit => "habit",
            Standing::Ours => "harness",
            Standing::Follows => "follows",
        }
    }

    /// The exit code that it alone asks for.
    pub fn exit(&self) -> Exit {
        match self {
            Standing::New => Exit::Violation,
            Standing::Known { .. } | Standing::Habit | Standing::Follows => Exit::Conformant,
            Standing::Ours => Exit::Harness,
        }
    }
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
    /// What has ended the run before everything was played.
    pub halt: Option<Halt>,
}

impl Conformance {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        if let Some(Halt::Signal(signal)) = self.halt {
            return Exit::of_signal(signal);
        }
        let faults = self.faults.iter().map(|fault| fault.standing.exit());
        // A crash or a hang is among the faults, where the baseline has been heard.
        let untold = |verdict: &Verdict| !matches!(verdict, Verdict::Crash(_) | Verdict::Hang(_));
        let scenarios = self.scenarios.iter().map(|scenario| &scenario.verdict).filter(|one| untold(one));
        let stale = self.stale.first().map(|_| Exit::Stale);
        let floor = if self.judged { Exit::Conformant } else { Exit::NothingJudged };
        Exit::of(faults.chain(scenarios.map(Verdict::exit)).chain(stale).chain([floor]))
    }

    /// What the exit code means here, in one line.
    pub fn meaning(&self) -> String {
        match (self.exit(), self.known.len()) {
            (Exit::Conformant, 1) => "conformant except 1 known finding".to_owned(),
            (Exit::Conformant, known) if known > 1 => format!("conformant except {known} known findings"),
            (Exit::Inconclusive, _) => format!("inconclusive: {}", self.unclear()),
            (exit, _) => exit.meaning().to_owned(),
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

    /// How many rules have this verdict.
    pub fn count(&self, word: &str) -> usize {
        self.rules.iter().filter(|rule| rule.verdict.word() == word).count()
    }
}
