//! Playing the chosen scenarios, and holding each tree against what is stored.

use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::played::{Played, not_started, play, without_directory};
use super::selection::ScenarioSelection;
use super::store::{Store, StoreError};
use super::stored::{MadeFrom, Stored};
use crate::campaign::halt::{Halt, Limit};
use crate::campaign::schedule::{Items, in_order};
use crate::conform::verdict_of;
use crate::history::ThreadModel;
use crate::outcome::{Exit, RunEnd, Verdict};
use crate::run::stack::Stack;
use crate::scenario::{Player, Scenario, UnfitSubject, named};
use crate::server::Which;
use crate::server::nbdkit::{Nbdkit, ServerError};
use crate::server::shortage::no_room_for_run;
use crate::validate::subject;

/// Runs that must agree before a tree is said to be new, or another one.
const AGREE: usize = 5;
/// The scenario that tells whether a stack starts at all, and its thread model.
const PROBE: &str = "end/sigterm/idle";

/// What to compare, and how.
#[derive(Debug)]
pub struct SnapshotPlan<'a> {
    /// The server.
    pub server: &'a Nbdkit,
    /// The stack.
    pub stack: &'a Stack,
    /// What to play with it.
    pub selection: &'a ScenarioSelection,
    /// Where its trees are.
    pub store: &'a Store,
    /// For one run.
    pub timeout: Duration,
    /// Scenarios played at a time.
    pub jobs: NonZeroUsize,
    /// For everything.
    pub limit: Limit,
    /// Records for which the trace of one run has room, where they are not as many as usual.
    pub room: Option<u64>,
    /// Store what is new or differs, and drop what is stale.
    pub update: bool,
}

/// What came of one scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeOutcome {
    /// The tree that is stored.
    Same,
    /// None is stored.
    New(Stored),
    /// Another one.
    Changed {
        /// What is stored.
        stored: Stored,
        /// What it is now.
        now: Stored,
    },
    /// Runs that did not agree: two trees.
    Varies(String, String),
    /// The server did not start, for this reason.
    NotStarted(String),
    /// A crash, a hang, or something that cannot be told.
    Astray(Verdict),
    /// The run was ended before it was over.
    NotPlayed(Halt),
    /// It was asked for, and cannot be played with this stack.
    Unfit(UnfitSubject),
}

/// A scenario, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Its name.
    pub scenario: String,
    /// What came of it.
    pub outcome: TreeOutcome,
}

/// What came of all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// In the order of the catalogue; those that cannot be played come last.
    pub compared: Vec<Compared>,
    /// Stored files that nothing makes any more.
    pub stale: Vec<PathBuf>,
    /// New and other trees were stored, and stale ones dropped.
    pub updated: bool,
}

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A stored file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server does not serve this stack.
    #[error("the server does not start with `{stack}`: {complaint}")]
    NotStarted {
        /// As on the server's command line.
        stack: String,
        /// Why, in the server's words.
        complaint: String,
    },
}

/// Plays, compares, and writes what is new or differs: beside the stored files, or in their place with `Plan::update`.
///
/// `tell` hears of each scenario as it is over, in order.
///
/// # Errors
///
/// The server cannot be run, or a file is no snapshot or cannot be read or written.
pub fn compare(plan: &SnapshotPlan<'_>, tell: &mut dyn FnMut(&Compared)) -> Result<Comparison, CompareError> {
    let player = player(plan);
    let scenarios = &plan.selection.scenarios;
    let together = serves_together(plan, &player)?;
    let work_on = |scenario: &Scenario| match plan.limit.reached() {
        Some(halt) => Ok(TreeOutcome::NotPlayed(halt)),
        None => outcome(plan, scenario).or_else(|error| match &error {
            CompareError::Server(refused) => Halt::of(refused).map(TreeOutcome::NotPlayed).ok_or(error),
            _ => Err(error),
        }),
    };
    let items = Items { alone: vec![false; scenarios.len()], jobs: plan.jobs };
    let work = |item: usize| match scenarios.get(item) {
        Some(scenario) if scenario.clients_meet() && !together => {
            Ok(TreeOutcome::Unfit(UnfitSubject::Together))
        }
        Some(scenario) => work_on(scenario),
        None => Err(ServerError::from(std::io::Error::other("there is no such scenario")).into()),
    };
    let mut compared = Vec::new();
    let mut take = |scenario: &str, outcome| {
        let one = Compared { scenario: scenario.to_owned(), outcome };
        if one.outcome.exit(plan.update) == Some(Exit::Violation) {
            plan.limit.found();
        }
        tell(&one);
        compared.push(one);
    };
    in_order(&items, work, |item, outcome| {
        take(scenarios.get(item).map_or("", |scenario| &scenario.name), outcome);
    })?;
    for (scenario, unfit) in &plan.selection.unfit {
        take(scenario, TreeOutcome::Unfit(*unfit));
    }
    let comparison = Comparison { compared, stale: stale(plan)?, updated: plan.update };
    write(plan.store, plan.update, &comparison)?;
    Ok(comparison)
}

/// Plays one run, which may take as long as is left of the whole.
fn player<'a>(plan: &SnapshotPlan<'a>) -> Player<'a> {
    let (timeout, room) = (plan.limit.of(plan.timeout), plan.room);
    Player { keep_events: true, rules: Vec::new(), timeout, room, ..Player::new(plan.server) }
}

/// Several clients at a time, as far as is known.
fn serves_together(plan: &SnapshotPlan<'_>, player: &Player<'_>) -> Result<bool, CompareError> {
    let probe = named::find(PROBE).and_then(|scenario| scenario.with_layers(plan.stack).ok());
    let Some(probe) = probe else { return Ok(true) };
    let recording = player.play(&probe)?;
    match (verdict_of(&recording, &probe), not_started(&recording)) {
        (Verdict::Inconclusive(_), Some(_)) if no_room_for_run(&recording.stderr).is_some() => {
            Err(ServerError::Harness(io::Error::from_raw_os_error(libc::ENOSPC)).into())
        }
        (Verdict::Inconclusive(_), Some(complaint)) => {
            Err(CompareError::NotStarted { stack: words(plan.stack), complaint })
        }
        _ => {
            let model = recording.judgement.history.thread_model();
            Ok(model.is_none_or(|model| model >= ThreadModel::SerializeRequests))
        }
    }
}

/// The stack as on the server's command line, with its options, the same on every machine.
pub fn words(stack: &Stack) -> String {
    let mut words = Vec::new();
    words.extend(stack.readonly.then(|| "-r".to_owned()));
    words.extend(stack.threads.map(|threads| format!("-t {threads}")));
    words.extend(stack.arguments.iter().cloned());
    words.push(subject::words(stack));
    without_directory(&words.join(" "))
}

fn outcome(plan: &SnapshotPlan<'_>, scenario: &Scenario) -> Result<TreeOutcome, CompareError> {
    let stored = plan.store.read(&scenario.name)?;
    agreed(stored, made(plan, scenario), plan.limit, || Ok(play(&player(plan), scenario)?))
}

/// Plays it until it is what is stored, or several runs agree on another tree.
pub(super) fn agreed(
    stored: Option<Stored>,
    made: MadeFrom,
    limit: Limit,
    play: impl Fn() -> Result<Played, CompareError>,
) -> Result<TreeOutcome, CompareError> {
    let mut first: Option<String> = None;
    for _ in 0..AGREE {
        let tree = match (play()?, limit.reached()) {
            (Played::Astray(Verdict::Crash(how)), _) => return Ok(TreeOutcome::Astray(Verdict::Crash(how))),
            (_, Some(halt)) => return Ok(TreeOutcome::NotPlayed(halt)),
            (Played::Tree(tree), None) => tree,
            (Played::NotStarted(complaint), None) => return Ok(TreeOutcome::NotStarted(complaint)),
            (Played::Astray(verdict), None) => return Ok(TreeOutcome::Astray(verdict)),
        };
        let is_stored = stored.as_ref().is_some_and(|stored| stored.tree == tree);
        match first {
            None if is_stored => return Ok(TreeOutcome::Same),
            None => first = Some(tree),
            Some(first) if first != tree => return Ok(TreeOutcome::Varies(first, tree)),
            Some(_) => {}
        }
    }
    let now = Stored { made, tree: first.unwrap_or_default() };
    Ok(match stored {
        Some(stored) => TreeOutcome::Changed { stored, now },
        None => TreeOutcome::New(now),
    })
}

fn made(plan: &SnapshotPlan<'_>, scenario: &Scenario) -> MadeFrom {
    MadeFrom {
        server: format!("nbdkit {}", plan.server.version),
        scenario: scenario.name.clone(),
        stack: words(plan.stack),
    }
}

/// Stored files of scenarios that do not exist or cannot be played with such layers.
fn stale(plan: &SnapshotPlan<'_>) -> Result<Vec<PathBuf>, StoreError> {
    let all = named::of(Which::Nbdkit);
    let fit = all.iter().filter(|scenario| scenario.with_layers(plan.stack).is_ok());
    let made: Vec<PathBuf> = fit.map(|scenario| plan.store.file(&scenario.name)).collect();
    let mut files = plan.store.files()?;
    files.retain(|file| !made.contains(file));
    Ok(files)
}

/// Writes what is new or differs: in the place of what is stored with `update`, else beside it.
pub(super) fn write(store: &Store, update: bool, comparison: &Comparison) -> Result<(), StoreError> {
    for Compared { scenario, outcome } in &comparison.compared {
        match outcome {
            TreeOutcome::New(tree) | TreeOutcome::Changed { now: tree, .. } if update => {
                store.accept(scenario, tree)?;
            }
            TreeOutcome::New(tree) | TreeOutcome::Changed { now: tree, .. } => {
                store.propose(scenario, tree)?
            }
            TreeOutcome::NotPlayed(_) => {}
            // What was pending before is not what it is now.
            _ => store.settle(scenario)?,
        }
    }
    let dropped = comparison.stale.iter().filter(|_| update);
    dropped.into_iter().try_for_each(|file| store.drop_file(file))
}

impl TreeOutcome {
    /// The exit code that this alone asks for; none of what could not be played.
    pub(super) fn exit(&self, updated: bool) -> Option<Exit> {
        match self {
            TreeOutcome::Same => Some(Exit::Conformant),
            TreeOutcome::New(_) | TreeOutcome::Changed { .. } if updated => Some(Exit::Conformant),
            TreeOutcome::New(_) | TreeOutcome::Changed { .. } => Some(Exit::Violation),
            TreeOutcome::Varies(..) | TreeOutcome::NotPlayed(_) => Some(Exit::Inconclusive),
            TreeOutcome::NotStarted(_) => Some(Exit::Unloadable),
            TreeOutcome::Astray(verdict) => Some(verdict.exit()),
            TreeOutcome::Unfit(_) => None,
        }
    }
}

impl Comparison {
    /// So many scenarios came out like this.
    pub fn count(&self, wanted: impl Fn(&TreeOutcome) -> bool) -> usize {
        self.compared.iter().filter(|one| wanted(&one.outcome)).count()
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        let exits = || self.compared.iter().filter_map(|one| one.outcome.exit(self.updated));
        let stale = !self.stale.is_empty() && !self.updated;
        RunEnd { halt: None, judged: exits().next().is_some(), stale }.exit(exits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(outcomes: &[TreeOutcome], stale: bool, updated: bool) -> Exit {
        let compared = outcomes
            .iter()
            .map(|outcome| Compared { scenario: String::new(), outcome: outcome.clone() })
            .collect();
        let stale = stale.then(|| PathBuf::from("x.snap")).into_iter().collect();
        Comparison { compared, stale, updated }.exit()
    }

    #[test]
    fn what_was_not_compared_is_no_pass() {
        let new = TreeOutcome::New(Stored { made: MadeFrom::default(), tree: String::new() });
        let varies = TreeOutcome::Varies(String::new(), "x".to_owned());
        assert_eq!(exit(&[], false, false), Exit::NothingJudged);
        assert_eq!(exit(&[TreeOutcome::Unfit(UnfitSubject::InFlight)], false, true), Exit::NothingJudged);
        assert_eq!(
            exit(&[TreeOutcome::Same, TreeOutcome::Unfit(UnfitSubject::InFlight)], false, false),
            Exit::Conformant
        );
        assert_eq!(exit(&[TreeOutcome::Same, new.clone()], true, false), Exit::Violation);
        assert_eq!(exit(&[TreeOutcome::Same, new], true, true), Exit::Conformant, "it was accepted");
        assert_eq!(exit(&[TreeOutcome::Same, varies], true, true), Exit::Inconclusive);
        assert_eq!(exit(&[TreeOutcome::Same], true, false), Exit::Stale);
    }
}
