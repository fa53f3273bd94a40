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

impl What {
    /// As a baseline has it: the id of the rule, or the word of the verdict.
    pub fn id(&self) -> &'static str {
        match self {
            What::Rule(rule) => rule.id,
            What::Verdict(verdict) => verdict.word(),
        }
    }

    /// How the server crashes or hangs.
    pub fn reason(&self) -> Option<&str> {
        match self {
            What::Rule(_) => None,
            What::Verdict(verdict) => Some(verdict.reason().unwrap_or_default()),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}
