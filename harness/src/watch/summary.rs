//! What all servers of a run say together.

use std::collections::BTreeMap;

use super::end::Ended;
use super::server::{Seen, Unseen};
use crate::baseline::{Baseline, BaselineError, What};
use crate::campaign::level::Level;
use crate::conform::{Fault, Standing, is_ground};
use crate::rules::{Kind, RuleResult};
use crate::verdict::{Exit, Verdict};

/// What was found.
#[derive(Debug)]
pub struct Summary {
    /// Every server, in the order in which they began.
    pub seen: Vec<Seen>,
    /// Servers of which nothing is told.
    pub unseen: Vec<Unseen>,
    /// What was found in each; the scenario of each fault is the server, by its number and its command line.
    pub faults: Vec<Fault>,
    /// How often each rule was put to the test, in all of them.
    pub exercised: BTreeMap<&'static str, u64>,
}

impl Summary {
    /// Adds up what they say. What is known of a server's version does not count, unless `nothing_known`.
    pub fn of(
        seen: Vec<Seen>,
        unseen: Vec<Unseen>,
        level: Level,
        nothing_known: bool,
    ) -> Result<Summary, BaselineError> {
        let faults = faults(&seen, level, nothing_known)?;
        let mut exercised: BTreeMap<&'static str, u64> = BTreeMap::new();
        for result in seen.iter().flat_map(|one| &one.judgement.results) {
            if result.exercised > 0 && level.judges(result.rule) {
                *exercised.entry(result.rule.id).or_default() += result.exercised;
            }
        }
        Ok(Summary { seen, unseen, faults, exercised })
    }

    /// The exit code of what was found, where anything was; the command's own counts else.
    pub fn exit(&self) -> Exit {
        let faults = self.faults.iter().map(|fault| fault.standing.exit());
        let floor = if self.seen.is_empty() { Exit::NothingJudged } else { Exit::Conformant };
        Exit::of(faults.chain([floor]))
    }

    /// Servers of each version (empty where it is not known), by the program's name.
    pub fn versions(&self) -> BTreeMap<(&str, &str), usize> {
        let mut versions = BTreeMap::new();
        for one in &self.seen {
            *versions
                .entry((one.server.found.found.as_str(), one.server.found.version.as_str()))
                .or_default() += 1;
        }
        versions
    }

    /// How many have ended how.
    pub fn ends(&self) -> BTreeMap<Ended, usize> {
        let mut ends = BTreeMap::new();
        for one in &self.seen {
            *ends.entry(one.ended).or_default() += 1;
        }
        ends
    }

    /// The server of this fault.
    pub fn server_of(&self, fault: &Fault) -> Option<&Seen> {
        self.seen
            .iter()
            .enumerate()
            .find(|(number, one)| name(*number, one) == fault.scenario)
            .map(|(_, one)| one)
    }

    /// What a reader of the traces has to say against single ones: they were full, or cannot be read to their ends.
    pub fn unclear(&self) -> impl Iterator<Item = (&Seen, String)> {
        self.seen.iter().filter_map(|one| {
            let told = |trouble: &&crate::rules::Trouble| {
                use crate::rules::Trouble::{Killed, NoEnd};
                !matches!(trouble, NoEnd | Killed(_))
            };
            let trouble = one.judgement.troubles.iter().find(told).map(ToString::to_string);
            let unknown = one.server.unknown().map(str::to_owned);
            let trouble = unknown.or(trouble);
            Some((one, trouble?))
        })
    }
}

/// What was found in these servers.
pub fn faults(seen: &[Seen], level: Level, nothing_known: bool) -> Result<Vec<Fault>, BaselineError> {
    let mut faults = Vec::new();
    for (number, one) in seen.iter().enumerate() {
        let name = name(number, one);
        let version = one.server.version().filter(|_| !nothing_known);
        let embedded = version.map(|version| Baseline::embedded(&one.server.found.found, version));
        let baseline = embedded.transpose()?.flatten().unwrap_or_default();
        for result in one.judgement.results.iter().filter(|result| level.judges(result.rule)) {
            if result.broken > 0 && is_ground(&one.judgement.troubles) {
                faults.push(of_rule(result, &name, &baseline));
            }
        }
        if let Ended::Crashed(signal) = one.ended {
            let what = What::Verdict(Verdict::Crash(format!("the server was killed by signal {signal}")));
            faults.push(fault(what, &name));
        }
    }
    Ok(faults)
}

/// What a server is called among the others of its run.
fn name(number: usize, one: &Seen) -> String {
    format!("server {}: {}", number + 1, one.server.command_line())
}

fn of_rule(result: &RuleResult, name: &str, baseline: &Baseline) -> Fault {
    let first = result.findings.first();
    let at = first.and_then(|finding| finding.calls.last()).map_or(0, |call| call.position);
    // What is known is known of the server. That a module does the same is not.
    let of_server = result.findings.iter().all(|finding| finding.party.comes_with_server());
    let what = What::Rule(result.rule);
    let known = baseline.entries.iter().find(|entry| entry.what == what).filter(|_| of_server);
    let standing = match known {
        _ if result.rule.kind == Kind::Observed => Standing::Habit,
        Some(entry) => Standing::Known { why: entry.why.clone(), race: false },
        None => Standing::New,
    };
    Fault { first: first.cloned(), at, standing, ..fault(what, name) }
}

fn fault(what: What, name: &str) -> Fault {
    Fault {
        what,
        scenario: name.to_owned(),
        times: 1,
        tries: 1,
        first: None,
        at: u32::MAX,
        run: None,
        wrote: None,
        standing: Standing::New,
    }
}
