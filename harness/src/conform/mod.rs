//! `layers conform`: every selected scenario on one server, judged by every selected rule.

mod summary;
mod tries;
mod verdicts;

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::baseline::{Baseline, Entry, What};
use crate::history::Wrapped;
use crate::kept::{Events, Keeper};
use crate::level::Level;
use crate::rules::{Finding, Rule};
use crate::scenario::{Player, Scenario, SessionPlayer};
use crate::schedule::{Items, in_order};
use crate::select::Selection;
use crate::server::Installed;
use crate::server::nbdkit::ServerError;
use crate::verdict::{Exit, Verdict};

pub use tries::{Control, RuleTries, Tries};
pub use verdicts::{exit_of, verdict_of, verdict_of_troubles};

/// What is to be played, on what, and how.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// The server.
    pub server: &'a Installed,
    /// Rules and scenarios.
    pub selection: &'a Selection,
    /// How much is asked.
    pub level: Level,
    /// Scenarios played at a time.
    pub jobs: NonZeroUsize,
    /// For one run of one scenario.
    pub timeout: Duration,
    /// What is known of this server.
    pub baseline: &'a Baseline,
    /// Keep the events of runs in which something was found, up to so many in all.
    pub keep_events: usize,
}

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
    /// How often it was played.
    pub tries: u32,
    /// Tries that went otherwise, by what became of them.
    pub astray: Vec<(Verdict, u32)>,
    /// Events recorded.
    pub events: u64,
    /// What it must show.
    pub controls: Vec<Control>,
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
    /// The events of that run, where they were asked for and there was room.
    pub run: Option<Events>,
    /// What it means for the run.
    pub standing: Standing,
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
}

impl Standing {
    /// One lower-case word.
    pub fn word(&self) -> &'static str {
        match self {
            Standing::New => "new",
            Standing::Known { .. } => "known",
            Standing::Habit => "habit",
            Standing::Ours => "harness",
        }
    }

    /// The exit code that it alone asks for.
    pub fn exit(&self) -> Exit {
        match self {
            Standing::New => Exit::Violation,
            Standing::Known { .. } | Standing::Habit => Exit::Conformant,
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
    /// Scenarios that were not played, because they need a newer server.
    pub too_new: Vec<String>,
}

impl Conformance {
    /// The exit code.
    pub fn exit(&self) -> Exit {
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
            (exit, 0) => exit.meaning().to_owned(),
            (Exit::Conformant, 1) => "conformant except 1 known finding".to_owned(),
            (Exit::Conformant, known) => format!("conformant except {known} known findings"),
            (exit, _) => exit.meaning().to_owned(),
        }
    }

    /// How many rules have this verdict.
    pub fn count(&self, word: &str) -> usize {
        self.rules.iter().filter(|rule| rule.verdict.word() == word).count()
    }
}

/// Hears of each scenario, in the order of the selection, as soon as it and all before it are over.
pub trait Listener {
    /// This one is over.
    fn played(&mut self, verdict: &ScenarioVerdict);
}

/// Plays everything.
pub fn conform(plan: &Plan<'_>, listener: &mut dyn Listener) -> Result<Conformance, ServerError> {
    let judged = |rule: &&&'static Rule| plan.level.judges(rule);
    let rules: Vec<_> = plan.selection.rules.iter().filter(judged).copied().collect();
    let keep_events = plan.keep_events > 0;
    let record = |scenario: &Scenario| match plan.server {
        Installed::Nbdkit(server) => {
            let (rules, timeout) = (rules.clone(), plan.timeout);
            Player { rules, timeout, keep_events, ..Player::new(server) }.play(scenario)
        }
        Installed::Haproxy(server) => {
            let (rules, timeout) = (rules.clone(), plan.timeout);
            let player = SessionPlayer { rules, timeout, keep_events, ..SessionPlayer::new(server) };
            Ok(player.play(scenario)?)
        }
    };
    let (scenarios, too_new): (Vec<&Scenario>, Vec<&Scenario>) =
        plan.selection.scenarios.iter().partition(|scenario| scenario.since() <= plan.server.version());
    let items =
        Items { alone: scenarios.iter().map(|scenario| scenario.needs_quiet()).collect(), jobs: plan.jobs };
    let (selected, version) = (&plan.selection.rules, plan.server.version());
    let keeper = Keeper::new(plan.keep_events);
    let mut summary = summary::Summary::new(selected, plan.baseline, plan.level, version, keeper);
    let play = |index: usize| match scenarios.get(index) {
        Some(scenario) => Tries::play(record, scenario, plan.level.tries(scenario)),
        None => Ok(Tries::default()),
    };
    in_order(&items, play, |index, tries| {
        if let Some(scenario) = scenarios.get(index) {
            listener.played(&summary.add(scenario, &tries));
        }
    })?;
    let mut conformance = summary.finish();
    conformance.too_new = too_new.into_iter().map(|scenario| scenario.name.clone()).collect();
    Ok(conformance)
}
