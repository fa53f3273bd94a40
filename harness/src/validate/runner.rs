//! Playing the checks, and collecting what is said.

use std::path::PathBuf;

use layers_behaviour::Behaviour;
use layers_trace::Operation;

use super::case::{Bench, Played, Stop, Trouble, Wrong, judge_outcome};
use super::check::{Check, Level, Plan, Play, Twist};
use super::claims::Claims;
use super::discovery::{Found, discover};
use super::image::{self, Role};
use super::op::Op;
use super::repro::{FORMAT, Repro};
use super::verdicts::{Blame, CheckVerdict, Finding, RuleVerdict, Validation};
use super::{Listener, Selection, Validate, processes, profile, quoted, subject};
use crate::rules::{Kind, Party, Trouble as TraceTrouble};
use crate::run::Parameter;
use crate::server::nbdkit::{Nbdkit, ServerError};
use crate::stack::{Layers, Stack};
use crate::verdict::{Exit, Verdict};

/// Cases that may hang before the rest is left out.
const MOST_HANGS: u32 = 2;
/// Findings that are kept of one check or rule.
const MOST_FINDINGS: usize = 3;
/// Parameter that says how large our own plugin's disk is.
const OWN_SIZE: &str = "64M";

/// Runs all of it.
pub(super) fn run(
    validate: &Validate,
    nbdkit: &Nbdkit,
    selection: &Selection,
    listener: &mut dyn Listener,
) -> Result<Validation, ServerError> {
    let mut stack = validate.stack.clone();
    let storage = subject::users_storage(&stack).filter(|_| !validate.allow_writes && !stack.readonly);
    let spared = storage.map(subject::parameter_text);
    stack.readonly |= spared.is_some();
    let bench = Bench { nbdkit, timeout: validate.timeout, memory: validate.memory, seed: validate.seed };
    let mut runner = Runner {
        bench,
        stack,
        checks: Vec::new(),
        rules: selection.rules.iter().map(|rule| fresh(rule)).collect(),
        always: selection
            .checks
            .iter()
            .copied()
            .filter(|check| matches!(check.play, Play::Always))
            .map(unsaid)
            .collect(),
        cases: 0,
        hangs: 0,
    };
    let outcome = runner.run(selection, listener)?;
    Ok(runner.finish(validate, selection, spared, outcome))
}

/// How far it went.
struct Reached {
    claims: Option<Claims>,
    unloadable: Option<String>,
}

struct Runner<'a> {
    bench: Bench<'a>,
    /// As it is played: read-only where the storage is the user's.
    stack: Stack,
    checks: Vec<CheckVerdict>,
    /// Those that are judged in every case.
    always: Vec<CheckVerdict>,
    rules: Vec<RuleVerdict>,
    cases: u32,
    hangs: u32,
}

impl Runner<'_> {
    fn run(&mut self, selection: &Selection, listener: &mut dyn Listener) -> Result<Reached, ServerError> {
        if let Err(wrong) = self.look_at_files() {
            self.say_of_file(selection, Some(&wrong));
            self.leave_out(selection, "the subject cannot be loaded");
            return Ok(Reached { claims: None, unloadable: Some(wrong) });
        }
        let (found, explored) = discover(&self.bench, &self.stack, 0)?;
        let stack = self.stack.clone();
        for one in explored {
            self.absorb(&stack, &one.plan, &one.played, 0);
        }
        let claims = match found {
            Found::Claims(claims) => claims,
            Found::DoesNotStart(reason) => {
                let wrong = image::of_server(&reason);
                self.say_of_file(selection, wrong.as_deref());
                self.leave_out(selection, "the subject does not start");
                return Ok(Reached { claims: None, unloadable: Some(reason) });
            }
            Found::Troubled => {
                self.say_of_file(selection, None);
                self.leave_out(selection, "the server did not survive the first connection");
                return Ok(Reached { claims: None, unloadable: None });
            }
            Found::NoExport(reason) => {
                self.say_of_file(selection, None);
                self.leave_out(selection, &format!("no export opens: {reason}"));
                return Ok(Reached { claims: None, unloadable: None });
            }
        };
        self.say_of_file(selection, None);
        for check in &selection.checks {
            listener.playing(check);
            let said = match check.play {
                Play::Stack(plans) => {
                    let stack = self.stack.clone();
                    self.play(check, plans(&claims), &stack, 0)?
                }
                Play::Filter(plans) => self.play_filters(check, plans)?,
                Play::Always | Play::File => continue,
            };
            self.checks.push(said);
        }
        Ok(Reached { claims: Some(claims), unloadable: None })
    }

    fn look_at_files(&self) -> Result<(), String> {
        let Layers::Wrapped { filters, plugin } = &self.stack.layers else { return Ok(()) };
        let nbdkit = self.bench.nbdkit;
        let look =
            |path: PathBuf, role| image::look(&path, role, &nbdkit.path).map_err(|error| error.to_string());
        for filter in filters {
            look(nbdkit.filter_file(filter), Role::Filter)?;
        }
        look(nbdkit.plugin_file(plugin), Role::Plugin)
    }

    fn say_of_file(&mut self, selection: &Selection, wrong: Option<&str>) {
        let of_file = selection.checks.iter().filter(|check| matches!(check.play, Play::File));
        for check in of_file {
            let mut said = unsaid(check);
            if let Some(actual) = wrong {
                let wrong = Wrong::new("a module that this server can load", actual);
                let plan = Plan::new(Vec::new());
                let repro = repro(check.id, &self.stack, &plan, &wrong, 0, self.bench.seed);
                said.findings.push(finding_of(
                    check,
                    &wrong,
                    Vec::new(),
                    blame(&self.stack, None, check.party),
                    repro,
                ));
                said.verdict = Verdict::Fail;
            } else {
                said.verdict = Verdict::Pass;
            }
            self.checks.push(said);
        }
    }

    fn leave_out(&mut self, selection: &Selection, reason: &str) {
        let played = selection.checks.iter().filter(|check| !matches!(check.play, Play::Always | Play::File));
        self.checks.extend(
            played
                .map(|check| CheckVerdict { verdict: Verdict::Skipped(reason.to_owned()), ..unsaid(check) }),
        );
    }

    /// Each filter alone over our own plugin.
    fn play_filters(
        &mut self,
        check: &'static Check,
        plans: fn(&Claims) -> super::check::Planned,
    ) -> Result<CheckVerdict, ServerError> {
        let Layers::Wrapped { filters, .. } = self.stack.layers.clone() else { return Ok(unsaid(check)) };
        if filters.is_empty() {
            let verdict = Verdict::NotApplicable("not claimed: there is no filter".to_owned());
            return Ok(CheckVerdict { verdict, not_claimed: true, ..unsaid(check) });
        }
        let mut all: Option<CheckVerdict> = None;
        for filter in filters {
            let stack = over(&self.stack, &filter, &Behaviour::default());
            let (found, explored) = discover(&self.bench, &stack, 1)?;
            for one in explored {
                self.absorb(&stack, &one.plan, &one.played, 1);
            }
            let said = match found {
                Found::Claims(claims) => self.play(check, plans(&claims), &stack, 1)?,
                Found::NoExport(reason) | Found::DoesNotStart(reason) => {
                    let reason = format!("{filter} does not serve over the reference plugin: {reason}");
                    CheckVerdict { verdict: Verdict::NotApplicable(reason), ..unsaid(check) }
                }
                Found::Troubled => {
                    let reason = format!("{filter} over the reference plugin did not survive a connection");
                    CheckVerdict { verdict: Verdict::Inconclusive(reason), ..unsaid(check) }
                }
            };
            all = Some(match all {
                None => said,
                Some(before) => together(before, said),
            });
        }
        Ok(all.unwrap_or_else(|| unsaid(check)))
    }

    /// Plays the cases of one check until one has something bad to say.
    fn play(
        &mut self,
        check: &'static Check,
        plans: super::check::Planned,
        stack: &Stack,
        from: u8,
    ) -> Result<CheckVerdict, ServerError> {
        let mut said = unsaid(check);
        let plans = match plans {
            Ok(plans) => plans,
            Err(unfit) => {
                said.not_claimed = matches!(unfit, super::check::Unfit::NotClaimed(_));
                said.verdict = (&unfit).into();
                if stack.readonly && said.not_claimed && check.profile.writes() {
                    said.not_claimed = false;
                    said.verdict = Verdict::Skipped("it is not written to: see --allow-writes".to_owned());
                }
                return Ok(said);
            }
        };
        if self.hangs >= MOST_HANGS {
            said.verdict = Verdict::Skipped("cases hang: see process.hang".to_owned());
            return Ok(said);
        }
        if check.id != READ_BACK && plans.iter().any(relies_on_writes) && self.is_broken(READ_BACK) {
            said.verdict = Verdict::Skipped(format!("what is written is not what is read: see {READ_BACK}"));
            return Ok(said);
        }
        for plan in plans {
            let stack = twisted(stack, &plan.twist);
            let played = self.bench.play(check.id, &stack, &plan)?;
            self.absorb(&stack, &plan, &played, from);
            let (mut verdict, wrong) = verdict_of(check, &plan, &played);
            if let (Verdict::Inconclusive(why), Some(other)) = (&verdict, self.first_broken()) {
                verdict = Verdict::Skipped(format!("{why} (see {other})"));
            }
            if let Some((index, wrong)) = wrong {
                let repro = repro(check.id, &stack, &plan, &wrong, index, self.bench.seed);
                let calls = quoted::calls(&played.events, &wrong);
                let blame = blame(&stack, calls.last().map(|call| call.layer), check.party);
                said.findings.push(finding_of(check, &wrong, calls, blame, repro));
            }
            said.verdict = worse(said.verdict, verdict);
            if said.findings.len() >= MOST_FINDINGS || self.hangs >= MOST_HANGS {
                break;
            }
        }
        Ok(said)
    }

    fn is_broken(&self, id: &str) -> bool {
        self.checks.iter().any(|said| said.check.id == id && !said.findings.is_empty())
    }

    /// A check that has failed already, and is a reason for others to go no further.
    fn first_broken(&self) -> Option<&'static str> {
        let all = self.always.iter().chain(&self.checks);
        all.filter(|said| said.verdict.exit() == Exit::Violation).map(|said| said.check.id).next()
    }

    /// What a case says besides what it was played for.
    fn absorb(&mut self, stack: &Stack, plan: &Plan, played: &Played, from: u8) {
        self.cases += 1;
        self.hangs += u32::from(matches!(played.trouble, Some(Trouble::Hang(_))));
        let index = played.stop.as_ref().map_or(plan.script.len(), |(index, _)| *index);
        for seen in processes::look(plan, played, from) {
            let Some(said) = self.always.iter_mut().find(|one| one.check.id == seen.id) else { continue };
            let verdict = seen.verdict.unwrap_or_else(|| broken(said.check.level));
            if said.findings.is_empty() {
                said.verdict = verdict;
            }
            if said.findings.len() < MOST_FINDINGS
                && !said.findings.iter().any(|one| one.actual == seen.wrong.actual)
            {
                let calls =
                    if seen.calls.is_empty() { processes::in_flight(&played.events) } else { seen.calls };
                let blame = blame(stack, calls.last().map(|call| call.layer), said.check.party);
                let repro = repro(seen.id, stack, plan, &seen.wrong, index, self.bench.seed);
                said.findings.push(finding_of(said.check, &seen.wrong, calls, blame, repro));
            }
        }
        for said in &mut self.always {
            if said.findings.is_empty() && processes::is_judged(said.check.id, played) {
                said.verdict = Verdict::Pass;
            }
        }
        self.judge_rules(stack, plan, played, from, index);
    }

    fn judge_rules(&mut self, stack: &Stack, plan: &Plan, played: &Played, from: u8, index: usize) {
        if played.judgement.troubles.iter().any(|trouble| matches!(trouble, TraceTrouble::Lost(_))) {
            return;
        }
        for result in &played.judgement.results {
            let Some(said) = self.rules.iter_mut().find(|one| one.rule.id == result.rule.id) else {
                continue;
            };
            said.exercised += result.exercised;
            // Our own plugin under somebody's filter is not what is judged.
            let ours = |finding: &&crate::rules::Finding| {
                finding.calls.iter().all(|call| call.callback.is_some() && call.layer < from)
            };
            let Some(found) = result.findings.iter().find(|finding| !ours(finding)) else { continue };
            said.broken += result.broken;
            if said.findings.len() >= MOST_FINDINGS {
                continue;
            }
            let rule = result.rule;
            let wrong = Wrong::new(found.expected.clone(), found.actual.clone());
            said.findings.push(Finding {
                id: rule.id,
                level: RuleVerdict::level(rule),
                statement: rule.statement,
                clause: rule.clause,
                fix: rule.fix,
                expected: found.expected.clone(),
                actual: found.actual.clone(),
                calls: found.calls.clone(),
                blame: blame(stack, found.calls.last().map(|call| call.layer), rule.party),
                repro: Box::new(repro(rule.id, stack, plan, &wrong, index, self.bench.seed)),
            });
        }
    }

    fn finish(
        mut self,
        validate: &Validate,
        selection: &Selection,
        spared: Option<String>,
        reached: Reached,
    ) -> Validation {
        self.checks.append(&mut self.always);
        let place = |id: &str| selection.checks.iter().position(|check| check.id == id);
        self.checks.sort_by_key(|said| place(said.check.id));
        for said in &mut self.rules {
            said.verdict = match (said.findings.is_empty(), said.exercised) {
                (true, 0) => {
                    Verdict::NotApplicable(format!("never exercised: needs {}", said.rule.antecedent))
                }
                (true, _) => Verdict::Pass,
                (false, _) if said.rule.kind == Kind::Observed => Verdict::Warn,
                (false, _) => Verdict::Fail,
            };
        }
        Validation {
            subject: subject::words(&validate.stack),
            server: self.bench.nbdkit.version.to_string(),
            spared,
            claims: reached.claims,
            unloadable: reached.unloadable,
            profiles: profile::of(&self.checks),
            checks: self.checks,
            rules: self.rules,
            cases: self.cases,
        }
    }
}

/// Without this, nothing can be said of what comes after a write.
const READ_BACK: &str = "write.read-back";

/// It writes, and reads.
fn relies_on_writes(plan: &Plan) -> bool {
    let is = |op: &Op, operation| matches!(op, Op::Request(request) if request.operation == operation);
    let reads = plan.script.iter().any(|op| is(op, Operation::Read) || is(op, Operation::BlockStatus));
    let writes = plan.script.iter().any(|op| is(op, Operation::Write));
    (reads && writes) || plan.script.iter().any(|op| matches!(op, Op::Load(_)))
}

fn fresh(rule: &'static crate::rules::Rule) -> RuleVerdict {
    RuleVerdict { rule, verdict: Verdict::Pass, exercised: 0, broken: 0, findings: Vec::new() }
}

fn unsaid(check: &'static Check) -> CheckVerdict {
    let verdict = Verdict::NotApplicable("no case was played".to_owned());
    CheckVerdict { check, verdict, not_claimed: false, findings: Vec::new() }
}

fn broken(level: Level) -> Verdict {
    match level {
        Level::Must => Verdict::Fail,
        Level::Should | Level::Pedantic => Verdict::Warn,
    }
}

/// The one of two verdicts on cases of the same check that says more.
fn worse(one: Verdict, other: Verdict) -> Verdict {
    let rank = |verdict: &Verdict| match verdict {
        Verdict::HarnessError(_) => 0,
        Verdict::Crash(_) | Verdict::Hang(_) => 1,
        Verdict::Fail => 2,
        Verdict::Warn => 3,
        Verdict::Inconclusive(_) => 4,
        Verdict::Pass => 5,
        Verdict::Skipped(_) => 6,
        Verdict::NotApplicable(_) => 7,
    };
    if rank(&other) < rank(&one) { other } else { one }
}

fn together(mut one: CheckVerdict, other: CheckVerdict) -> CheckVerdict {
    one.findings.extend(other.findings);
    one.verdict = worse(one.verdict, other.verdict);
    one.not_claimed &= other.not_claimed;
    one
}

/// What one case says of the check that it was played for; what is wrong comes with the index of the step.
fn verdict_of(check: &Check, plan: &Plan, played: &Played) -> (Verdict, Option<(usize, Wrong)>) {
    let inconclusive = |why: &str| (Verdict::Inconclusive(why.to_owned()), None);
    match &played.trouble {
        Some(Trouble::Crash(_)) => return inconclusive("the server crashed: see process.crash"),
        Some(Trouble::Hang(_)) => return inconclusive("the server hung: see process.hang"),
        Some(Trouble::Exit(_)) => return inconclusive("the server went away: see process.exit"),
        Some(Trouble::Memory(_)) => return inconclusive("the server was killed: see process.memory"),
        Some(Trouble::Lost) => return inconclusive("something else killed the server with SIGKILL"),
        None => {}
    }
    if let Err(wrong) = judge_outcome(plan, played) {
        return (broken(check.level), Some((plan.script.len(), wrong)));
    }
    match &played.stop {
        None => (Verdict::Pass, None),
        Some((index, Stop::Wrong(wrong))) if played.judged => {
            (broken(check.level), Some((*index, wrong.clone())))
        }
        Some((_, Stop::Wrong(wrong))) => inconclusive(&format!(
            "its set-up went wrong: expected: {}; actual: {}",
            wrong.expected, wrong.actual
        )),
        Some((_, Stop::Refused(how))) => (Verdict::NotApplicable(format!("refused: {how}")), None),
        Some((_, Stop::Gone(what))) => inconclusive(&format!("the connection ended at `{what}`")),
        Some((_, Stop::NoAnswer(what))) => inconclusive(&format!("no answer to `{what}`")),
    }
}

fn finding_of(
    check: &'static Check,
    wrong: &Wrong,
    calls: Vec<crate::rules::CallRef>,
    blame: Blame,
    repro: Repro,
) -> Finding {
    Finding {
        id: check.id,
        level: check.level,
        statement: check.statement,
        clause: check.clause,
        fix: check.fix,
        expected: wrong.expected.clone(),
        actual: wrong.actual.clone(),
        calls,
        blame,
        repro: Box::new(repro),
    }
}

/// Names a layer; without filters only the plugin can be meant.
fn blame(stack: &Stack, layer: Option<u8>, party: Party) -> Blame {
    let (filters, plugin): (&[String], Option<&str>) = match &stack.layers {
        Layers::Wrapped { filters, plugin } => (filters, Some(plugin)),
        Layers::Over { filters, .. } => (filters, None),
        Layers::Reference(_) => (&[], None),
    };
    let layer = if filters.is_empty() { Some(0) } else { layer };
    let layer = if plugin.is_none() && filters.len() == 1 { Some(1) } else { layer };
    let filter = |layer: u8| filters.len().checked_sub(layer.into()).and_then(|index| filters.get(index));
    match layer {
        Some(0) => Blame { layer, name: plugin.unwrap_or_default().to_owned(), party: Party::Plugin },
        Some(number) => {
            Blame { layer, name: filter(number).cloned().unwrap_or_default(), party: Party::Filter }
        }
        None => Blame { layer, name: subject::words(stack), party },
    }
}

fn repro(id: &str, stack: &Stack, plan: &Plan, wrong: &Wrong, index: usize, seed: u64) -> Repro {
    Repro {
        layers_repro: FORMAT,
        check: id.to_owned(),
        expected: wrong.expected.clone(),
        actual: wrong.actual.clone(),
        seed,
        start: plan.start,
        outcome: plan.outcome,
        refusal_fails: plan.refusal_fails,
        script: plan.script.iter().take(index.saturating_add(1)).cloned().collect(),
        stack: stack.clone(),
    }
}

fn twisted(stack: &Stack, twist: &Twist) -> Stack {
    let mut stack = stack.clone();
    match twist {
        Twist::None => {}
        Twist::Readonly => stack.readonly = true,
        Twist::Parameter(parameter) => stack.parameters.push(parameter.clone()),
        Twist::Bare => stack.parameters.clear(),
        Twist::Over(behaviour) => {
            if let Layers::Over { plugin, .. } = &mut stack.layers {
                plugin.clone_from(behaviour);
            }
        }
    }
    stack
}

/// This filter alone, with the parameters that may be its own, over our plugin.
fn over(stack: &Stack, filter: &str, behaviour: &Behaviour) -> Stack {
    let size = Parameter { key: Some("size".to_owned()), value: OWN_SIZE.to_owned() };
    let keyed = stack.parameters.iter().filter(|one| one.key.as_deref().is_some_and(|key| key != "size"));
    Stack {
        layers: Layers::Over { filters: vec![filter.to_owned()], plugin: Box::new(behaviour.clone()) },
        parameters: std::iter::once(size).chain(keyed.cloned()).collect(),
        readonly: false,
        ..stack.clone()
    }
}

/// Replays a case; says what breaks its check or rule now, if anything does.
pub fn replay(
    repro: &Repro,
    nbdkit: &Nbdkit,
    timeout: std::time::Duration,
) -> Result<Option<Wrong>, ServerError> {
    let bench = Bench { nbdkit, timeout, memory: 2 << 30, seed: repro.seed };
    let plan = repro.plan();
    let played = bench.play(&repro.check, &repro.stack, &plan)?;
    let of_process = processes::look(&plan, &played, 0).into_iter().find(|seen| seen.id == repro.check);
    if let Some(seen) = of_process {
        return Ok(Some(seen.wrong));
    }
    if let Some(result) = played.judgement.result(&repro.check) {
        let found = result.findings.first();
        return Ok(found.map(|found| Wrong::new(found.expected.clone(), found.actual.clone())));
    }
    let Some(check) = super::checks::find(&repro.check) else { return Ok(None) };
    Ok(verdict_of(check, &plan, &played).1.map(|(_, wrong)| wrong))
}
