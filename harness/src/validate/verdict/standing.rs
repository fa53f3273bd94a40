//! Holds a validation against what is known of its subject: which findings count, what is stale, and the file after it.

use std::path::Path;

use super::validation::Validation;
use super::verdicts::{ModuleFinding, broken};
use crate::baseline::{Baseline, BaselineError, Entry};
use crate::campaign::select::matches;
use crate::outcome::Verdict;
use crate::validate::checks;
use crate::validate::checks::module_rules::module_rules;

impl Validation {
    /// Tells what counts: not what is known, but warnings that are denied.
    pub(in crate::validate) fn stand(&mut self, known: &Baseline, deny: &[String]) {
        let denied = |id: &str| deny.iter().any(|pattern| matches(pattern, id));
        let warned = self.verdicts().filter(|(id, verdict)| **verdict == Verdict::Warn && denied(id));
        self.denied = warned.map(|(id, _)| id).collect();
        let why = |id: &'static str| known.why(id, self.findings().filter(|one| one.promise.id == id));
        self.known = self.fired().into_iter().filter_map(why).collect();
        self.bring_back(known);
        self.stale = known.stale(self);
    }

    /// What stands under a finding that does not count is a finding of its own: it may have come about otherwise.
    fn bring_back(&mut self, known: &Baseline) {
        for said in &mut self.checks {
            let is_known = |first| self.known.iter().any(|(id, _)| *id == first);
            if said.follows.is_some_and(is_known) && !said.held.is_empty() {
                said.findings.append(&mut said.held);
                said.verdict = broken(said.check.level);
                self.known.extend(known.why(said.check.id, said.findings.iter()));
            }
        }
    }
}

impl Baseline {
    /// Reads a file about a subject: checks and rules of plugins and filters.
    pub fn load_of_modules(path: &Path) -> Result<Baseline, BaselineError> {
        let is_id =
            |id: &str| checks::all().any(|one| one.id == id) || module_rules().any(|one| one.id == id);
        Baseline::load_listed(path, is_id, "there is no check and no rule", "layers validate --list")
    }

    /// The entry that knows this finding.
    pub(in crate::validate) fn of(&self, finding: &ModuleFinding) -> Option<&Entry> {
        self.entry(finding.promise.id, &finding.actual)
    }

    /// This id, and why its findings are accepted, if all of them are.
    fn why<'f>(
        &self,
        id: &'static str,
        findings: impl Iterator<Item = &'f ModuleFinding>,
    ) -> Option<(&'static str, String)> {
        let entries: Option<Vec<&Entry>> = findings.map(|one| self.of(one)).collect();
        Some((id, entries?.first()?.why.clone()))
    }

    /// What is listed and was judged, and did not happen.
    pub(in crate::validate) fn stale(&self, validation: &Validation) -> Vec<Entry> {
        let is_stale = |entry: &&Entry| {
            let judged = |verdict: &Verdict| {
                matches!(
                    verdict,
                    Verdict::Pass | Verdict::Fail | Verdict::Warn | Verdict::Crash(_) | Verdict::Hang(_)
                )
            };
            validation.verdicts().any(|(id, verdict)| id == entry.id && judged(verdict))
                && !validation.findings().any(|finding| entry.knows(finding.promise.id, &finding.actual))
        };
        self.entries.iter().filter(is_stale).cloned().collect()
    }

    /// The text of the file after this run: without what is stale, with what is new, whose `why` is for you to write.
    ///
    /// A crash and a hang are listed with how they came about: another one is another finding.
    pub fn updated(&self, validation: &Validation) -> String {
        let new = validation.failures().flat_map(|(id, verdict)| {
            let exact = matches!(verdict, Verdict::Crash(_) | Verdict::Hang(_));
            let own = validation
                .findings()
                .filter(move |finding| finding.promise.id == id && self.of(finding).is_none());
            own.map(move |finding| (id, exact.then_some(finding.actual.as_str())))
        });
        self.changed(&self.stale(validation), new)
    }
}
