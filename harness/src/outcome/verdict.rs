//! What is said of a rule, of a check, of a scenario.

use super::exit::Exit;
use crate::rules::{Kind, Rule};

/// A verdict. They are never merged into one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Exercised, and held every time.
    Pass,
    /// A documented promise was broken.
    Fail,
    /// An observed habit has changed.
    Warn,
    /// It says nothing of this subject, for this reason.
    NotApplicable(String),
    /// It was left out: on request, or because something that it needs is missing.
    Skipped(String),
    /// The subject crashed.
    Crash(String),
    /// The subject did not come to an end.
    Hang(String),
    /// It cannot be told, for this reason.
    Inconclusive(String),
    /// The harness itself failed.
    HarnessError(String),
}

macro_rules! reason_of {
    ($verdict:expr) => {
        match $verdict {
            Verdict::Pass | Verdict::Fail | Verdict::Warn => None,
            Verdict::NotApplicable(why)
            | Verdict::Skipped(why)
            | Verdict::Crash(why)
            | Verdict::Hang(why)
            | Verdict::Inconclusive(why)
            | Verdict::HarnessError(why) => Some(why),
        }
    };
}

impl Verdict {
    /// What is said of a rule that was put to the test so often, and was broken, or held.
    pub fn of_rule(rule: &Rule, exercised: u64, is_broken: bool) -> Verdict {
        match (is_broken, exercised) {
            (true, _) if rule.kind == Kind::Observed => Verdict::Warn,
            (true, _) => Verdict::Fail,
            (false, 0) => Verdict::NotApplicable(format!("never exercised: needs {}", rule.antecedent)),
            (false, _) => Verdict::Pass,
        }
    }

    /// One lower-case word.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::Warn => "warn",
            Verdict::NotApplicable(_) => "not-applicable",
            Verdict::Skipped(_) => "skipped",
            Verdict::Crash(_) => "crash",
            Verdict::Hang(_) => "hang",
            Verdict::Inconclusive(_) => "inconclusive",
            Verdict::HarnessError(_) => "harness-error",
        }
    }

    /// Why, where that is part of the verdict.
    pub fn reason(&self) -> Option<&str> {
        reason_of!(self).map(String::as_str)
    }

    /// The same, to be changed.
    pub(crate) fn reason_mut(&mut self) -> Option<&mut String> {
        reason_of!(self)
    }

    /// The exit code that this verdict alone asks for.
    pub fn exit(&self) -> Exit {
        match self {
            Verdict::Pass | Verdict::Warn | Verdict::NotApplicable(_) | Verdict::Skipped(_) => {
                Exit::Conformant
            }
            Verdict::Fail | Verdict::Crash(_) | Verdict::Hang(_) => Exit::Violation,
            Verdict::Inconclusive(_) => Exit::Inconclusive,
            Verdict::HarnessError(_) => Exit::Harness,
        }
    }
}
