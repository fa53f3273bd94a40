//! What all servers of a run say together.

use std::collections::BTreeMap;
use std::path::Path;

use super::circumstances::Circumstances;
use super::end::Ended;
use super::seen::{News, Seen, Unseen};
use super::server::Watched;
use crate::baseline::{Baseline, BaselineError, Entry};
use crate::campaign::level::Level;
use crate::conform::is_ground;
use crate::outcome::{Exit, Fault, RunEnd, Standing, Verdict, What};
use crate::rules::{self, RuleResult, Trouble};
use crate::run::FoundServer;

/// As a baseline names a crash.
const CRASH: &str = "crash";

/// Reads a file about servers that were watched: rules, and what stands for a crash.
pub(crate) fn load_known(path: &Path) -> Result<Baseline, BaselineError> {
    let is_id = |id: &str| id == CRASH || rules::find(id).is_some();
    Baseline::load_listed(path, is_id, "there is no rule", "layers rules")
}

/// What is known, and so does not count.
#[derive(Clone, Debug, Default)]
pub struct Knowledge {
    /// Of each version of a server, as it comes with `layers`.
    pub of_servers: bool,
    /// What the user has listed.
    pub own: Baseline,
}

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
    /// What the user has listed, and what did not happen although it was looked for.
    pub stale: Vec<Entry>,
}

impl Summary {
    /// Adds up what they say.
    pub fn of(watched: Watched, level: Level, knowledge: &Knowledge) -> Result<Summary, BaselineError> {
        let Watched { seen, unseen, exercised } = watched;
        let mut faults = Vec::new();
        for (number, one) in seen.iter().enumerate().filter(|(_, one)| is_ground(&one.judgement.troubles)) {
            let name = one.name(number);
            let judging = Judging { level, knowledge, server: &one.server, circumstances: one.circumstances };
            faults.extend(judging.faults(&one.judgement.results, one.ended, &name)?);
        }
        let stale = stale(&knowledge.own, &seen, &faults, &exercised);
        Ok(Summary { seen, unseen, faults, exercised, stale })
    }

    /// The exit code of what was found, where anything was; the command's own counts else.
    pub fn exit(&self) -> Exit {
        let faults = self.faults.iter().map(|fault| fault.standing.exit());
        let cut = self.seen.iter().any(Seen::is_cut).then_some(Exit::Inconclusive);
        let end = RunEnd { halt: None, judged: !self.seen.is_empty(), stale: !self.stale.is_empty() };
        end.exit(faults.chain(cut))
    }

    /// What that means.
    pub fn meaning(&self) -> String {
        let cut = self.seen.iter().filter(|one| one.is_cut()).count();
        match self.exit() {
            Exit::Conformant => "everything that was judged holds (warnings allowed)".to_owned(),
            Exit::Inconclusive if cut == 1 => "inconclusive: 1 server is not judged to its end".to_owned(),
            Exit::Inconclusive => format!("inconclusive: {cut} servers are not judged to their ends"),
            other => other.meaning().to_owned(),
        }
    }

    /// The text of the user's baseline after this run: without what is stale and with what is new.
    pub fn baseline(&self, own: &Baseline) -> String {
        let new = self.faults.iter().filter(|fault| fault.standing == Standing::New).map(|fault| {
            let (id, seen) = listed(fault);
            // Another crash is another finding.
            (id, matches!(fault.what, What::Verdict(_)).then_some(seen))
        });
        own.changed(&self.stale, new)
    }
}

/// What the names of servers begin with.
const SERVER: &str = "server ";

impl Seen {
    /// What it is called among the others of its run.
    pub fn name(&self, number: usize) -> String {
        format!("{SERVER}{}: {}", number + 1, self.line)
    }

    /// Why less is told of it than of others.
    pub fn unclear(&self) -> Option<String> {
        let trouble =
            self.judgement.troubles.iter().find(|trouble| trouble.is_cut()).map(ToString::to_string);
        self.server.unknown().map(str::to_owned).or(trouble)
    }

    /// Its trace does not tell the whole story.
    pub fn is_cut(&self) -> bool {
        self.judgement.troubles.iter().any(Trouble::is_cut)
    }
}

/// What has just been found in this server.
pub fn faults(news: &News, level: Level, knowledge: &Knowledge) -> Result<Vec<Fault>, BaselineError> {
    let judging = Judging { level, knowledge, server: &news.server, circumstances: news.circumstances };
    judging.faults(&news.broken, news.ended, &news.server.command_line())
}

/// What is to be said of one server.
struct Judging<'a> {
    level: Level,
    knowledge: &'a Knowledge,
    server: &'a FoundServer,
    circumstances: Circumstances,
}

impl Judging<'_> {
    fn faults(&self, results: &[RuleResult], ended: Ended, name: &str) -> Result<Vec<Fault>, BaselineError> {
        let version = self.server.version().filter(|_| self.knowledge.of_servers);
        let embedded = version.map(|version| Baseline::embedded(&self.server.found.found, version));
        let baseline = embedded.transpose()?.flatten().unwrap_or_default();
        let broken = results.iter().filter(|result| result.broken > 0 && self.level.judges(result.rule));
        let mut faults: Vec<Fault> = broken.map(|result| self.of_rule(result, name, &baseline)).collect();
        if let Ended::Crashed(signal) = ended {
            let what = What::Verdict(Verdict::Crash(format!("the server was killed by signal {signal}")));
            faults.push(Fault::new(what, name));
        }
        for fault in faults.iter_mut().filter(|fault| fault.standing == Standing::New) {
            let (id, seen) = listed(fault);
            if let Some(entry) = self.knowledge.own.entry(id, seen) {
                fault.standing = Standing::Known { why: entry.why.clone(), race: false };
            }
        }
        Ok(faults)
    }

    fn of_rule(&self, result: &RuleResult, name: &str, baseline: &Baseline) -> Fault {
        let fault = Fault::in_trace(name, result);
        // What is known is known of the server. That a module does the same is not.
        let of_server = result.findings.iter().all(|finding| finding.party.comes_with_server());
        let is_this = |entry: &&Entry| entry.id == fault.what.id() && self.circumstances.fit(entry);
        match baseline.entries.iter().find(is_this).filter(|_| of_server && fault.standing == Standing::New) {
            Some(entry) => {
                let standing = Standing::Known { why: entry.why.clone(), race: false };
                Fault { standing, ..fault }
            }
            None => fault,
        }
    }
}

/// As a baseline lists it: the id, and what was seen.
fn listed(fault: &Fault) -> (&str, &str) {
    (fault.what.id(), fault.seen())
}

/// What is listed and was looked for, and did not happen.
fn stale(
    own: &Baseline,
    seen: &[Seen],
    faults: &[Fault],
    exercised: &BTreeMap<&'static str, u64>,
) -> Vec<Entry> {
    let is_stale = |entry: &&Entry| {
        let looked_for = match entry.id.as_str() {
            CRASH => !seen.is_empty(),
            rule => exercised.contains_key(rule),
        };
        looked_for && !faults.iter().map(listed).any(|(id, seen)| entry.knows(id, seen))
    };
    own.entries.iter().filter(is_stale).cloned().collect()
}
