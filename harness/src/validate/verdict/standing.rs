//! Holds a validation against what is known of its subject: which findings count, what is stale, and the file after it.

use super::accepted::{Known, KnownFinding};
use super::validation::Validation;
use super::verdicts::broken;
use crate::campaign::select::matches;
use crate::outcome::Verdict;

impl Validation {
    /// Tells what counts: not what is known, but warnings that are denied.
    pub(in crate::validate) fn stand(&mut self, known: &Known, deny: &[String]) {
        let denied = |id: &str| deny.iter().any(|pattern| matches(pattern, id));
        let warned = self.verdicts().filter(|(id, verdict)| **verdict == Verdict::Warn && denied(id));
        self.denied = warned.map(|(id, _)| id).collect();
        let all_known = |id: &str| self.findings().filter(|one| one.id == id).all(|one| known.has(one));
        self.known = self.fired().into_iter().filter(|id| all_known(id)).collect();
        self.bring_back(known);
        self.stale = known.stale(self);
    }

    /// What stands under a finding that does not count is a finding of its own: it may have come about otherwise.
    fn bring_back(&mut self, known: &Known) {
        for said in &mut self.checks {
            if said.follows.is_some_and(|first| self.known.contains(&first)) && !said.held.is_empty() {
                said.findings.append(&mut said.held);
                said.verdict = broken(said.check.level);
                if said.findings.iter().all(|one| known.has(one)) {
                    self.known.push(said.check.id);
                }
            }
        }
    }
}

impl Known {
    /// What is listed and was judged, and did not happen.
    pub(in crate::validate) fn stale(&self, validation: &Validation) -> Vec<KnownFinding> {
        let is_stale = |entry: &&KnownFinding| {
            let judged = |verdict: &Verdict| {
                matches!(
                    verdict,
                    Verdict::Pass | Verdict::Fail | Verdict::Warn | Verdict::Crash(_) | Verdict::Hang(_)
                )
            };
            validation.verdicts().any(|(id, verdict)| id == entry.id && judged(verdict))
                && !validation.findings().any(|finding| entry.is_of(finding))
        };
        self.entries().iter().filter(is_stale).cloned().collect()
    }

    /// The text of the file after this run: without what is stale, with what is new, whose `why` is for you to write.
    ///
    /// A crash and a hang are listed with how they came about: another one is another finding.
    pub fn updated(&self, validation: &Validation) -> String {
        let new = validation.failures().flat_map(|(id, verdict)| {
            let exact = matches!(verdict, Verdict::Crash(_) | Verdict::Hang(_));
            let own = validation.findings().filter(move |finding| finding.id == id && !self.has(finding));
            own.map(move |finding| (id, exact.then_some(finding.actual.as_str())))
        });
        self.changed(&self.stale(validation), new)
    }
}
