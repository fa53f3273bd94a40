//! What is said of a subject: a verdict for each check and rule, and the findings behind it.

use crate::campaign::event_budget::Events;
use crate::outcome::{Promise, Verdict};
use crate::rules::{CallRef, Finding, Party, Rule};
use crate::validate::checks::check::{Level, ModuleCheck};
use crate::validate::play::evidence::Evidence;
use crate::validate::repro::Repro;
use crate::validate::subject::consent::Secrets;

/// The layer at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blame {
    /// Its number, 0 for the plugin, where one layer can be named.
    pub layer: Option<u8>,
    /// What it calls itself.
    pub name: String,
    /// Its part.
    pub party: Party,
}

/// One broken check or rule.
#[derive(Clone, Debug)]
pub struct ModuleFinding {
    /// What is broken.
    pub promise: Promise,
    /// What was expected here.
    pub expected: String,
    /// What came instead.
    pub actual: String,
    /// The calls that show it, in order.
    pub calls: Vec<CallRef>,
    /// Position of the one that has done it, where that can be told.
    pub guilty: Option<u32>,
    /// What the evidence tells beyond that.
    pub hint: Option<String>,
    /// Who is at fault.
    pub blame: Blame,
    /// The case, to be replayed by `layers repro`; there is none of HAProxy.
    pub repro: Option<Box<Repro>>,
    /// Of HAProxy: the command that shows it again.
    pub replay: Option<String>,
    /// The events of the case, where they were asked for and there was room.
    pub run: Option<Events>,
    /// What the server and the subject have said in it, by lines.
    pub said: Vec<String>,
    /// Checks that have met the same thing, and say nothing of their own.
    pub also: Vec<&'static str>,
}

impl ModuleFinding {
    /// This rule or check is broken; nothing else is known of it.
    pub(in crate::validate) fn of(
        promise: impl Into<Promise>,
        expected: String,
        actual: String,
        blame: Blame,
    ) -> ModuleFinding {
        ModuleFinding {
            promise: promise.into(),
            expected,
            actual,
            calls: Vec::new(),
            guilty: None,
            hint: None,
            blame,
            repro: None,
            replay: None,
            run: None,
            said: Vec::new(),
            also: Vec::new(),
        }
    }

    /// This rule is broken, as this has shown.
    pub(in crate::validate) fn of_rule(rule: &Rule, found: &Finding, blame: Blame) -> ModuleFinding {
        let (expected, actual) = (found.expected.clone(), found.actual.clone());
        ModuleFinding { calls: found.calls.clone(), ..ModuleFinding::of(rule, expected, actual, blame) }
    }

    pub(in crate::validate) fn hide(&mut self, secrets: &Secrets) {
        let of_case = self.repro.iter_mut().flat_map(|repro| [&mut repro.expected, &mut repro.actual]);
        [&mut self.expected, &mut self.actual]
            .into_iter()
            .chain(of_case)
            .chain(&mut self.said)
            .for_each(|text| secrets.hide(text));
        self.calls.iter_mut().for_each(|call| secrets.hide(&mut call.detail));
        // Whoever draws the run would show what the parameters were.
        self.run = None;
    }
}

/// What is said of one check.
#[derive(Clone, Debug)]
pub struct CheckVerdict {
    /// The check.
    pub check: &'static ModuleCheck,
    /// What is said.
    pub verdict: Verdict,
    /// Nothing is said because the subject does not offer it.
    pub not_claimed: bool,
    /// What broke it.
    pub findings: Vec<ModuleFinding>,
    /// How much it was judged by.
    pub evidence: Evidence,
    /// The check whose finding says what it has met, too.
    pub follows: Option<&'static str>,
    /// Findings that stand under that one, and count only where that one does not.
    pub(in crate::validate) held: Vec<ModuleFinding>,
}

impl CheckVerdict {
    /// Nothing yet.
    pub(in crate::validate) fn unsaid(check: &'static ModuleCheck) -> CheckVerdict {
        let verdict = Verdict::NotApplicable("no case was played".to_owned());
        CheckVerdict {
            check,
            verdict,
            not_claimed: false,
            findings: Vec::new(),
            evidence: Evidence::default(),
            follows: None,
            held: Vec::new(),
        }
    }

    /// The same check on another ground says this.
    pub(in crate::validate) fn join(&mut self, other: CheckVerdict) {
        self.findings.extend(other.findings);
        self.held.extend(other.held);
        self.follows = self.follows.or(other.follows);
        self.evidence += other.evidence;
        self.verdict = worse(self.verdict.clone(), other.verdict);
        self.not_claimed &= other.not_claimed;
    }
}

/// What is said of one rule.
#[derive(Clone, Debug)]
pub struct ModuleRuleVerdict {
    /// The rule.
    pub rule: &'static Rule,
    /// What is said.
    pub verdict: Verdict,
    /// How often it had something to say.
    pub exercised: u64,
    /// How often it was broken.
    pub broken: u64,
    /// The first finding of each case that broke it, the first few.
    pub findings: Vec<ModuleFinding>,
}

impl ModuleRuleVerdict {
    /// Nothing yet.
    pub(in crate::validate) fn unsaid(rule: &'static Rule) -> ModuleRuleVerdict {
        ModuleRuleVerdict { rule, verdict: Verdict::Pass, exercised: 0, broken: 0, findings: Vec::new() }
    }
}

/// The verdict on a broken check.
pub(in crate::validate) fn broken(level: Level) -> Verdict {
    match level {
        Level::Must => Verdict::Fail,
        Level::Should | Level::Pedantic => Verdict::Warn,
    }
}

/// The one of two verdicts on cases of the same check that says more.
pub(in crate::validate) fn worse(one: Verdict, other: Verdict) -> Verdict {
    // What could not be told of one ground, or with one set of parameters, is not told by another one that holds.
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
