//! What is said of the whole subject: a verdict for each check, rule and entry.

use std::path::Path;

use super::discovery::{Discovered, Handler};
use super::playing::Run;
use super::said::Said;
use crate::foreign::quoted::quoted;
use crate::foreign::visible::visible_line;
use crate::outcome::{Exit, Verdict};
use crate::rules::{Party, Rule};
use crate::validate::checks::check::{ModuleCheck, Profile};
use crate::validate::play::evidence::Evidence;
use crate::validate::verdict::profile::{ProfileResult, ProfileVerdict};
use crate::validate::verdict::validation::Validation;
use crate::validate::verdict::verdicts::{Blame, CheckVerdict, ModuleFinding, ModuleRuleVerdict, worse};
use crate::version::Which;

impl Run<'_> {
    pub(super) fn validation(&self, discovered: &Discovered, version: &str) -> Validation {
        let checks: Vec<CheckVerdict> =
            self.selection.rows.iter().map(|row| self.verdict(row.check)).collect();
        let halted = self.halt;
        let nothing = discovered.entries.iter().all(|entry| entry.asked.is_none());
        Validation {
            cut_short: halted.map(|halt| halt.reason()),
            halt: halted,
            rules: self.selection.rules.iter().map(|rule| self.rule_verdict(rule)).collect(),
            profiles: self.of_entries(discovered),
            checks: if nothing { Vec::new() } else { checks },
            ..self.bare(version)
        }
    }

    pub(super) fn unloadable(&self, complaint: String, version: &str) -> Validation {
        Validation { unloadable: Some(complaint), ..self.bare(version) }
    }

    fn bare(&self, version: &str) -> Validation {
        Validation {
            which: Which::Haproxy,
            set: None,
            subject: self.validate.words(),
            server: version.to_owned(),
            spared: None,
            copied: Vec::new(),
            untried: Vec::new(),
            claims: None,
            unloadable: None,
            cut_short: None,
            halt: None,
            checks: Vec::new(),
            rules: Vec::new(),
            profiles: Vec::new(),
            cases: self.servers,
            known: Vec::new(),
            denied: Vec::new(),
            stale: Vec::new(),
        }
    }

    fn verdict(&self, check: &'static ModuleCheck) -> CheckVerdict {
        let mut verdict = CheckVerdict::unsaid(check);
        for (_, entry, said) in self.said.iter().filter(|(one, ..)| one.id == check.id) {
            verdict.verdict = worse(verdict.verdict, said.verdict(check));
            if let Said::Broken { expected, actual, hint } = said {
                let first = |one: &ModuleFinding| one.blame.name == entry.name;
                if !verdict.findings.iter().any(first) {
                    let finding = self.finding(check, entry, expected, actual, hint.clone());
                    verdict.findings.push(finding);
                }
            }
        }
        verdict
    }

    fn finding(
        &self,
        check: &ModuleCheck,
        entry: &Handler,
        expected: &str,
        actual: &str,
        hint: Option<String>,
    ) -> ModuleFinding {
        let blame = Blame { layer: None, name: entry.name.clone(), party: Party::Handler };
        ModuleFinding {
            hint,
            replay: Some(self.replay(check.id, entry)),
            ..ModuleFinding::of(check, visible_line(expected), visible_line(actual), blame)
        }
    }

    /// The command that asks just this of just this entry.
    fn replay(&self, id: &str, entry: &Handler) -> String {
        let mut words = vec!["layers validate haproxy".to_owned()];
        if let Some(server) = &self.validate.server {
            words.push(format!("--server {}", quoted(server)));
        }
        words.extend(self.validate.files.iter().map(|file| format!("-f {}", quoted(file))));
        words.extend(self.validate.modules.iter().map(|file| format!("--module {}", quoted(file))));
        let asked = entry.asked.as_ref().map_or(entry.name.clone(), ToString::to_string);
        let option = if entry.service { "--request" } else { "--keyword" };
        words.push(format!("{option} {}", quoted(Path::new(&asked))));
        if self.validate.timeout != super::subject::TIMEOUT {
            words.push(format!("--timeout {}", self.validate.timeout.as_secs()));
        }
        words.push(format!("--only {id}"));
        words.join(" ")
    }

    fn rule_verdict(&self, rule: &'static Rule) -> ModuleRuleVerdict {
        let mut verdict = ModuleRuleVerdict::unsaid(rule);
        verdict.exercised = self.exercised.get(rule.id).copied().unwrap_or(0);
        for (entry, found) in self.of_rules.iter().filter(|(_, found)| found.rule == rule.id) {
            verdict.broken += 1;
            if verdict.findings.iter().any(|one| one.blame.name == entry.name) {
                continue;
            }
            let blame = Blame { layer: None, name: entry.name.clone(), party: Party::Handler };
            verdict.findings.push(ModuleFinding {
                replay: Some(self.replay(rule.id, entry)),
                ..ModuleFinding::of_rule(rule, found, blame)
            });
        }
        verdict.verdict = Verdict::of_rule(rule, verdict.exercised, verdict.broken > 0);
        verdict
    }

    /// A verdict for each entry, also for those that are not judged.
    fn of_entries(&self, discovered: &Discovered) -> Vec<ProfileResult> {
        discovered.entries.iter().map(|entry| self.of_entry(entry)).collect()
    }

    fn of_entry(&self, entry: &Handler) -> ProfileResult {
        let mine = || self.said.iter().filter(|(_, one, _)| one == entry);
        let ids = |is: fn(&Said) -> bool| {
            let mut ids: Vec<&str> =
                mine().filter(|(.., said)| is(said)).map(|(check, ..)| check.id).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let broken_ids = ids(|said| matches!(said, Said::Broken { .. }));
        let rules = self.of_rules.iter().filter(|(one, _)| one == entry).count();
        let hold =
            ids(|said| matches!(said, Said::Holds)).iter().filter(|id| !broken_ids.contains(id)).count();
        let fails = mine().any(|(check, _, said)| said.verdict(check).exit() == Exit::Violation);
        let open = mine().find_map(|(_, _, said)| match said {
            Said::Undecided(why) => Some(why.clone()),
            _ => None,
        });
        let verdict = match (fails || rules > 0, &open, hold) {
            (true, ..) => ProfileVerdict::NotConformant,
            (_, Some(_), _) => ProfileVerdict::Inconclusive,
            (_, None, 0) => ProfileVerdict::NotJudged,
            (_, None, _) => ProfileVerdict::Conformant,
        };
        let warns = !broken_ids.is_empty();
        let reason = match verdict {
            // A warning alone says nothing good of it.
            ProfileVerdict::NotJudged if warns => None,
            ProfileVerdict::NotJudged => {
                Some(entry.unjudged.clone().unwrap_or_else(|| "no check was played".to_owned()))
            }
            ProfileVerdict::Inconclusive => open,
            _ => None,
        };
        let profile = if entry.service { Profile::Service } else { Profile::Keyword };
        let (evidence, broken) = (Evidence::default(), broken_ids.len() + usize::from(rules > 0));
        // What the user has named, or what nobody can ask, is no claim that went unjudged.
        ProfileResult {
            profile,
            name: Some(entry.name.clone()),
            verdict,
            hold,
            broken,
            reason,
            evidence,
            missing: verdict == ProfileVerdict::NotJudged && entry.is_asked_for && !warns,
        }
    }
}
