//! What a check has to say.

use std::fmt;

use layers_trace::Event;

use super::cited::Cited;
use super::finding::{CallRef, Finding};
use super::given::{Said, given, unless};
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
    /// What has just been seen; when the trace is over, the end of the server.
    pub(super) present: Option<&'a Event>,
}

impl Report<'_> {
    /// The same report, that does not quote what has just been seen.
    pub(in crate::rules) fn without_present(&mut self) -> Report<'_> {
        Report { tally: self.tally, present: None }
    }

    /// The rule said something about what has just been seen: its antecedent was true.
    pub fn exercised(&mut self) -> Said {
        self.exercised_if(true)
    }

    /// The same, if this holds.
    pub fn exercised_if(&mut self, holds: bool) -> Said {
        self.tally.exercised += u64::from(holds);
        Some(())
    }

    /// The rule is broken by what has just been seen, with what conflicts with that.
    pub fn broken<'e>(
        &mut self,
        cited: impl Cited<'e>,
        expected: impl fmt::Display,
        actual: impl fmt::Display,
    ) -> Said {
        self.broken_by(self.tally.party, cited, expected, actual)
    }

    /// The same, where it is not the duty of the rule's party alone: this one has failed in it.
    pub fn broken_by<'e>(
        &mut self,
        party: Party,
        cited: impl Cited<'e>,
        expected: impl fmt::Display,
        actual: impl fmt::Display,
    ) -> Said {
        self.tally.broken += 1;
        if self.tally.findings.len() < MOST_FINDINGS {
            let mut events = Vec::new();
            cited.cite(&mut events);
            self.tally.findings.push(Finding {
                rule: self.tally.rule,
                party,
                calls: events.into_iter().chain(self.present).map(CallRef::from).collect(),
                expected: visible(&expected.to_string()).into_owned(),
                actual: visible(&actual.to_string()).into_owned(),
            });
        }
        Some(())
    }

    /// Exercised, and broken unless `holds`.
    pub fn expect<'e>(
        &mut self,
        holds: bool,
        cited: impl Cited<'e>,
        expected: impl fmt::Display,
        actual: impl fmt::Display,
    ) -> Said {
        self.exercised();
        unless(holds)?;
        self.broken(cited, expected, actual)
    }

    /// Exercised, and broken unless both are the same; `said` puts either of them into words.
    pub fn same<'e, T: PartialEq, W: fmt::Display>(
        &mut self,
        cited: impl Cited<'e>,
        expected: T,
        actual: T,
        said: impl Fn(T) -> W,
    ) -> Said {
        self.exercised();
        given(expected != actual)?;
        self.broken(cited, said(expected), said(actual))
    }
}
