//! What can go wrong.

use std::fmt;

use super::verdict::Verdict;
use crate::rules::Rule;

/// What can go wrong in a scenario.
#[derive(Clone, Debug)]
pub enum What {
    /// This rule is broken.
    Rule(&'static Rule),
    /// The server crashes or hangs, in this way.
    Verdict(Verdict),
}

impl PartialEq for What {
    fn eq(&self, other: &What) -> bool {
        match (self, other) {
            (What::Rule(one), What::Rule(other)) => one.id == other.id,
            (What::Verdict(one), What::Verdict(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for What {}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Rule(rule) => f.pad(rule.id),
            What::Verdict(verdict) => f.pad(verdict.word()),
        }
    }
}
