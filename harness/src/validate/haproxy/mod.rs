//! Judging somebody's keywords and services of HAProxy.
//!
//! ```text
//!  configuration, modules ─▶ discovery ─▶ entries ─▶ checks ─▶ rounds on servers ─▶ findings ─▶ a verdict for each entry
//! ```
//!
//! The subject is what the configuration and the modules add to the same server without them. Each check plays every entry
//! on servers of its own; crashes, errors of Lua and broken rules are taken from all of them.

mod acts;
mod bench;
mod checks;
mod discovery;
mod memory;
mod subject;
mod written;

pub use checks::all as checks;
pub use discovery::Handler;
pub use subject::HaproxyValidation as Haproxy;

use super::check::{ModuleCheck, Profile};
use super::evidence::Evidence;
use super::listener::Listener;
use super::profile::{ProfileResult, ProfileVerdict};
use super::validation::{Subject, Validation};
use super::verdicts::{Blame, CheckVerdict, ModuleFinding, ModuleRuleVerdict, broken, worse};
use crate::campaign::halt::Limit;
use crate::foreign::visible::visible_line;
use crate::outcome::Verdict;
use crate::rules::{self, Party, Rule};
use crate::server::haproxy::HaproxyError;
use crate::server::nbdkit::ServerError;
use crate::version::Which;
use acts::Said;
use bench::{Bench, Round};
use checks::Row;
use discovery::{Discovered, discover};
use subject::{HaproxyValidation, of_handlers};

impl HaproxyValidation {
    /// Runs it, and tells of each check as it is played.
    pub fn run_telling(&self, listener: &mut dyn Listener) -> Result<Validation, ServerError> {
        let server = crate::server::haproxy::Haproxy::find(self.server.as_deref())?;
        let limit = Limit::new(self.time);
        let bench = Bench::new(self, &server, limit);
        let rows: Vec<&'static Row> = checks::ROWS
            .iter()
            .filter(|row| row.check.level <= self.level && self.wants(row.check.id))
            .collect();
        let rules: Vec<&'static Rule> =
            of_handlers().filter(|rule| rule.since <= server.version && self.wants(rule.id)).collect();
        listener.begins(&Subject {
            which: Which::Haproxy,
            set: None,
            words: self.words(),
            server: server.version.to_string(),
            spared: None,
            copied: Vec::new(),
            level: self.level,
            checks: rows.len(),
            rules: rules.len(),
        });
        let mut run =
            Run { validate: self, bench: &bench, rows, rules, said: Vec::new(), of_rules: Vec::new() };
        run.play(listener)?.map_or_else(
            |discovered| Ok(run.validation(&discovered, &server.version.to_string())),
            |unloadable| Ok(run.unloadable(unloadable, &server.version.to_string())),
        )
    }
}

struct Run<'a> {
    validate: &'a HaproxyValidation,
    bench: &'a Bench<'a>,
    rows: Vec<&'static Row>,
    rules: Vec<&'static Rule>,
    /// What each check says of each entry that it is about.
    said: Vec<(&'static ModuleCheck, Handler, Said)>,
    of_rules: Vec<(Handler, rules::Finding)>,
}

/// What it is that cannot be loaded.
type Unloadable = Result<String, Discovered>;

impl Run<'_> {
    fn play(&mut self, listener: &mut dyn Listener) -> Result<Result<String, Discovered>, HaproxyError> {
        let discovered = match discover(self.validate, self.bench)? {
            Ok(discovered) => discovered,
            Err(complaint) => return Ok(Unloadable::Ok(complaint)),
        };
        let count = self.rows.len();
        for (index, row) in self.rows.clone().into_iter().enumerate() {
            listener.playing(index, count, row.check);
            for entry in discovered.entries.iter().filter(|entry| entry.asked.is_some()) {
                if self.bench.limit.reached().is_some() {
                    break;
                }
                let Some(act) = row.act else { continue };
                let said = act(self.bench, entry)?;
                let rounds = self.bench.take_rounds();
                let died = rounds.iter().find_map(|round| round.crash.clone()).filter(|_| entry.lua);
                let said = match died {
                    // Code in Lua cannot do that by itself.
                    Some(how) => {
                        Said::Undecided(format!("the server is at fault, not what is in Lua: {how}"))
                    }
                    None => said,
                };
                let explained = entry.lua || matches!(said, Said::Broken { .. });
                self.said.push((row.check, entry.clone(), said));
                self.take_rounds(entry, rounds, explained);
            }
        }
        listener.playing(count, count, &checks::SURVIVES);
        Ok(Err(discovered))
    }

    /// What the servers of the last act have shown beside what it asked: a crash that it has explained is no finding of its
    /// own.
    fn take_rounds(&mut self, entry: &Handler, rounds: Vec<Round>, explained: bool) {
        for round in rounds {
            let Round { crash, lua, findings } = round;
            let survived = match crash.filter(|_| !explained) {
                Some(how) => {
                    Said::Broken { expected: "the server lives".to_owned(), actual: how, hint: None }
                }
                None => Said::Holds,
            };
            self.say(&checks::SURVIVES, entry, survived);
            if entry.lua {
                let said = lua.into_iter().next().map_or(Said::Holds, |line| Said::Broken {
                    expected: "no error of Lua".to_owned(),
                    actual: visible_line(&line),
                    hint: None,
                });
                self.say(&checks::LUA_ERROR, entry, said);
            }
            let wanted =
                findings.into_iter().filter(|found| self.rules.iter().any(|rule| rule.id == found.rule));
            self.of_rules.extend(wanted.map(|found| (entry.clone(), found)));
        }
    }

    fn say(&mut self, check: &'static ModuleCheck, entry: &Handler, said: Said) {
        if self.rows.iter().any(|row| row.check.id == check.id) {
            self.said.push((check, entry.clone(), said));
        }
    }

    fn validation(&self, discovered: &Discovered, version: &str) -> Validation {
        let checks: Vec<CheckVerdict> = self.rows.iter().map(|row| self.verdict(row.check)).collect();
        let halted = self.bench.limit.reached();
        let nothing = discovered.entries.iter().all(|entry| entry.asked.is_none());
        Validation {
            cut_short: halted.map(|halt| halt.reason()),
            halt: halted,
            rules: self.rules.iter().map(|rule| self.rule_verdict(rule)).collect(),
            profiles: self.of_entries(discovered),
            checks: if nothing { Vec::new() } else { checks },
            ..self.bare(version)
        }
    }

    fn unloadable(&self, complaint: String, version: &str) -> Validation {
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
            cases: self.bench.servers(),
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
        ModuleFinding {
            id: check.id,
            level: check.level,
            statement: check.statement,
            clause: check.clause,
            fix: check.fix,
            expected: visible_line(expected),
            actual: visible_line(actual),
            calls: Vec::new(),
            guilty: None,
            hint,
            blame: Blame { layer: None, name: entry.name.clone(), party: Party::Handler },
            repro: None,
            replay: Some(self.replay(check.id, entry)),
            run: None,
            said: Vec::new(),
            also: Vec::new(),
        }
    }

    /// The command that asks just this of just this entry.
    fn replay(&self, id: &str, entry: &Handler) -> String {
        let server = self.validate.server.as_ref().map(|path| format!("--server {} ", path.display()));
        let which = match (&entry.asked, entry.service) {
            (Some(asked), true) => format!("--request '{asked}'"),
            _ => format!(
                "--keyword '{}'",
                entry.asked.as_ref().map_or(entry.name.clone(), ToString::to_string)
            ),
        };
        let server = server.unwrap_or_default();
        format!("layers validate haproxy {server}{} {which} --only {id}", self.validate.words())
    }

    fn rule_verdict(&self, rule: &'static Rule) -> ModuleRuleVerdict {
        let mut verdict = ModuleRuleVerdict::unsaid(rule);
        verdict.exercised = self.bench.exercised(rule.id);
        for (entry, found) in self.of_rules.iter().filter(|(_, found)| found.rule == rule.id) {
            verdict.broken += 1;
            verdict.verdict = broken(ModuleRuleVerdict::level(rule));
            if verdict.findings.iter().any(|one| one.blame.name == entry.name) {
                continue;
            }
            verdict.findings.push(ModuleFinding {
                id: rule.id,
                level: ModuleRuleVerdict::level(rule),
                statement: rule.statement,
                clause: rule.clause,
                fix: rule.fix,
                expected: found.expected.clone(),
                actual: found.actual.clone(),
                calls: found.calls.clone(),
                guilty: None,
                hint: None,
                blame: Blame { layer: None, name: entry.name.clone(), party: Party::Handler },
                repro: None,
                replay: Some(self.replay(rule.id, entry)),
                run: None,
                said: Vec::new(),
                also: Vec::new(),
            });
        }
        if verdict.exercised == 0 && verdict.broken == 0 {
            verdict.verdict = Verdict::NotApplicable(format!("never exercised: needs {}", rule.antecedent));
        }
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
        let fails =
            mine().any(|(check, _, said)| said.verdict(check).exit() == crate::outcome::Exit::Violation);
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
        let reason = match verdict {
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
            missing: verdict == ProfileVerdict::NotJudged && entry.is_asked_for,
        }
    }
}
