//! What a check says of one entry.

use crate::outcome::Verdict;
use crate::validate::checks::check::ModuleCheck;
use crate::validate::verdict::verdicts::broken;

/// What is said of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Holds,
    Broken {
        expected: String,
        actual: String,
        hint: Option<String>,
    },
    /// The check is not about it.
    Unfit(String),
    /// It is, and it cannot be told.
    Undecided(String),
}

impl Said {
    pub(super) fn broken(expected: impl Into<String>, actual: impl Into<String>) -> Said {
        Said::Broken { expected: expected.into(), actual: actual.into(), hint: None }
    }

    pub(super) fn verdict(&self, check: &ModuleCheck) -> Verdict {
        match self {
            Said::Holds => Verdict::Pass,
            Said::Broken { .. } => broken(check.level),
            Said::Unfit(why) => Verdict::NotApplicable(why.clone()),
            Said::Undecided(why) => Verdict::Inconclusive(why.clone()),
        }
    }
}
