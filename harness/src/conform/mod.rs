//! `layers conform`: every selected scenario on one server, judged by every selected rule.

mod attempts;
mod outcome;
mod summary;
mod unclear;
mod update;
mod verdicts;

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use crate::baseline::Baseline;
use crate::campaign::event_budget::EventBudget;
use crate::campaign::halt::Limit;
use crate::campaign::level::Level;
use crate::campaign::schedule::{Items, in_order};
use crate::campaign::select::Selection;
use crate::outcome::{Fault, Standing};
use crate::rules::Rule;
use crate::scenario::{Patience, Player, Scenario, SessionPlayer};
use crate::server::Installed;
use crate::server::nbdkit::ServerError;
use attempts::Conduct;

pub use crate::campaign::halt::Halt;
pub use attempts::{Astray, Control, RuleTries, Tries};
pub use outcome::{Conformance, NotPlayed, RuleVerdict, ScenarioVerdict, UnjudgedCommand};
pub use unclear::Unclear;
pub use update::updated;
pub use verdicts::{exit_of, verdict_of, verdict_of_troubles};
pub(crate) use verdicts::{is_cut, is_ground};

/// What is to be played, on what, and how.
#[derive(Clone, Debug)]
pub struct ConformPlan<'a> {
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
    /// For the whole run, where that is bounded.
    pub time: Option<Duration>,
    /// The first finding that counts ends the run.
    pub fail_fast: bool,
    /// Records for which the trace of one run has room, where they are not as many as usual.
    pub room: Option<u64>,
    /// What is known of this server.
    pub baseline: &'a Baseline,
    /// Where that comes from.
    pub source: Source<'a>,
    /// Show everything at length, also what is known and what holds.
    pub all: bool,
    /// Keep the events of runs in which something was found, up to so many in all.
    pub keep_events: usize,
}

/// Where a baseline comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source<'a> {
    /// It comes with `layers`.
    #[default]
    Embedded,
    /// It is this file.
    File(&'a Path),
    /// Nothing is to be known.
    Nothing,
}

/// What one run of one scenario may take, unless something else is said.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Hears of each scenario, in the order in which they are played, as soon as it and all before it are over.
pub trait ConformListener {
    /// This has been found, in the scenario of which it will hear next.
    fn found(&mut self, _fault: &Fault) {}

    /// This one is over.
    fn played(&mut self, verdict: &ScenarioVerdict);
}

/// Plays everything.
pub fn conform(
    plan: &ConformPlan<'_>,
    listener: &mut dyn ConformListener,
) -> Result<Conformance, ServerError> {
    let judged = |rule: &&&'static Rule| plan.level.judges(rule);
    let rules: Vec<_> = plan.selection.rules.iter().filter(judged).copied().collect();
    let keep_events = plan.keep_events > 0;
    let (patience, limit) = (Patience::default(), Limit::new(plan.time).failing_fast(plan.fail_fast));
    let record = |scenario: &Scenario| {
        let (rules, timeout, patience) = (rules.clone(), limit.of(plan.timeout), Some(&patience));
        let room = plan.room;
        match plan.server {
            Installed::Nbdkit(server) => {
                let player = Player { rules, timeout, keep_events, patience, room, ..Player::new(server) };
                player.play(scenario)
            }
            Installed::Haproxy(server) => {
                let player = SessionPlayer {
                    rules,
                    timeout,
                    keep_events,
                    patience,
                    room,
                    ..SessionPlayer::new(server)
                };
                Ok(player.play(scenario)?)
            }
        }
    };
    let (mut scenarios, mut not_played) = (Vec::new(), Vec::new());
    for scenario in &plan.selection.scenarios {
        match scenario.unplayable(plan.server) {
            None => scenarios.push(scenario),
            Some(why) => not_played.push(NotPlayed { scenario: scenario.name.clone(), why }),
        }
    }
    // What always says the same comes first, what chance decides comes last.
    scenarios.sort_by_key(|scenario| (scenario.needs_quiet(), scenario.is_race()));
    let items =
        Items { alone: scenarios.iter().map(|scenario| scenario.needs_quiet()).collect(), jobs: plan.jobs };
    let (selected, version) = (&plan.selection.rules, plan.server.version());
    let keeper = EventBudget::new(plan.keep_events);
    let mut summary = summary::Summary::new(selected, plan.baseline, plan.level, version, keeper);
    let conduct = Conduct { patience: &patience, baseline: plan.baseline, limit };
    let play = |index: usize| match scenarios.get(index) {
        Some(scenario) => Tries::play(record, scenario, plan.level.tries(scenario), &conduct),
        None => Ok(Tries::default()),
    };
    in_order(&items, play, |index, tries| {
        if let Some(scenario) = scenarios.get(index) {
            let (verdict, faults) = summary.add(scenario, &tries, limit.reached());
            faults.iter().for_each(|fault| listener.found(fault));
            if faults.iter().any(|fault| fault.standing == Standing::New) {
                limit.found();
            }
            listener.played(&verdict);
        }
    })?;
    let mut conformance = summary.finish();
    let place = |name: &str| plan.selection.scenarios.iter().position(|scenario| scenario.name == name);
    conformance.scenarios.sort_by_key(|verdict| place(&verdict.name));
    conformance.faults.sort_by_key(|fault| place(&fault.scenario));
    let told = limit.reached().filter(|halt| matches!(halt, Halt::Signal(_)));
    conformance.halt = told.or(conformance.halt);
    conformance.not_played = not_played;
    Ok(conformance)
}
