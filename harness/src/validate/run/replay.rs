//! Replaying one case that was written to a file.

use std::time::Duration;

use super::tally::is_of_subject;
use crate::campaign::halt::Limit;
use crate::campaign::trace_room;
use crate::outcome::Verdict;
use crate::rules::Trouble;
use crate::server::headroom::look_at_own;
use crate::server::nbdkit::{Nbdkit, ServerError, Under};
use crate::validate::checks;
use crate::validate::checks::check::{CasePlan, Level, ModuleCheck, Play};
use crate::validate::judge::discovery::refusal;
use crate::validate::judge::judging::verdict_of;
use crate::validate::judge::processes::{self, Seen};
use crate::validate::play::case::{Bench, CAPACITY};
use crate::validate::play::played::{Played, Terms};
use crate::validate::play::stop::Wrong;
use crate::validate::play::twist::innermost;
use crate::validate::repro::Repro;
use crate::validate::subject::same_files::Files;

/// What a replay may take.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// For one step of the case, and for its end.
    pub timeout: Duration,
    /// For all of it, where that is bounded.
    pub time: Option<Duration>,
    /// MiB of memory for the trace, where it is not as much as usual.
    pub room: Option<u64>,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { timeout: Duration::from_secs(10), time: None, room: None }
    }
}

/// What a case says of its check or rule when it is played again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It is broken again.
    Broken(Wrong),
    /// Something else is broken, in whose way it could not be judged: the check of the process that says so.
    Instead(&'static str, Wrong),
    /// It could not be judged: why.
    Unjudged(String),
    /// It was judged, and holds.
    Holds,
}

/// Replays a case; says what breaks its check or rule now, if anything does.
pub fn replay(repro: &Repro, nbdkit: &Nbdkit, budget: &Budget) -> Result<Replayed, ServerError> {
    let under = repro.conditions.under;
    if let Some(under) = under {
        under.look(&nbdkit.modules(&repro.stack)).map_err(ServerError::from)?;
    }
    let Budget { timeout, time, room } = *budget;
    let debugger = repro.conditions.debugger;
    let timeout = timeout.saturating_mul(under.map_or(1, Under::slowness));
    let timeout = debugger.map_or(timeout, |debugger| debugger.patience(timeout));
    let terms = Terms { seed: repro.seed, memory: repro.memory.saturating_mul(1 << 20), under };
    look_at_own(1).map_err(ServerError::Harness)?;
    let limit = Limit::new(time);
    let room = room.map_or(CAPACITY, trace_room::records);
    let files = Files::of(nbdkit.targets(&repro.stack).into_iter().map(|(_, file)| file));
    let bench = Bench { nbdkit, files: &files, timeout, limit, room, terms };
    let plan = repro.plan();
    let played = bench.play(&repro.check, &repro.stack, &plan)?;
    if let Some(halt) = played.halt {
        return Ok(Replayed::Unjudged(halt.reason()));
    }
    let seen = processes::look(&plan, &played, innermost(&repro.stack));
    if let Some(again) = seen.iter().find(|seen| seen.id == repro.check) {
        return Ok(Replayed::Broken(again.wrong.clone()));
    }
    let said = match checks::find(&repro.check) {
        Some(check) => of_check(check, repro, &plan, &played),
        None => of_rule(repro, &played),
    };
    Ok(match (said, in_the_way(seen)) {
        (said @ Replayed::Broken(_), _) | (said, None) => said,
        (_, Some(other)) => Replayed::Instead(other.id, other.wrong),
    })
}

/// What a module must not do to the process, whatever a case is played for.
fn in_the_way(seen: Vec<Seen>) -> Option<Seen> {
    let is_must = |seen: &Seen| checks::find(seen.id).is_some_and(|check| check.level == Level::Must);
    seen.into_iter().find(is_must)
}

fn of_check(check: &ModuleCheck, repro: &Repro, plan: &CasePlan, played: &Played) -> Replayed {
    let why = || refusal(played).unwrap_or_else(|| played.complaint.clone());
    match check.play {
        Play::Opens | Play::Always if plan.start.serves() && !played.served => {
            Replayed::Unjudged(format!("the server does not start: {}", why()))
        }
        Play::Opens if played.answers.is_some() => Replayed::Holds,
        Play::Opens => {
            Replayed::Broken(Wrong::new(repro.expected.clone(), format!("no export opens: {}", why())))
        }
        // What the process does was looked at already: here it did not do it.
        Play::Session => Replayed::Unjudged("it is of HAProxy".to_owned()),
        Play::Claims => Replayed::Unjudged(
            "one case does not tell what is claimed: `layers validate --claim` does".to_owned(),
        ),
        Play::Always if played.stop.is_some() && !played.judged => {
            Replayed::Unjudged(format!("its set-up went wrong: {}", why()))
        }
        Play::Always if processes::is_judged(check.id, plan, played) => Replayed::Holds,
        Play::Always => Replayed::Unjudged("nothing in the case shows it now".to_owned()),
        _ => match verdict_of(check, plan, played) {
            (_, Some((_, wrong))) => Replayed::Broken(wrong),
            (Verdict::Pass, None) => Replayed::Holds,
            (verdict, None) => Replayed::Unjudged(verdict.reason().unwrap_or_default().to_owned()),
        },
    }
}

fn of_rule(repro: &Repro, played: &Played) -> Replayed {
    let Some(result) = played.judgement.result(&repro.check) else {
        return Replayed::Unjudged(format!("this server does not promise {}", repro.check));
    };
    let from = innermost(&repro.stack);
    if let Some(found) = result.findings.iter().find(|finding| is_of_subject(finding, from)) {
        return Replayed::Broken(Wrong::new(found.expected.clone(), found.actual.clone()));
    }
    match played.judgement.troubles.iter().find(|trouble| matches!(trouble, Trouble::Lost(_))) {
        Some(lost) => Replayed::Unjudged(lost.to_string()),
        None if result.exercised == 0 => {
            Replayed::Unjudged(format!("never exercised: needs {}", result.rule.antecedent))
        }
        None => Replayed::Holds,
    }
}
