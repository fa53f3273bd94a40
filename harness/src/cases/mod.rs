//! What a run says, one case at a time: what the formats of test runners have in common.

pub(crate) mod marks;
mod reproduce;

use std::path::PathBuf;

use crate::baseline::Entry;
use crate::conform::{ConformPlan, Conformance, ScenarioVerdict};
use crate::outcome::{Exit, Fault, Group, Promise, Standing, Verdict, What, groups};
use crate::rules::Rule;
use crate::validate::{self, Validation};

use crate::foreign::quoted::quoted;

pub use reproduce::reproduce;

/// A whole run.
#[derive(Clone, Debug)]
pub struct CaseRun {
    /// What was judged, and on which server.
    pub name: String,
    /// In the order of the report.
    pub cases: Vec<Case>,
    /// The exit code.
    pub exit: Exit,
    /// What the last line says.
    pub meaning: String,
}

/// One rule, check or scenario.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is: `rules`, `checks`, `scenarios`, `baseline` or `run`.
    pub group: &'static str,
    /// Its id.
    pub name: String,
    /// What is said of it.
    pub outcome: CaseOutcome,
}

/// What is said of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaseOutcome {
    /// It holds.
    Passed,
    /// It holds, and there is something to say.
    Warned(CaseTrouble),
    /// Nothing was judged, for this reason.
    Skipped(String),
    /// It is broken, and the baseline says so.
    Known(CaseTrouble),
    /// It is broken.
    Failed(CaseTrouble),
    /// It is broken too, for a cause of which another case that failed tells.
    Follows(CaseTrouble),
    /// It could not be told.
    Inconclusive(CaseTrouble),
}

/// What went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaseTrouble {
    /// The word of the verdict.
    pub word: &'static str,
    /// In one line.
    pub message: String,
    /// All that helps to mend it; may be empty.
    pub text: String,
}

impl CaseTrouble {
    pub(super) fn new(word: &'static str, message: impl Into<String>) -> CaseTrouble {
        CaseTrouble { word, message: message.into(), text: String::new() }
    }
}

impl CaseOutcome {
    /// Of a verdict that has no finding of its own.
    fn of(verdict: &Verdict) -> CaseOutcome {
        let trouble = || CaseTrouble::new(verdict.word(), verdict.reason().unwrap_or_default());
        match verdict {
            Verdict::Pass => CaseOutcome::Passed,
            Verdict::Warn => CaseOutcome::Warned(trouble()),
            Verdict::NotApplicable(why) | Verdict::Skipped(why) => CaseOutcome::Skipped(why.clone()),
            Verdict::Fail | Verdict::Crash(_) | Verdict::Hang(_) => CaseOutcome::Failed(trouble()),
            Verdict::Inconclusive(_) | Verdict::HarnessError(_) => CaseOutcome::Inconclusive(trouble()),
        }
    }
}

impl CaseRun {
    /// Of a run of `conform`.
    pub fn of_conformance(plan: &ConformPlan<'_>, conformance: &Conformance) -> CaseRun {
        let causes = groups(&conformance.faults);
        let causes = Causes { plan: Some(plan), all: causes.iter().collect() };
        let rules = conformance.rules.iter().map(|one| causes.rule_case(one.rule, &one.verdict));
        let scenarios = conformance.scenarios.iter().map(|one| scenario_case(&causes, one));
        let stale = conformance.stale.iter().map(stale_case);
        let name = format!("{} {}", plan.server.which().name(), plan.server.version());
        let not_played = conformance.not_played.iter().map(|one| Case {
            group: "scenarios",
            name: one.scenario.clone(),
            outcome: CaseOutcome::Skipped(one.why.to_string()),
        });
        let cases = rules.chain(scenarios).chain(not_played).chain(stale).collect();
        CaseRun::new(name, cases, conformance.exit(), conformance.meaning())
    }

    /// Of a run of `validate`; the files are those of the findings, in their order.
    pub fn of_validation(validation: &Validation, files: &[PathBuf]) -> CaseRun {
        let mut files = files.iter();
        let mut case = |group, id: &'static str, verdict: &Verdict, findings: &[validate::ModuleFinding]| {
            let texts: Vec<String> = findings.iter().map(|one| finding_text(one, files.next())).collect();
            let outcome = judged(validation, id, verdict, findings, &texts.join("\n"));
            Case { group, name: id.to_owned(), outcome }
        };
        let checks = validation.checks.iter();
        let checks: Vec<Case> =
            checks.map(|one| case("checks", one.check.id, &one.verdict, &one.findings)).collect();
        let rules = validation.rules.iter();
        let rules: Vec<Case> =
            rules.map(|one| case("rules", one.rule.id, &one.verdict, &one.findings)).collect();
        let stale = validation.stale.iter().map(stale_case);
        let unloadable = validation.unloadable.iter().map(|why| Case {
            group: "run",
            name: "loads".to_owned(),
            outcome: CaseOutcome::Failed(CaseTrouble::new("fail", format!("it cannot be loaded: {why}"))),
        });
        let cut_short = validation.cut_short.iter().map(|why| Case {
            group: "run",
            name: "complete".to_owned(),
            outcome: CaseOutcome::Inconclusive(CaseTrouble::new("inconclusive", format!("cut short: {why}"))),
        });
        let set = validation.set.as_ref().map_or(String::new(), |set| format!("{set}: "));
        let name = format!("{} {}: {}", validation.which.name(), validation.server, validation.subject);
        let cases = unloadable.chain(checks).chain(rules).chain(stale).chain(cut_short);
        let cases = cases.map(|case| Case { name: format!("{set}{}", case.name), ..case }).collect();
        CaseRun::new(name, cases, validation.exit(), validation.meaning())
    }

    /// One run of those of all sets of parameters, which end with this code together; `None` of none.
    pub fn of_sets(runs: Vec<CaseRun>, exit: Exit) -> Option<CaseRun> {
        let several = runs.len() > 1;
        let joined = runs.into_iter().reduce(|before, next| {
            let cases = before.cases.into_iter().chain(next.cases).collect();
            CaseRun { name: format!("{}; {}", before.name, next.name), cases, ..before }
        })?;
        let meaning = if several { exit.meaning().to_owned() } else { joined.meaning };
        Some(CaseRun { exit, meaning, ..joined })
    }

    /// The groups that have a case, in the order in which they first come.
    pub fn groups(&self) -> Vec<&'static str> {
        let mut groups = Vec::new();
        for case in &self.cases {
            if !groups.contains(&case.group) {
                groups.push(case.group);
            }
        }
        groups
    }

    /// Whoever reads only the cases must not take for good what the exit code says is not.
    pub(super) fn new(name: String, mut cases: Vec<Case>, exit: Exit, meaning: String) -> CaseRun {
        let bad = |case: &Case| matches!(case.outcome, CaseOutcome::Failed(_) | CaseOutcome::Inconclusive(_));
        if exit != Exit::Conformant && !cases.iter().any(bad) {
            let outcome = CaseOutcome::Inconclusive(CaseTrouble::new("inconclusive", meaning.clone()));
            cases.push(Case { group: "run", name: "conclusive".to_owned(), outcome });
        }
        CaseRun { name, cases, exit, meaning }
    }
}

/// An entry of the baseline that did not happen.
pub(crate) fn stale_case(entry: &Entry) -> Case {
    let message = format!("the baseline lists it, and it did not happen: {}", entry.why);
    Case {
        group: "baseline",
        name: entry.to_string(),
        outcome: CaseOutcome::Failed(CaseTrouble::new("stale", message)),
    }
}

fn judged(
    validation: &Validation,
    id: &'static str,
    verdict: &Verdict,
    findings: &[validate::ModuleFinding],
    text: &str,
) -> CaseOutcome {
    let Some(first) = findings.first() else { return CaseOutcome::of(verdict) };
    let trouble = CaseTrouble {
        word: verdict.word(),
        message: format!("expected {}; {}", first.expected, first.actual),
        text: text.to_owned(),
    };
    match (validation.standing(id), verdict) {
        (Some(Standing::Known { .. }), _) => CaseOutcome::Known(trouble),
        (Some(Standing::Habit), _) => CaseOutcome::Warned(trouble),
        (None, Verdict::Inconclusive(_) | Verdict::HarnessError(_)) => CaseOutcome::Inconclusive(trouble),
        _ => CaseOutcome::Failed(trouble),
    }
}

/// All that the report for people has of it, in its order.
fn finding_text(finding: &validate::ModuleFinding, file: Option<&PathBuf>) -> String {
    let validate::ModuleFinding { promise, expected, actual, blame, .. } = finding;
    let Promise { statement, clause, fix, .. } = promise;
    let layer = blame.layer.map_or(String::new(), |layer| format!("L{layer} "));
    let hint = finding.hint.as_ref().map_or(String::new(), |hint| format!("hint:     {hint}\n"));
    let calls = marks::lines(finding);
    let said: String = finding.said.iter().map(|line| format!("said:     {line}\n")).collect();
    let also = match finding.also.as_slice() {
        [] => String::new(),
        also => format!("also met by {}: one cause, and no finding of its own\n", also.join(", ")),
    };
    let replay = file.map(|file| format!("layers repro {}", quoted(file))).or(finding.replay.clone());
    let replay = replay.map_or(String::new(), |command| format!("replay:   {command}\n"));
    format!(
        "{statement}\n({clause})\nat fault: {layer}{} ({})\nexpected: {expected}\nactual:   {actual}\n\
        {hint}{calls}{said}{also}{replay}to fix it: {fix}\n",
        blame.name, blame.party,
    )
}

fn scenario_case(causes: &Causes<'_>, scenario: &ScenarioVerdict) -> Case {
    let of_scenario =
        |fault: &Fault| fault.scenario == scenario.name && matches!(fault.what, What::Verdict(_));
    let outcome = causes.outcome(of_scenario, &scenario.verdict);
    Case { group: "scenarios", name: scenario.name.clone(), outcome }
}

/// What was found, by its causes.
pub(crate) struct Causes<'a> {
    /// Of `conform`: what it was found with, and what shows it again.
    pub(crate) plan: Option<&'a ConformPlan<'a>>,
    /// Each is told at length in the case of its first fault.
    pub(crate) all: Vec<&'a Group<'a>>,
}

impl Causes<'_> {
    /// Where they show themselves.
    fn places(&self) -> &'static str {
        if self.plan.is_some() { "scenario" } else { "server" }
    }

    pub(crate) fn rule_case(&self, rule: &Rule, verdict: &Verdict) -> Case {
        let outcome = self.outcome(|fault| fault.is_of(rule), verdict);
        Case { group: "rules", name: rule.id.to_owned(), outcome }
    }

    /// What counts most: what is new, what is our own fault, what is known, a habit; then the verdict itself. One cause is told
    /// at length in one case, that of the first fault of it.
    fn outcome(&self, mine: impl Fn(&Fault) -> bool, verdict: &Verdict) -> CaseOutcome {
        type Is = fn(&Standing) -> bool;
        const NEW: Is = |standing| *standing == Standing::New;
        const OURS: Is = |standing| *standing == Standing::Ours;
        const KNOWN: Is = |standing| matches!(standing, Standing::Known { .. });
        const HABIT: Is = |standing| matches!(standing, Standing::Habit | Standing::Follows);
        // Each cause that begins here is told here.
        let own = |is: Is, word| {
            let begins =
                |cause: &&&Group<'_>| cause.example().is_some_and(|first| is(&first.standing) && mine(first));
            let told: Vec<&Group<'_>> = self.all.iter().filter(begins).copied().collect();
            let text: Vec<String> = told.iter().filter_map(|cause| self.cause_text(cause)).collect();
            let places: Vec<String> = told.iter().filter_map(|cause| cause.place(self.places())).collect();
            (!told.is_empty()).then(|| CaseTrouble {
                word,
                message: format!("broken in {}", places.join("; ")),
                text: text.join("\n"),
            })
        };
        // Of the others the case says where that is.
        let others = |is: Is, word| {
            let cause =
                self.all.iter().find(|cause| cause.all().any(|fault| is(&fault.standing) && mine(fault)))?;
            let first = cause.example()?;
            let same = cause.faults.iter().any(|fault| mine(fault));
            let how = if same { "the same cause as" } else { "seen only with" };
            let name = match &first.what {
                What::Rule(rule) => format!("{} in {}", rule.id, first.scenario),
                What::Verdict(verdict) => format!("the {} in {}", verdict.word(), first.scenario),
            };
            Some(CaseTrouble::new(word, format!("{how} {name}")))
        };
        let failed = || own(NEW, "fail").map(CaseOutcome::Failed);
        let ours = || own(OURS, "harness-error").map(CaseOutcome::Inconclusive);
        let follows = || others(NEW, "fail").map(CaseOutcome::Follows);
        let known = || own(KNOWN, "known").or_else(|| others(KNOWN, "known")).map(CaseOutcome::Known);
        let habit = || own(HABIT, "warn").or_else(|| others(HABIT, "warn")).map(CaseOutcome::Warned);
        failed()
            .or_else(ours)
            .or_else(follows)
            .or_else(known)
            .or_else(habit)
            .unwrap_or_else(|| CaseOutcome::of(verdict))
    }

    /// A cause: its first fault at length, then where else it shows itself and what comes with it.
    fn cause_text(&self, cause: &Group<'_>) -> Option<String> {
        let mut text = self.fault_text(cause.example()?);
        if self.plan.is_none() {
            return Some(text);
        }
        let scenarios = cause.scenarios();
        if scenarios.len() > 1 {
            text += &format!("{} scenarios: {}\n", scenarios.len(), scenarios.join(", "));
        }
        let with: Vec<String> = cause.with.iter().filter_map(|one| one.heading(self.places())).collect();
        if !with.is_empty() {
            text += &format!("seen only with this, and never before it: {}\n", with.join(", "));
        }
        Some(text)
    }

    fn fault_text(&self, fault: &Fault) -> String {
        let tries =
            self.plan.map_or(String::new(), |_| format!(", in {} of {} tries", fault.times, fault.tries));
        let mut text = format!("{} in {}{tries}\n", fault.what, fault.scenario);
        match &fault.what {
            What::Rule(rule) => {
                text += &format!("{}\n({})\nat fault: {}\n", rule.statement, rule.clause, rule.party);
            }
            What::Verdict(verdict) => text += &format!("{}\n", verdict.reason().unwrap_or_default()),
        }
        if let Some(first) = &fault.first {
            text += &format!("expected: {}\nactual:   {}\n", first.expected, first.actual);
            text.extend(first.calls.iter().map(|call| format!("{:>6} | {call}\n", call.position)));
        }
        if let Some(wrote) = &fault.wrote {
            text += &format!("{wrote}\n");
        }
        text += &fault.standing.why().map_or(String::new(), |why| format!("known: {why}\n"));
        text + &self.plan.map_or(String::new(), |plan| format!("reproduce: {}\n", reproduce(plan, fault)))
    }
}
