//! Why a check says nothing of a subject.

use crate::outcome::Verdict;

/// Why a check says nothing of this subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The subject does not offer it.
    NotClaimed(&'static str),
    /// It offers it, and the check still does not apply, for this reason.
    Reason(String),
}

impl From<&Unfit> for Verdict {
    fn from(unfit: &Unfit) -> Verdict {
        match unfit {
            Unfit::NotClaimed(what) => Verdict::NotApplicable(format!("not claimed: {what}")),
            Unfit::Reason(what) => Verdict::NotApplicable(what.clone()),
        }
    }
}
