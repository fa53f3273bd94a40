//! What has been said so far. Cases are heard one at a time, in the order of the checks, however they were played.

use super::selection::Selection;
use super::task::{Case, MOST_FINDINGS, MOST_HANGS, Outcome, Task};
use crate::baseline::Baseline;
use crate::campaign::event_budget::EventBudget;
use crate::campaign::halt::Halt;
use crate::campaign::select::matches;
use crate::outcome::{Exit, Verdict};
use crate::rules::{CallRef, Finding as BrokenRule, Party};
use crate::run::stack::Stack;
use crate::validate::checks::check::{CasePlan, ModuleCheck, Play};
use crate::validate::is_module;
use crate::validate::judge::blame::Scene;
use crate::validate::judge::cause::Cause;
use crate::validate::judge::hints;
use crate::validate::judge::judging::verdict_of;
use crate::validate::judge::processes;
use crate::validate::judge::quoted;
use crate::validate::play::in_flight::in_flight;
use crate::validate::play::played::{Played, Terms, Trouble};
use crate::validate::play::stop::{Symptom, Wrong};
use crate::validate::play::twist::{innermost, twisted};
use crate::validate::play::words;
use crate::validate::verdict::profile::{self, ProfileResult};
use crate::validate::verdict::verdicts::{CheckVerdict, ModuleFinding, ModuleRuleVerdict};
use crate::validate::verdict::verdicts::{broken, worse};

/// What shows the place of a crash, and is not in the recording.
const CRASH: &str = "process.crash";
const WHERE: &str = "with --gdb in it, the line that replays this shows the functions in which it crashes";

/// Without this, nothing can be said of what comes after a write.
const READ_BACK: &str = "write.read-back";

/// A thread that stays has memory of its own.
const THREADS: &str = "resources.threads";
const MEMORY: &str = "resources.memory";

/// With this broken, memory is, and what comes of it is no fault of its own.
const BOUNDS: &str = "data.buffer.bounds";

/// A rule that the subject broke, whose innermost layer is `from`: our own plugin under somebody's filter is not what is
/// judged, and neither is the server.
pub(in crate::validate) fn is_of_subject(finding: &BrokenRule, from: u8) -> bool {
    let ours = |call: &CallRef| call.callback.is_some() && call.layer < from;
    is_module(finding.party) && !(finding.party == Party::Plugin && finding.calls.iter().all(ours))
}

/// All that has been said.
#[derive(Debug)]
pub(in crate::validate) struct Tally {
    terms: Terms,
    keeper: EventBudget,
    checks: Vec<CheckVerdict>,
    /// Those that are judged in every case.
    always: Vec<CheckVerdict>,
    rules: Vec<ModuleRuleVerdict>,
    /// Servers that were played.
    pub(in crate::validate) cases: u32,
    hangs: u32,
    /// What was found, in its order.
    causes: Vec<(&'static ModuleCheck, Cause)>,
    /// Why bytes that nobody has written are not compared any more, if so.
    live: Option<String>,
    /// Cases whose recording is not whole, and why the first of them is not.
    cut: u32,
    first_cut: Option<String>,
    /// What has ended the run before every case was over, and checks that are not judged for it.
    pub(in crate::validate) halt: Option<Halt>,
    unplayed: u32,
}

impl Tally {
    /// Nothing yet.
    pub(in crate::validate) fn new(selection: &Selection, terms: Terms, keeper: EventBudget) -> Tally {
        let always = selection.checks.iter().filter(|check| matches!(check.play, Play::Always));
        Tally {
            terms,
            keeper,
            checks: Vec::new(),
            always: always.map(|check| CheckVerdict::unsaid(check)).collect(),
            rules: selection.rules.iter().map(|rule| ModuleRuleVerdict::unsaid(rule)).collect(),
            cases: 0,
            hangs: 0,
            causes: Vec::new(),
            live: None,
            cut: 0,
            first_cut: None,
            halt: None,
            unplayed: 0,
        }
    }

    /// Of every check of this kind the same.
    pub(in crate::validate) fn say(
        &mut self,
        selection: &Selection,
        of: impl Fn(&Play) -> bool,
        verdict: &Verdict,
    ) {
        let some = selection.checks.iter().filter(|check| of(&check.play));
        self.checks.extend(
            some.map(|check| CheckVerdict { verdict: verdict.clone(), ..CheckVerdict::unsaid(check) }),
        );
    }

    /// Of every check of this kind the same, with a finding.
    pub(in crate::validate) fn say_wrong(
        &mut self,
        selection: &Selection,
        of: impl Fn(&Play) -> bool,
        verdict: &Verdict,
        finding: impl Fn(&'static ModuleCheck) -> ModuleFinding,
    ) {
        for check in selection.checks.iter().copied().filter(|check| of(&check.play)) {
            let (verdict, findings) = (verdict.clone(), vec![finding(check)]);
            self.checks.push(CheckVerdict { verdict, findings, ..CheckVerdict::unsaid(check) });
        }
    }

    /// What has been said of profiles so far.
    pub(in crate::validate) fn profiles(&self) -> Vec<ProfileResult> {
        profile::of(&self.checks)
    }

    /// So many cases hang that the rest is left out.
    pub(in crate::validate) fn hangs(&self) -> bool {
        self.hangs >= MOST_HANGS
    }

    /// What the cases of one check say. They count in their order, until enough is known.
    pub(in crate::validate) fn hear(&mut self, task: &Task<'_>, outcome: &Outcome) {
        let said = self.judge(task, outcome);
        match self.checks.last_mut() {
            Some(before) if before.check.id == said.check.id => before.join(said),
            _ => self.checks.push(said),
        }
    }

    fn judge(&mut self, task: &Task<'_>, outcome: &Outcome) -> CheckVerdict {
        let (check, mut said) = (task.check, CheckVerdict::unsaid(task.check));
        said.verdict = Verdict::Inconclusive("no case was played".to_owned());
        let (ground, plans) = match (task.ground, &task.plans) {
            (Some(ground), Ok(plans)) => (ground, plans),
            (_, Err(left)) => {
                return CheckVerdict { verdict: left.verdict.clone(), not_claimed: left.not_claimed, ..said };
            }
            (None, Ok(_)) => return said,
        };
        if self.hangs() {
            said.verdict = Verdict::Skipped("cases hang: see process.hang".to_owned());
            return said;
        }
        if check.id != READ_BACK && task.relies_on_writes() && self.is_broken(READ_BACK) {
            said.verdict = Verdict::Skipped(format!("what is written is not what is read: see {READ_BACK}"));
            return said;
        }
        if check.id == MEMORY && self.is_broken(THREADS) {
            said.verdict = Verdict::Skipped(format!("threads stay, with their memory: see {THREADS}"));
            return said;
        }
        if let Some(told) = self.told_without_a_crash(check) {
            said.verdict = Verdict::Skipped(format!("what lies around buffers is changed: see {told}"));
            return said;
        }
        let mut verdict: Option<Verdict> = None;
        for (plan, Case { played, excuse, control }) in plans.iter().zip(&outcome.cases) {
            let stack = twisted(&ground.stack, &plan.twist);
            self.absorb(&stack, control.as_ref().unwrap_or(plan), played);
            said.evidence += played.evidence;
            let heard = match (excuse, control) {
                (Some(excuse), _) => Verdict::Skipped(excuse.clone()),
                (None, Some(control)) => self.hear_control(check, control, played),
                (None, None) => self.hear_case(&mut said, plan, played, &stack, outcome),
            };
            verdict = Some(match verdict {
                Some(before) => worse(before, heard),
                None => heard,
            });
            if said.findings.len() + said.held.len() >= MOST_FINDINGS || self.hangs() {
                break;
            }
        }
        said.verdict = verdict.unwrap_or(said.verdict);
        if let Some(halt) = outcome.halt {
            self.halt = self.halt.or(Some(halt));
            // What was found is found; what holds may not hold in the cases that are missing.
            if said.findings.is_empty() {
                self.unplayed += 1;
                said.verdict = Verdict::Skipped(format!("not judged: {}", halt.reason()));
            }
        }
        said
    }

    /// What a case says of the check that it was played for.
    fn hear_case(
        &mut self,
        said: &mut CheckVerdict,
        plan: &CasePlan,
        played: &Played,
        stack: &Stack,
        outcome: &Outcome,
    ) -> Verdict {
        let check = said.check;
        let (verdict, wrong) = verdict_of(check, plan, played);
        let Some((index, wrong)) = wrong else {
            return match verdict {
                Verdict::Inconclusive(why) => self.explained(check, why, played),
                Verdict::Pass if plan.compares => alike(played).map_or(Verdict::Pass, Verdict::Skipped),
                other => other,
            };
        };
        if let (Symptom::Data { learnt: true }, Some(live)) = (wrong.symptom, self.live.clone()) {
            return Verdict::Skipped(live);
        }
        let cause = Cause::of(plan, played, index, &wrong, innermost(stack));
        let scene = Scene { stack, plan, index, terms: self.terms };
        // What was not kept is the fault of the server that should have.
        let kept = played.stop.as_ref().is_some_and(|(at, _)| *at == index) && !played.before.is_empty();
        let events = if kept { &played.before } else { &played.events };
        let (calls, guilty) =
            if kept { quoted::promise(events, &wrong) } else { quoted::calls(events, &wrong) };
        let hint = wrong.origin.zip(wrong.range).map(|(origin, (at, _))| origin.words(at));
        let finding = ModuleFinding { guilty, hint, ..scene.finding(check, &wrong, calls) };
        let blame = outcome.suspects.map(|suspects| scene.suspected(suspects, check.party));
        let (run, said_words) = (self.keeper.keep(Some(events)), words::said(&played.stderr));
        let finding =
            ModuleFinding { blame: blame.unwrap_or(finding.blame), run, said: said_words, ..finding };
        if let Some(first) = self.first_like(check, &cause) {
            said.held.push(finding);
            said.follows = Some(first);
            self.also(first, check.id);
            return Verdict::Skipped(format!("{}: see {first}", wrong.actual));
        }
        self.causes.push((check, cause));
        said.findings.push(finding);
        verdict
    }

    /// What a case in the foreground says of a check of the background: it goes wrong as well, as others tell.
    fn hear_control(&mut self, check: &'static ModuleCheck, control: &CasePlan, played: &Played) -> Verdict {
        let why = match verdict_of(check, control, played) {
            (_, Some((_, wrong))) => wrong.actual,
            (Verdict::Inconclusive(why), None) => why,
            (verdict, None) => return verdict,
        };
        self.explained(check, format!("in the foreground, too: {why}"), played)
    }

    /// Why nothing could be told: a cause that was found already is one, and what else is broken may be.
    fn explained(&mut self, check: &'static ModuleCheck, why: String, played: &Played) -> Verdict {
        let cause = Cause::of_set_up(played);
        if let Some(first) = cause.and_then(|cause| self.first_like(check, &cause)) {
            self.also(first, check.id);
            return Verdict::Skipped(format!("{why}: see {first}"));
        }
        match self.first_broken() {
            Some(other) => Verdict::Skipped(format!("{why} (see {other})")),
            None => Verdict::Inconclusive(why),
        }
    }

    /// The check that has found this cause before.
    fn first_like(&self, check: &ModuleCheck, cause: &Cause) -> Option<&'static str> {
        let like = |(first, before): &&(&'static ModuleCheck, Cause)| {
            first.id != check.id && cause.follows(check, first, before)
        };
        self.causes.iter().find(like).map(|(first, _)| first.id)
    }

    /// The first finding of one check is what another one has met.
    fn also(&mut self, first: &str, id: &'static str) {
        let found = self.checks.iter_mut().find(|said| said.check.id == first);
        if let Some(finding) = found.and_then(|said| said.findings.first_mut())
            && !finding.also.contains(&id)
        {
            finding.also.push(id);
        }
    }

    fn is_broken(&self, id: &str) -> bool {
        self.checks.iter().any(|said| said.check.id == id && !said.findings.is_empty())
    }

    /// The rule that has told of a fault already which would end this check in a crash.
    fn told_without_a_crash(&self, check: &ModuleCheck) -> Option<&'static str> {
        let broken = |said: &&ModuleRuleVerdict| said.rule.id == BOUNDS && !said.findings.is_empty();
        let told = self.rules.iter().find(broken).map(|said| said.rule.id);
        told.filter(|_| check.id.starts_with("buffers."))
    }

    /// A check that has failed already, and is a reason for others to go no further.
    fn first_broken(&self) -> Option<&'static str> {
        let all = self.always.iter().chain(&self.checks);
        all.filter(|said| said.verdict.exit() == Exit::Violation).map(|said| said.check.id).next()
    }

    /// What a case says besides what it was played for.
    pub(in crate::validate) fn absorb(&mut self, stack: &Stack, plan: &CasePlan, played: &Played) {
        let from = innermost(stack);
        self.cases += 1;
        self.hangs += u32::from(matches!(played.trouble, Some(Trouble::Hang(_))));
        let index = played.stop.as_ref().map_or(plan.script.len(), |(index, _)| *index);
        let scene = Scene { stack, plan, index, terms: self.terms };
        self.judge_process(&scene, played, from);
        if let Some(why) = &played.incomplete {
            // What hangs may go on calling until there is no room: that it hangs is what there is to say.
            if !matches!(played.trouble, Some(Trouble::Hang(_))) {
                self.cut += 1;
                self.first_cut.get_or_insert_with(|| why.clone());
            }
        } else {
            self.judge_rules(&scene, played, from);
        }
    }

    fn judge_process(&mut self, scene: &Scene<'_>, played: &Played, from: u8) {
        for seen in processes::look(scene.plan, played, from) {
            let Some(said) = self.always.iter_mut().find(|one| one.check.id == seen.id) else { continue };
            if said.findings.is_empty() {
                said.verdict = seen.verdict.unwrap_or_else(|| broken(said.check.level));
            }
            if said.findings.len() < MOST_FINDINGS
                && !said.findings.iter().any(|one| one.actual == seen.wrong.actual)
            {
                let calls = if seen.calls.is_empty() { in_flight(&played.events) } else { seen.calls };
                let run = self.keeper.keep(Some(&played.events));
                let hint = (seen.id == CRASH).then(|| WHERE.to_owned());
                let finding = ModuleFinding { hint, ..scene.finding(said.check, &seen.wrong, calls) };
                said.findings.push(ModuleFinding { run, said: words::said(&played.stderr), ..finding });
            }
        }
        for said in &mut self.always {
            if said.findings.is_empty() && processes::is_judged(said.check.id, scene.plan, played) {
                said.verdict = Verdict::Pass;
            }
        }
    }

    fn judge_rules(&mut self, scene: &Scene<'_>, played: &Played, from: u8) {
        for result in &played.judgement.results {
            let Some(said) = self.rules.iter_mut().find(|one| one.rule.id == result.rule.id) else {
                continue;
            };
            said.exercised += result.exercised;
            let mut found = result.findings.iter().filter(|finding| is_of_subject(finding, from));
            let Some(first) = found.next() else { continue };
            said.broken +=
                if is_module(result.rule.party) { result.broken } else { 1 + found.count() as u64 };
            let found = first;
            if said.findings.len() >= MOST_FINDINGS {
                continue;
            }
            let rule = result.rule;
            let wrong = Wrong::new(found.expected.clone(), found.actual.clone());
            let blame = scene.of_rule(found, &played.events);
            said.findings.push(ModuleFinding {
                hint: hints::of(found, &played.events),
                repro: Some(Box::new(scene.repro(rule.id, &wrong))),
                run: self.keeper.keep(Some(&played.events)),
                said: words::said(&played.stderr),
                ..ModuleFinding::of_rule(rule, found, blame)
            });
        }
    }

    /// Something was found already that will fail the run: not what is known, but warnings that are denied.
    pub(in crate::validate) fn fails(&self, known: &Baseline, deny: &[String]) -> bool {
        let new = |findings: &[ModuleFinding]| findings.iter().any(|finding| known.of(finding).is_none());
        let counts = |id: &str, violates: bool| violates || deny.iter().any(|pattern| matches(pattern, id));
        let mut checks = self.checks.iter().chain(&self.always);
        checks
            .any(|said| new(&said.findings) && counts(said.check.id, said.verdict.exit() == Exit::Violation))
            || self.rules.iter().any(|said| {
                new(&said.findings)
                    && counts(said.rule.id, Verdict::of_rule(said.rule, 1, true) == Verdict::Fail)
            })
    }

    /// Says of every check of which nothing was said that the run was ended before.
    pub(in crate::validate) fn leave_out_unsaid(&mut self, selection: &Selection) {
        let Some(halt) = self.halt else { return };
        let is_said = |check: &ModuleCheck| {
            let mut all = self.checks.iter().chain(&self.always);
            all.any(|said| said.check.id == check.id)
        };
        let unsaid: Vec<_> = selection.checks.iter().copied().filter(|check| !is_said(check)).collect();
        self.unplayed += u32::try_from(unsaid.len()).unwrap_or(u32::MAX);
        let verdict = Verdict::Skipped(format!("not judged: {}", halt.reason()));
        self.checks.extend(
            unsaid
                .into_iter()
                .map(|check| CheckVerdict { verdict: verdict.clone(), ..CheckVerdict::unsaid(check) }),
        );
    }

    /// Says how many checks are not judged because the run was ended; `None` where it was not.
    pub(in crate::validate) fn halted(&self) -> Option<String> {
        let reason = self.halt?.reason();
        Some(match self.unplayed {
            1 => format!("{reason}, and 1 check is not judged"),
            checks => format!("{reason}, and {checks} checks are not judged"),
        })
    }

    /// Says of how many cases the recording is not whole, and why; `None` where all are.
    pub(in crate::validate) fn cut(&self) -> Option<String> {
        let why = self.first_cut.as_ref()?;
        let cases = if self.cut == 1 { "1 case is" } else { &format!("{} cases are", self.cut) };
        Some(format!("the recording of {cases} not whole: {why}"))
    }

    /// All verdicts, in the order of the selection.
    pub(in crate::validate) fn finish(
        mut self,
        selection: &Selection,
    ) -> (Vec<CheckVerdict>, Vec<ModuleRuleVerdict>) {
        self.checks.append(&mut self.always);
        let place = |id: &str| selection.checks.iter().position(|check| check.id == id);
        self.checks.sort_by_key(|said| place(said.check.id));
        let cut = self.cut();
        for said in &mut self.rules {
            said.verdict = match (said.findings.is_empty(), &cut) {
                (true, Some(cut)) => Verdict::Inconclusive(cut.clone()),
                (holds, _) => Verdict::of_rule(said.rule, said.exercised, !holds),
            };
        }
        (self.checks, self.rules)
    }
}

/// What nothing can be told from, if the bytes of a case are all alike.
fn alike(played: &Played) -> Option<String> {
    let byte = played.evidence.all_alike()?;
    Some(format!("every byte that was read is {byte:#04x}, which tells nothing of reads at a wrong place"))
}
