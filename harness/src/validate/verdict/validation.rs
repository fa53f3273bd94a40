//! What is said of a whole subject.

use super::profile::ProfileResult;
use super::verdicts::{CheckVerdict, ModuleFinding, ModuleRuleVerdict};
use crate::baseline::Entry;
use crate::campaign::halt::Halt;
use crate::outcome::{Exit, RunEnd, Standing, Verdict};
use crate::validate::checks::check::Level;
use crate::validate::script::claims::Claims;
use crate::validate::subject::consent::Secrets;
use crate::version::Which;

/// What is to be judged.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The name of its set of parameters, where there are several.
    pub set: Option<String>,
    /// As on the server's command line.
    pub words: String,
    /// Which server it is of.
    pub which: Which,
    /// The server: its version.
    pub server: String,
    /// The storage that is the user's, and so is not written to.
    pub spared: Option<String>,
    /// The files of which each case has a copy.
    pub copied: Vec<String>,
    /// How much is asked.
    pub level: Level,
    /// Checks that are selected.
    pub checks: usize,
    /// Rules that are selected.
    pub rules: usize,
}

/// All that is said of a subject.
#[derive(Debug)]
pub struct Validation {
    /// The name of its set of parameters, where there are several.
    pub set: Option<String>,
    /// The subject, as on the server's command line.
    pub subject: String,
    /// Which server it is of.
    pub which: Which,
    /// The server: its version.
    pub server: String,
    /// The storage that is the user's, and so was not written to.
    pub spared: Option<String>,
    /// The files of which each case had a copy.
    pub copied: Vec<String>,
    /// Parameters that its modules document and that were not given.
    pub untried: Vec<String>,
    /// What it offers, where that could be found out.
    pub claims: Option<Claims>,
    /// Why it cannot be loaded, if it cannot.
    pub unloadable: Option<String>,
    /// Why nothing could be said of most of it, if so; and then it is not conformant.
    pub cut_short: Option<String>,
    /// What has ended the run before everything was judged.
    pub halt: Option<Halt>,
    /// One for each selected check.
    pub checks: Vec<CheckVerdict>,
    /// One for each selected rule.
    pub rules: Vec<ModuleRuleVerdict>,
    /// One for each profile with a selected check.
    pub profiles: Vec<ProfileResult>,
    /// Servers that were played.
    pub cases: u32,
    /// The ids all of whose findings are in the baseline, each with the reason of the first.
    pub known: Vec<(&'static str, String)>,
    /// The ids whose warnings count like failures.
    pub denied: Vec<&'static str>,
    /// What the baseline lists, and what did not happen although it was looked for.
    pub stale: Vec<Entry>,
}

impl Validation {
    /// All verdicts, with their ids.
    pub fn verdicts(&self) -> impl Iterator<Item = (&'static str, &Verdict)> {
        let checks = self.checks.iter().map(|one| (one.check.id, &one.verdict));
        checks.chain(self.rules.iter().map(|one| (one.rule.id, &one.verdict)))
    }

    /// All findings, in the order of the checks.
    pub fn findings(&self) -> impl Iterator<Item = &ModuleFinding> {
        let checks = self.checks.iter().flat_map(|one| &one.findings);
        checks.chain(self.rules.iter().flat_map(|one| &one.findings))
    }

    /// How many verdicts have this word.
    pub fn count(&self, word: &str) -> usize {
        self.verdicts().filter(|(_, verdict)| verdict.word() == word).count()
    }

    /// The ids that fired: those with a finding.
    pub fn fired(&self) -> Vec<&'static str> {
        let mut ids: Vec<&str> = self.findings().map(|finding| finding.promise.id).collect();
        ids.dedup();
        ids
    }

    /// Nothing of it tells a secret.
    pub(in crate::validate) fn hide(&mut self, secrets: &Secrets) {
        let texts = [&mut self.unloadable, &mut self.cut_short];
        texts.into_iter().flatten().for_each(|text| secrets.hide(text));
        let checks =
            self.checks.iter_mut().map(|one| (&mut one.verdict, &mut one.findings, Some(&mut one.held)));
        let rules = self.rules.iter_mut().map(|one| (&mut one.verdict, &mut one.findings, None));
        for (verdict, findings, held) in checks.chain(rules) {
            if let Some(reason) = verdict.reason_mut() {
                secrets.hide(reason);
            }
            findings.iter_mut().chain(held.into_iter().flatten()).for_each(|one| one.hide(secrets));
        }
        let reasons = self.profiles.iter_mut().filter_map(|one| one.reason.as_mut());
        reasons.for_each(|reason| secrets.hide(reason));
    }

    /// What is broken under this id means this for the run; `None` where nothing is.
    pub fn standing(&self, id: &str) -> Option<Standing> {
        let known = self.known.iter().find(|(known, _)| *known == id);
        let verdict = self.verdicts().find(|(one, _)| *one == id).map(|(_, verdict)| verdict)?;
        match (known, verdict) {
            (Some((_, why)), _) => Some(Standing::Known { why: why.clone(), race: false }),
            (None, Verdict::Warn) if !self.denied.contains(&id) => Some(Standing::Habit),
            (None, Verdict::Warn) => Some(Standing::New),
            (None, verdict) => (verdict.exit() == Exit::Violation).then_some(Standing::New),
        }
    }

    /// What fails the run, with ids.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, &Verdict)> {
        self.verdicts().filter(|(id, _)| self.standing(id) == Some(Standing::New))
    }

    /// Everything that was judged holds, and something was.
    pub fn is_conformant(&self) -> bool {
        self.exit() == Exit::Conformant
    }

    /// What the exit code means here, in one line.
    pub fn meaning(&self) -> String {
        let (exit, known) = (self.exit(), self.known.len());
        let left_out = match self.count("skipped") {
            skipped @ 1.. if exit == Exit::Conformant && known > 0 => {
                format!(", with {skipped} checks left out")
            }
            _ => String::new(),
        };
        exit.meaning_except(known) + &left_out
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        let loads = self.unloadable.is_none();
        let unloadable = (!loads).then_some(Exit::Unloadable);
        // That a file cannot be loaded is one cause, and not a violation besides.
        let failed = (loads && self.failures().next().is_some()).then_some(Exit::Violation);
        let verdicts = self.verdicts().map(|(_, verdict)| verdict.exit());
        let others = verdicts.filter(|exit| loads && !matches!(exit, Exit::Conformant | Exit::Violation));
        let missing = self.profiles.iter().any(|one| one.missing);
        let cut_short = (self.cut_short.is_some() || (loads && missing)).then_some(Exit::Inconclusive);
        let words = ["pass", "fail", "warn", "crash", "hang"];
        let judged = words.iter().any(|word| self.count(word) > 0);
        let end = RunEnd { halt: self.halt, judged, stale: !self.stale.is_empty() };
        end.exit(others.chain(failed).chain(unloadable).chain(cut_short))
    }
}
