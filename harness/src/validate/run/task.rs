//! What is to be played: one check on one ground.

use layers_trace::Operation;

use super::selection::Selection;
use super::variants::ProbedStack;
use crate::campaign::halt::Halt;
use crate::outcome::Verdict;
use crate::run::Start;
use crate::run::stack::{Layers, Stack};
use crate::server::nbdkit::ServerError;
use crate::validate::checks::check::{CasePlan, ModuleCheck, Planned, Profile, Twist, Unfit};
use crate::validate::judge::judging::{verdict_of, with_words};
use crate::validate::judge::refusers;
use crate::validate::judge::suspects::{self, Suspects};
use crate::validate::play::case::Bench;
use crate::validate::play::played::{Played, Trouble};
use crate::validate::play::stop::{Asked, Stop};
use crate::validate::play::twist::twisted;
use crate::validate::script::claims::read;
use crate::validate::script::op::Op;

/// Cases that may hang before the rest is left out.
pub(in crate::validate) const MOST_HANGS: u32 = 2;
/// Findings that are kept of one check or rule.
pub(in crate::validate) const MOST_FINDINGS: usize = 3;

/// Byte counts of reads that somebody serves who serves any.
const USUAL: [u64; 4] = [4096, 512, 1 << 16, 1 << 20];

/// How often a control run is played before what is wrong counts as nothing of its own: it may come about by chance.
const CONTROLS: u32 = 3;

/// One check on one ground.
#[derive(Debug)]
pub(in crate::validate) struct Task<'a> {
    pub(in crate::validate) check: &'static ModuleCheck,
    /// Where; nowhere, when it is a check of filters and there is none.
    pub(in crate::validate) ground: Option<&'a ProbedStack>,
    /// What to play, or why nothing is.
    pub(in crate::validate) plans: Result<Vec<CasePlan>, Left>,
}

/// What came of a task.
#[derive(Debug, Default)]
pub(in crate::validate) struct Outcome {
    /// In the order of the plans; those behind the last one were not played.
    pub(in crate::validate) cases: Vec<Case>,
    /// Where it is broken, the layers among which the one at fault is, where that can be told.
    pub(in crate::validate) suspects: Option<Suspects>,
    /// What has ended the run before all cases were over.
    pub(in crate::validate) halt: Option<Halt>,
}

/// A case that was played.
#[derive(Debug)]
pub(in crate::validate) struct Case {
    pub(in crate::validate) played: Played,
    /// Why it is nobody's fault that it was refused.
    pub(in crate::validate) excuse: Option<String>,
    /// What was played, where it is not the case of the check but the same one in the foreground, which goes wrong as well.
    pub(in crate::validate) control: Option<CasePlan>,
}

/// A check that has no cases.
#[derive(Clone, Debug)]
pub(in crate::validate) struct Left {
    /// What is said of it.
    pub(in crate::validate) verdict: Verdict,
    /// Because the subject does not offer what it is about.
    pub(in crate::validate) not_claimed: bool,
}

/// Every selected check that is judged by cases, in order.
pub(in crate::validate) fn tasks<'a>(
    selection: &Selection,
    given: &'a ProbedStack,
    filters: &'a [ProbedStack],
) -> Vec<Task<'a>> {
    let mut all = Vec::new();
    for check in selection.checks.iter().copied() {
        all.extend(check.play.on_stack().map(|plans| Task::new(check, given, plans)));
        let Some(plans) = check.play.on_filters() else { continue };
        all.extend(filters.iter().map(|ground| Task::new(check, ground, plans)));
        if filters.is_empty() && check.play.on_stack().is_none() {
            let verdict = Verdict::NotApplicable("not claimed: there is no filter".to_owned());
            all.push(Task { check, ground: None, plans: Err(Left { verdict, not_claimed: true }) });
        }
    }
    all
}

impl<'a> Task<'a> {
    fn new(
        check: &'static ModuleCheck,
        ground: &'a ProbedStack,
        plans: fn(&crate::validate::script::claims::Claims) -> Planned,
    ) -> Task<'a> {
        let plans = match &ground.claims {
            Ok(claims) => plans(claims).map_err(|unfit| Left::of(check, ground, &unfit)),
            Err(verdict) => Err(Left { verdict: verdict.clone(), not_claimed: false }),
        };
        Task { check, ground: Some(ground), plans }
    }

    /// Plays the cases until enough of them are broken or hang.
    pub(in crate::validate) fn play(&self, bench: &Bench<'_>) -> Result<Outcome, ServerError> {
        let mut outcome = Outcome::default();
        let (Some(ground), Ok(plans)) = (self.ground, &self.plans) else { return Ok(outcome) };
        let (mut broken, mut hangs) = (0, 0);
        for plan in plans {
            outcome.halt = bench.limit.reached();
            if outcome.halt.is_some() {
                break;
            }
            let stack = twisted(&ground.stack, &plan.twist);
            let again = Again { check: self.check, bench, ground, plan, stack };
            let played = match again.play(&again.stack, plan) {
                Ok(played) => played,
                Err(error) => {
                    outcome.halt = Some(Halt::of(&error).ok_or(error)?);
                    break;
                }
            };
            if played.halt.is_some() {
                outcome.halt = played.halt;
                break;
            }
            let excuse = again.excuse(&played)?;
            let mut case = Case { played, excuse, control: None };
            let is_broken = case.excuse.is_none() && verdict_of(self.check, plan, &case.played).1.is_some();
            if is_broken {
                if let Some(control) = again.in_foreground()? {
                    case = control;
                }
                case.excuse = match again.keeps_nothing(&case.played)? {
                    None => again.shows_it_undisturbed(&case.played)?,
                    excuse => excuse,
                };
            }
            broken += usize::from(is_broken && case.control.is_none() && case.excuse.is_none());
            hangs += u32::from(matches!(case.played.trouble, Some(Trouble::Hang(_))));
            outcome.cases.push(case);
            if broken >= MOST_FINDINGS || hangs >= MOST_HANGS {
                break;
            }
        }
        if broken > 0 && bench.limit.reached().is_none() {
            outcome.suspects = suspects::suspects(bench, self.check, &ground.stack)
                .or_else(|error| Halt::of(&error).map(|_| None).ok_or(error))?;
        }
        Ok(outcome)
    }

    /// Some case writes, and reads what it has written.
    pub(in crate::validate) fn relies_on_writes(&self) -> bool {
        self.plans.iter().flatten().any(relies_on_writes)
    }
}

/// A case that was played, and is played again otherwise.
struct Again<'a> {
    check: &'static ModuleCheck,
    bench: &'a Bench<'a>,
    ground: &'a ProbedStack,
    plan: &'a CasePlan,
    /// As the case twists it.
    stack: Stack,
}

impl Again<'_> {
    fn play(&self, stack: &Stack, plan: &CasePlan) -> Result<Played, ServerError> {
        self.bench.play(self.check.id, stack, plan)
    }

    /// The same case in the foreground, where it has to do with the background and goes wrong in the foreground, too: then
    /// it is a matter of other checks.
    fn in_foreground(&self) -> Result<Option<Case>, ServerError> {
        if self.plan.start != Start::Daemon {
            return Ok(None);
        }
        let control = CasePlan { start: Start::Foreground, ..self.plan.clone() };
        for _ in 0..CONTROLS {
            let played = self.play(&self.stack, &control)?;
            if played.trouble.is_some() || verdict_of(self.check, &control, &played).1.is_some() {
                return Ok(Some(Case { played, excuse: None, control: Some(control) }));
            }
        }
        Ok(None)
    }

    /// What is not kept over an orderly end has not been promised to be kept at all: it stays in memory, or in a file that goes.
    fn keeps_nothing(&self, played: &Played) -> Result<Option<String>, ServerError> {
        let killed = self.plan.script.iter().position(|op| *op == Op::Kill);
        let gets_there = |killed: &usize| played.stop.as_ref().is_none_or(|(index, _)| index >= killed);
        if killed.filter(gets_there).is_none() {
            return Ok(None);
        }
        let orderly = |op: &Op| if *op == Op::Kill { Op::Restart } else { op.clone() };
        let control =
            CasePlan { script: self.plan.script.iter().map(orderly).collect(), ..self.plan.clone() };
        let played = self.play(&self.stack, &control)?;
        let is_lost = verdict_of(self.check, &control, &played).1.is_some();
        Ok(is_lost.then(|| "what is written is not there after an orderly end, either".to_owned()))
    }

    /// Says so, if a filter shows the same at the same step over a plugin in which nothing fails: then the failure has nothing to
    /// do with it, and other checks are about it.
    fn shows_it_undisturbed(&self, played: &Played) -> Result<Option<String>, ServerError> {
        let Twist::Over(behaviour) = &self.plan.twist else { return Ok(None) };
        let fails = !behaviour.fail.is_empty() || !behaviour.fails_from.is_empty();
        let Some((step, Stop::Wrong(_))) = played.stop.as_ref().filter(|_| fails && played.trouble.is_none())
        else {
            return Ok(None);
        };
        let undisturbed = self.play(&self.ground.stack, self.plan)?;
        let is_same = undisturbed.trouble.is_none()
            && matches!(&undisturbed.stop, Some((again, Stop::Wrong(_))) if again == step);
        Ok(is_same.then(|| "it shows the same over the reference plugin undisturbed".to_owned()))
    }

    /// Why a refusal is nobody's fault, if it is: a control run without what may refuse is not refused; or a filter
    /// refuses our own plugin when nothing disturbs it.
    fn excuse(&self, played: &Played) -> Result<Option<String>, ServerError> {
        if let Some((reason, control)) = refusers::excuse(&self.stack, played) {
            let Some(control) = control else { return Ok(Some(reason)) };
            let without = self.play(&control, self.plan)?;
            if !refusers::is_refused(&without) || refusers::lies_behind(self.plan, played, &without) {
                return Ok(Some(reason));
            }
        }
        let Some((_, Stop::Refused(refusal))) = played.stop.as_ref().filter(|_| played.trouble.is_none())
        else {
            return Ok(None);
        };
        if !matches!(self.ground.stack.layers, Layers::Over { .. }) {
            return Ok(None);
        }
        // Whoever tells a block size serves it, whatever lies below; but who serves nothing of it has told no size wrongly.
        if self.check.profile == Profile::BlockSize && self.serves(refusal.asked)? {
            return Ok(None);
        }
        let undisturbed = self.plan.twist == Twist::None
            || self.check.profile == Profile::BlockSize
            || matches!(
                self.play(&self.ground.stack, self.plan)?.stop,
                Some((_, Stop::Refused(again))) if again.asked == refusal.asked
            );
        let how = with_words(&refusal.how, &played.stderr);
        Ok(undisturbed
            .then(|| format!("{how}: it refuses the reference plugin undisturbed, and is judged over yours")))
    }

    /// Over the undisturbed reference plugin it serves a read of some usual size.
    fn serves(&self, asked: Asked) -> Result<bool, ServerError> {
        let Ok(claims) = &self.ground.claims else { return Ok(true) };
        let sizes = USUAL.iter().filter_map(|size| claims.range(0, *size));
        for place in sizes {
            let plan = CasePlan::new(vec![Op::Judge, Op::Connect(1, claims.export.clone()), read(place)]);
            match self.play(&self.ground.stack, &plan)?.stop {
                Some((_, Stop::Refused(again))) if again.asked == asked => {}
                _ => return Ok(true),
            }
        }
        Ok(false)
    }
}

impl Left {
    fn of(check: &ModuleCheck, ground: &ProbedStack, unfit: &Unfit) -> Left {
        let not_claimed = matches!(unfit, Unfit::NotClaimed(_));
        if ground.stack.readonly && not_claimed && check.profile.writes() {
            let verdict = Verdict::Skipped("it is not written to: see --allow-writes".to_owned());
            return Left { verdict, not_claimed: false };
        }
        Left { verdict: unfit.into(), not_claimed }
    }
}

fn relies_on_writes(plan: &CasePlan) -> bool {
    let is = |op: &Op, operation| matches!(op, Op::Request(request) if request.operation == operation);
    let reads = plan.script.iter().any(|op| is(op, Operation::Read) || is(op, Operation::BlockStatus));
    let writes = plan.script.iter().any(|op| is(op, Operation::Write));
    (reads && writes) || plan.script.iter().any(|op| matches!(op, Op::Load(_)))
}
