//! What has been said so far. Cases are heard one at a time, in the order of the checks, however they were played.

use super::Selection;
use super::blame::Scene;
use super::case::{Played, Terms, Trouble, Wrong};
use super::check::{Check, Plan, Play};
use super::ground::{innermost, twisted};
use super::judging::{broken, verdict_of, worse};
use super::task::{MOST_FINDINGS, MOST_HANGS, Outcome, Task};
use super::verdicts::{CheckVerdict, Finding, RuleVerdict};
use super::{is_module, processes, quoted};
use crate::kept::Keeper;
use crate::rules::{CallRef, Finding as BrokenRule, Kind, Party};
use crate::stack::Stack;
use crate::verdict::{Exit, Verdict};

/// Without this, nothing can be said of what comes after a write.
const READ_BACK: &str = "write.read-back";

/// A thread that stays has memory of its own.
const THREADS: &str = "resources.threads";
const MEMORY: &str = "resources.memory";

/// With this broken, memory is, and what comes of it is no fault of its own.
const BOUNDS: &str = "data.buffer.bounds";

/// A rule that the subject broke, whose innermost layer is `from`: our own plugin under somebody's filter is not what is
/// judged, and neither is the server.
pub(super) fn is_of_subject(finding: &BrokenRule, from: u8) -> bool {
    let ours = |call: &CallRef| call.callback.is_some() && call.layer < from;
    is_module(finding.party) && !(finding.party == Party::Plugin && finding.calls.iter().all(ours))
}

/// All that has been said.
#[derive(Debug)]
pub(super) struct Collected {
    terms: Terms,
    keeper: Keeper,
    checks: Vec<CheckVerdict>,
    /// Those that are judged in every case.
    always: Vec<CheckVerdict>,
    rules: Vec<RuleVerdict>,
    /// Servers that were played.
    pub(super) cases: u32,
    hangs: u32,
    /// Cases whose recording is not whole, and why the first of them is not.
    cut: u32,
    first_cut: Option<String>,
}

impl Collected {
    /// Nothing yet.
    pub(super) fn new(selection: &Selection, terms: Terms, keeper: Keeper) -> Collected {
        let always = selection.checks.iter().filter(|check| matches!(check.play, Play::Always));
        Collected {
            terms,
            keeper,
            checks: Vec::new(),
            always: always.map(|check| CheckVerdict::unsaid(check)).collect(),
            rules: selection.rules.iter().map(|rule| RuleVerdict::unsaid(rule)).collect(),
            cases: 0,
            hangs: 0,
            cut: 0,
            first_cut: None,
        }
    }

    /// Of every check of this kind the same.
    pub(super) fn say(&mut self, selection: &Selection, of: impl Fn(&Play) -> bool, verdict: &Verdict) {
        let some = selection.checks.iter().filter(|check| of(&check.play));
        self.checks.extend(
            some.map(|check| CheckVerdict { verdict: verdict.clone(), ..CheckVerdict::unsaid(check) }),
        );
    }

    /// Of every check of this kind the same, with a finding.
    pub(super) fn say_wrong(
        &mut self,
        selection: &Selection,
        of: impl Fn(&Play) -> bool,
        verdict: &Verdict,
        finding: impl Fn(&'static Check) -> Finding,
    ) {
        for check in selection.checks.iter().copied().filter(|check| of(&check.play)) {
            let (verdict, findings) = (verdict.clone(), vec![finding(check)]);
            self.checks.push(CheckVerdict { verdict, findings, ..CheckVerdict::unsaid(check) });
        }
    }

    /// So many cases hang that the rest is left out.
    pub(super) fn hangs(&self) -> bool {
        self.hangs >= MOST_HANGS
    }

    /// What the cases of one check say. They count in their order, until enough is known.
    pub(super) fn hear(&mut self, task: &Task<'_>, outcome: &Outcome) {
        let said = self.judge(task, outcome);
        match self.checks.last_mut() {
            Some(before) if before.check.id == said.check.id => before.join(said),
            _ => self.checks.push(said),
        }
    }

    fn judge(&mut self, task: &Task<'_>, outcome: &Outcome) -> CheckVerdict {
        let (check, mut said) = (task.check, CheckVerdict::unsaid(task.check));
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
        for (plan, played) in plans.iter().zip(&outcome.cases) {
            let stack = twisted(&ground.stack, &plan.twist);
            self.absorb(&stack, plan, played);
            let (mut verdict, wrong) = verdict_of(check, plan, played);
            if let (Verdict::Inconclusive(why), Some(other)) = (&verdict, self.first_broken()) {
                verdict = Verdict::Skipped(format!("{why} (see {other})"));
            }
            if let Some((index, wrong)) = wrong {
                let scene = Scene { stack: &stack, plan, index, terms: self.terms };
                let finding = scene.finding(check, &wrong, quoted::calls(&played.events, &wrong));
                let blame = outcome.suspects.map(|suspects| scene.suspected(suspects, check.party));
                let run = self.keeper.keep(Some(&played.events));
                said.findings.push(Finding { blame: blame.unwrap_or(finding.blame), run, ..finding });
            }
            said.verdict = worse(said.verdict, verdict);
            if said.findings.len() >= MOST_FINDINGS || self.hangs() {
                break;
            }
        }
        said
    }

    fn is_broken(&self, id: &str) -> bool {
        self.checks.iter().any(|said| said.check.id == id && !said.findings.is_empty())
    }

    /// The rule that has told of a fault already which would end this check in a crash.
    fn told_without_a_crash(&self, check: &Check) -> Option<&'static str> {
        let broken = |said: &&RuleVerdict| said.rule.id == BOUNDS && !said.findings.is_empty();
        let told = self.rules.iter().find(broken).map(|said| said.rule.id);
        told.filter(|_| check.id.starts_with("buffers."))
    }

    /// A check that has failed already, and is a reason for others to go no further.
    fn first_broken(&self) -> Option<&'static str> {
        let all = self.always.iter().chain(&self.checks);
        all.filter(|said| said.verdict.exit() == Exit::Violation).map(|said| said.check.id).next()
    }

    /// What a case says besides what it was played for.
    pub(super) fn absorb(&mut self, stack: &Stack, plan: &Plan, played: &Played) {
        let from = innermost(stack);
        self.cases += 1;
        self.hangs += u32::from(matches!(played.trouble, Some(Trouble::Hang(_))));
        let index = played.stop.as_ref().map_or(plan.script.len(), |(index, _)| *index);
        let scene = Scene { stack, plan, index, terms: self.terms };
        self.judge_process(&scene, played, from);
        if let Some(why) = &played.incomplete {
            self.cut += 1;
            self.first_cut.get_or_insert_with(|| why.clone());
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
                let calls =
                    if seen.calls.is_empty() { processes::in_flight(&played.events) } else { seen.calls };
                let run = self.keeper.keep(Some(&played.events));
                said.findings.push(Finding { run, ..scene.finding(said.check, &seen.wrong, calls) });
            }
        }
        for said in &mut self.always {
            if said.findings.is_empty() && processes::is_judged(said.check.id, played) {
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
            said.findings.push(Finding {
                id: rule.id,
                level: RuleVerdict::level(rule),
                statement: rule.statement,
                clause: rule.clause,
                fix: rule.fix,
                expected: found.expected.clone(),
                actual: found.actual.clone(),
                calls: found.calls.clone(),
                blame: scene.of_rule(found, &played.events),
                repro: Box::new(scene.repro(rule.id, &wrong)),
                run: self.keeper.keep(Some(&played.events)),
            });
        }
    }

    /// Says of how many cases the recording is not whole, and why; `None` where all are.
    pub(super) fn cut(&self) -> Option<String> {
        let why = self.first_cut.as_ref()?;
        let cases = if self.cut == 1 { "1 case is" } else { &format!("{} cases are", self.cut) };
        Some(format!("the recording of {cases} not whole: {why}"))
    }

    /// All verdicts, in the order of the selection.
    pub(super) fn finish(mut self, selection: &Selection) -> (Vec<CheckVerdict>, Vec<RuleVerdict>) {
        self.checks.append(&mut self.always);
        let place = |id: &str| selection.checks.iter().position(|check| check.id == id);
        self.checks.sort_by_key(|said| place(said.check.id));
        let cut = self.cut();
        for said in &mut self.rules {
            said.verdict = match (said.findings.is_empty(), said.exercised, &cut) {
                (true, _, Some(cut)) => Verdict::Inconclusive(cut.clone()),
                (true, 0, None) => {
                    Verdict::NotApplicable(format!("never exercised: needs {}", said.rule.antecedent))
                }
                (true, _, None) => Verdict::Pass,
                (false, ..) if said.rule.kind == Kind::Observed => Verdict::Warn,
                (false, ..) => Verdict::Fail,
            };
        }
        (self.checks, self.rules)
    }
}
