//! What is to be played: one check on one ground.

use layers_trace::Operation;

use super::Selection;
use super::case::{Bench, Played, Trouble};
use super::check::{Check, Plan, Planned, Play, Unfit};
use super::culprit::{self, Suspects};
use super::ground::{Ground, twisted};
use super::judging::verdict_of;
use super::op::Op;
use crate::server::nbdkit::ServerError;
use crate::verdict::Verdict;

/// Cases that may hang before the rest is left out.
pub(super) const MOST_HANGS: u32 = 2;
/// Findings that are kept of one check or rule.
pub(super) const MOST_FINDINGS: usize = 3;

/// One check on one ground.
#[derive(Debug)]
pub(super) struct Task<'a> {
    pub(super) check: &'static Check,
    /// Where; nowhere, when it is a check of filters and there is none.
    pub(super) ground: Option<&'a Ground>,
    /// What to play, or why nothing is.
    pub(super) plans: Result<Vec<Plan>, Left>,
}

/// What came of a task.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// In the order of the plans; those behind the last one were not played.
    pub(super) cases: Vec<Played>,
    /// Where it is broken, the layers among which the one at fault is, where that can be told.
    pub(super) suspects: Option<Suspects>,
}

/// A check that has no cases.
#[derive(Clone, Debug)]
pub(super) struct Left {
    /// What is said of it.
    pub(super) verdict: Verdict,
    /// Because the subject does not offer what it is about.
    pub(super) not_claimed: bool,
}

/// Every selected check that is judged by cases, in order.
pub(super) fn tasks<'a>(selection: &Selection, given: &'a Ground, filters: &'a [Ground]) -> Vec<Task<'a>> {
    let mut all = Vec::new();
    for check in selection.checks.iter().copied() {
        match check.play {
            Play::Stack(plans) => all.push(Task::new(check, given, plans)),
            Play::Filter(_) if filters.is_empty() => {
                let verdict = Verdict::NotApplicable("not claimed: there is no filter".to_owned());
                all.push(Task { check, ground: None, plans: Err(Left { verdict, not_claimed: true }) });
            }
            Play::Filter(plans) => {
                all.extend(filters.iter().map(|ground| Task::new(check, ground, plans)));
            }
            Play::Always | Play::File | Play::Opens => {}
        }
    }
    all
}

impl<'a> Task<'a> {
    fn new(
        check: &'static Check,
        ground: &'a Ground,
        plans: fn(&super::claims::Claims) -> Planned,
    ) -> Task<'a> {
        let plans = match &ground.claims {
            Ok(claims) => plans(claims).map_err(|unfit| Left::of(check, ground, &unfit)),
            Err(verdict) => Err(Left { verdict: verdict.clone(), not_claimed: false }),
        };
        Task { check, ground: Some(ground), plans }
    }

    /// Plays the cases until enough of them are broken or hang.
    pub(super) fn play(&self, bench: &Bench<'_>) -> Result<Outcome, ServerError> {
        let mut outcome = Outcome::default();
        let (Some(ground), Ok(plans)) = (self.ground, &self.plans) else { return Ok(outcome) };
        let (mut broken, mut hangs) = (0, 0);
        for plan in plans {
            let played = bench.play(self.check.id, &twisted(&ground.stack, &plan.twist), plan)?;
            broken += usize::from(verdict_of(self.check, plan, &played).1.is_some());
            hangs += u32::from(matches!(played.trouble, Some(Trouble::Hang(_))));
            outcome.cases.push(played);
            if broken >= MOST_FINDINGS || hangs >= MOST_HANGS {
                break;
            }
        }
        if broken > 0 {
            outcome.suspects = culprit::suspects(bench, self.check, &ground.stack)?;
        }
        Ok(outcome)
    }

    /// Some case writes, and reads what it has written.
    pub(super) fn relies_on_writes(&self) -> bool {
        self.plans.iter().flatten().any(relies_on_writes)
    }
}

impl Left {
    fn of(check: &Check, ground: &Ground, unfit: &Unfit) -> Left {
        let not_claimed = matches!(unfit, Unfit::NotClaimed(_));
        if ground.stack.readonly && not_claimed && check.profile.writes() {
            let verdict = Verdict::Skipped("it is not written to: see --allow-writes".to_owned());
            return Left { verdict, not_claimed: false };
        }
        Left { verdict: unfit.into(), not_claimed }
    }
}

fn relies_on_writes(plan: &Plan) -> bool {
    let is = |op: &Op, operation| matches!(op, Op::Request(request) if request.operation == operation);
    let reads = plan.script.iter().any(|op| is(op, Operation::Read) || is(op, Operation::BlockStatus));
    let writes = plan.script.iter().any(|op| is(op, Operation::Write));
    (reads && writes) || plan.script.iter().any(|op| matches!(op, Op::Load(_)))
}
