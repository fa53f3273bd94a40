//! What there is to tell of the traces of servers that the harness has not started, or not in this run: `watch` and `check`.

use std::collections::BTreeMap;
use std::path::Path;

use super::html::Traced;
use crate::baseline::Entry;
use crate::outcome::{Exit, Fault, Verdict};
use crate::rules::{self, Rule, Trouble};
use crate::server::Which;
use crate::watch::{Ended, Unseen};

/// All that is told of such a run.
#[derive(Debug)]
pub struct Account<'a> {
    /// What was judged, in a few words.
    pub title: String,
    /// The command that has started the servers, where there was one.
    pub command: Option<Vec<String>>,
    /// How much was asked.
    pub level: &'static str,
    /// The rules by which servers of these kinds are judged.
    pub rules: Vec<&'static Rule>,
    /// The servers.
    pub servers: Vec<JudgedServer<'a>>,
    /// What was found in them.
    pub faults: &'a [Fault],
    /// How often each rule was put to the test.
    pub exercised: &'a BTreeMap<&'static str, u64>,
    /// Servers of which nothing is told.
    pub unseen: &'a [Unseen],
    /// What the user's baseline lists, and what did not happen.
    pub stale: &'a [Entry],
    /// What was found comes to this.
    pub exit: Exit,
    /// In words.
    pub meaning: String,
    /// The exit code, which may be another program's.
    pub code: u8,
    /// Why it is that.
    pub why: String,
    /// Where the traces are kept, if they are.
    pub kept: Option<&'a Path>,
}

impl Account<'_> {
    /// What is said of this rule.
    pub(super) fn verdict(&self, rule: &Rule) -> Verdict {
        let exercised = self.exercised.get(rule.id).copied().unwrap_or_default();
        Verdict::of_rule(rule, exercised, self.faults.iter().any(|fault| fault.is_of(rule)))
    }
}

/// Those of these rules that are about servers with these names.
pub fn of_servers<'a>(names: impl Iterator<Item = &'a str>, judged: &[&'static Rule]) -> Vec<&'static Rule> {
    let kinds: Vec<Which> = names.filter_map(Which::named).collect();
    let is_of_servers =
        |rule: &&&Rule| kinds.iter().any(|kind| rules::of(*kind).any(|one| one.id == rule.id));
    judged.iter().filter(is_of_servers).copied().collect()
}

/// A server, and its trace.
#[derive(Debug)]
pub struct JudgedServer<'a> {
    /// What it is called in this run; faults name it so.
    pub name: String,
    /// `nbdkit` or `haproxy`; empty where that is not known.
    pub server: String,
    /// Its version; empty where that is not known.
    pub version: String,
    /// Its process, where that is known.
    pub process: Option<u32>,
    /// Its working directory, where that is known.
    pub directory: Option<String>,
    /// What has become of it.
    pub ended: Ended,
    /// Events recorded.
    pub events: u64,
    /// Why less is told of it than of others.
    pub unclear: Option<String>,
    /// For those who draw.
    pub traced: Traced<'a>,
}

impl JudgedServer<'_> {
    /// Its trace does not tell the whole story.
    pub(super) fn is_cut(&self) -> bool {
        self.traced.judgement.troubles.iter().any(Trouble::is_cut)
    }
}
