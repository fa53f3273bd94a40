//! What a finding breaks.

use crate::rules::Rule;

/// A documented promise, as a rule or a check has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Id of the rule or check.
    pub id: &'static str,
    /// What holds.
    pub statement: &'static str,
    /// Where it is promised.
    pub clause: &'static str,
    /// What to do about it where it is broken.
    pub fix: &'static str,
}

impl From<&Rule> for Promise {
    fn from(rule: &Rule) -> Promise {
        let Rule { id, statement, clause, fix, .. } = *rule;
        Promise { id, statement, clause, fix }
    }
}
