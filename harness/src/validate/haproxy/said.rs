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

    /// The same, and how the server has died of it: a client only sees that a connection ends.
    pub(super) fn with(self, how: &str) -> Said {
        match self {
            Said::Broken { expected, actual, hint } => {
                let how = how.replacen("it ", "the server ", 1);
                Said::Broken { expected, actual: format!("{actual}: {how}"), hint }
            }
            other => other,
        }
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
