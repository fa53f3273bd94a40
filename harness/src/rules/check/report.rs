//! What a check has to say.

use layers_trace::Event;

use super::finding::{CallRef, Finding};
use super::party::Party;
use crate::foreign::visible::visible;

/// Findings kept for one rule and one trace; the rest is counted.
const MOST_FINDINGS: usize = 8;

/// What has been said of one rule.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Id of the rule.
    pub(super) rule: &'static str,
    /// Whose duty it is.
    pub(super) party: Party,
    /// How often its antecedent was true.
    pub(super) exercised: u64,
    /// How often it was broken.
    pub(super) broken: u64,
    /// The first few times.
    pub(super) findings: Vec<Finding>,
}

impl Tally {
    pub(super) fn of(rule: &'static str, party: Party) -> Tally {
        Tally { rule, party, exercised: 0, broken: 0, findings: Vec::new() }
    }
}

/// What a check has to say.
#[derive(Debug)]
pub struct Report<'a> {
    pub(super) tally: &'a mut Tally,
}

impl Report<'_> {
    /// The rule said something about what has just been seen: its antecedent was true.
    pub fn exercised(&mut self) {
        self.tally.exercised += 1;
    }

    /// The same, if this holds.
    pub fn exercised_if(&mut self, holds: bool) {
        self.tally.exercised += u64::from(holds);
    }

    /// The rule is broken by these events (the earliest first).
    pub fn broken<'e>(
        &mut self,
        events: impl IntoIterator<Item = &'e Event>,
        expected: impl Into<String>,
        actual: impl Into<String>,
    ) {
        self.broken_by(self.tally.party, events, expected, actual);
    }

    /// The same, where it is not the duty of the rule's party alone: this one has failed in it.
    pub fn broken_by<'e>(
        &mut self,
        party: Party,
        events: impl IntoIterator<Item = &'e Event>,
        expected: impl Into<String>,
        actual: impl Into<String>,
    ) {
        self.tally.broken += 1;
        if self.tally.findings.len() < MOST_FINDINGS {
            let calls = events.into_iter().map(CallRef::from).collect();
            let rule = self.tally.rule;
            self.tally.findings.push(Finding {
                rule,
                party,
                calls,
                expected: visible(&expected.into()).into_owned(),
                actual: visible(&actual.into()).into_owned(),
            });
        }
    }

    /// Exercised, and broken unless `holds`.
    pub fn expect<'e>(
        &mut self,
        holds: bool,
        events: impl IntoIterator<Item = &'e Event>,
        expected: impl Into<String>,
        actual: impl Into<String>,
    ) {
        self.exercised();
        if !holds {
            self.broken(events, expected, actual);
        }
    }
}
