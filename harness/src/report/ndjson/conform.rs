//! The lines of `conform`.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::line::{BrokenLine, FoundLine, Ndjson, Word, line};
use crate::baseline::{Entry, How};
use crate::cases::reproduce;
use crate::conform::{ConformPlan, Conformance, NotPlayed, RuleVerdict, ScenarioVerdict, UnjudgedCommand};
use crate::outcome::{Exit, Fault, Verdict};
use crate::version::Version;

/// Version of the format: it grows when a field changes its meaning or goes.
pub const VERSION: u32 = 2;

/// A line of `layers conform --report ndjson`.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Line"))]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum ConformLine<'a> {
    /// The first line.
    Begin {
        /// Version of this format.
        #[cfg_attr(feature = "schema", schemars(extend("const" = VERSION)))]
        format: u32,
        /// Version of this project.
        layers: &'a str,
        /// `nbdkit` or `haproxy`.
        server: &'a str,
        /// Its version.
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        server_version: Version,
        /// The program.
        server_path: &'a Path,
        /// How much is asked.
        level: &'a str,
        /// How many rules are selected.
        rules: usize,
        /// How many scenarios are to be played.
        scenarios: usize,
        /// How many entries the baseline has.
        baseline: usize,
    },
    /// A scenario is over, or was not played; in the order in which they are played, races last. Those that could not be
    /// played on this machine come behind all others.
    Scenario {
        /// Its name.
        name: &'a str,
        /// Whether it went as planned.
        verdict: Word,
        /// Why not.
        reason: Option<&'a str>,
        /// Decided by chance, and tried several times.
        race: bool,
        /// How often it was played.
        tries: u32,
        /// What became of tries that did not go as planned.
        astray: Vec<AstrayLine<'a>>,
        /// Events recorded in all tries.
        events: u64,
        /// What it must show.
        controls: Vec<ControlLine<'a>>,
    },
    /// What is said of a rule; after the last scenario.
    Rule {
        /// Its id.
        id: &'a str,
        /// Its kind.
        kind: String,
        /// Whose duty it is.
        party: String,
        /// The version of the server since which it holds.
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        since: Version,
        /// What is said.
        verdict: Word,
        /// Why it was not judged.
        reason: Option<&'a str>,
        /// How often its antecedent was true, races apart.
        exercised: u64,
        /// In how many scenarios.
        scenarios: usize,
        /// How often it was broken there.
        broken: u64,
        /// The scenarios that broke it.
        broken_in: &'a [String],
        /// All of those are in the baseline.
        known: bool,
        /// Commands of HAProxy of which it says nothing.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        unjudged: Vec<UnjudgedLine<'a>>,
    },
    /// A rule broken, a crash or a hang, in one scenario.
    #[cfg_attr(
        feature = "schema",
        schemars(extend("oneOf" = [{"required": ["rule"]}, {"required": ["verdict", "reason"]}]))
    )]
    Finding {
        /// The scenario.
        scenario: &'a str,
        /// In how many tries.
        times: u32,
        /// Of how many.
        tries: u32,
        /// `new`, `known`, `habit` (a warning), `harness` (our own fault) or `follows` (our own layers, in a scenario in
        /// which the server is at fault).
        standing: &'a str,
        /// Why it is known, as the baseline says.
        why: Option<&'a str>,
        /// A command that shows it again.
        reproduce: String,
        /// What is broken, and how.
        #[serde(flatten)]
        found: FoundLine<'a>,
        /// What a program that the scenario runs has written in that try.
        #[serde(skip_serializing_if = "Option::is_none")]
        wrote: Option<&'a str>,
    },
    /// An entry of the baseline about what was played and judged.
    #[cfg_attr(
        feature = "schema",
        schemars(extend("oneOf" = [{"required": ["rule"]}, {"required": ["verdict", "reason"]}]))
    )]
    Baseline {
        /// `known` or `stale`.
        state: &'a str,
        /// The scenario.
        scenario: &'a str,
        /// Why it is listed.
        why: &'a str,
        /// What is broken.
        #[serde(flatten)]
        broken: BrokenLine<'a>,
        /// `deterministic` or `race`.
        how: &'a str,
        /// Of a race: in how many tries it was seen when it was listed.
        #[serde(skip_serializing_if = "Option::is_none")]
        seen: Option<u32>,
        /// Of a race: of how many.
        #[serde(skip_serializing_if = "Option::is_none")]
        tries: Option<u32>,
    },
    /// The last line.
    End {
        /// The exit code.
        exit: u8,
        /// What it means.
        meaning: String,
        /// Entries of the baseline that happened.
        known: usize,
        /// And that did not.
        stale: usize,
    },
}

/// Tries of a scenario that did not go as planned.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Astray"))]
#[serde(deny_unknown_fields)]
pub struct AstrayLine<'a> {
    verdict: Word,
    reason: Option<&'a str>,
    /// How many tries.
    times: u32,
}

/// Something that a scenario must show.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Control"))]
#[serde(deny_unknown_fields)]
pub struct ControlLine<'a> {
    /// What.
    expected: String,
    verdict: Word,
    reason: Option<&'a str>,
}

/// A command of which a rule says nothing in a scenario that is about it.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "UnjudgedCommand"))]
#[serde(deny_unknown_fields)]
pub struct UnjudgedLine<'a> {
    scenario: &'a str,
    /// As it was asked.
    command: &'a str,
    /// Why nothing is said of it.
    why: &'a str,
}

pub(super) fn begin<'a>(plan: &'a ConformPlan<'_>) -> ConformLine<'a> {
    ConformLine::Begin {
        format: VERSION,
        layers: env!("CARGO_PKG_VERSION"),
        server: plan.server.which().name(),
        server_version: plan.server.version(),
        server_path: plan.server.path(),
        level: plan.level.word(),
        rules: plan.selection.rules.len(),
        scenarios: plan.selection.scenarios.len(),
        baseline: plan.baseline.entries.len(),
    }
}

pub(super) fn scenario(said: &ScenarioVerdict) -> ConformLine<'_> {
    let astray = said.astray.iter().map(|(verdict, times)| AstrayLine {
        verdict: verdict.into(),
        reason: verdict.reason(),
        times: *times,
    });
    let controls = said.controls.iter().map(|control| ControlLine {
        expected: control.expected.to_string(),
        verdict: (&control.verdict).into(),
        reason: control.verdict.reason(),
    });
    ConformLine::Scenario {
        name: &said.name,
        verdict: (&said.verdict).into(),
        reason: said.verdict.reason(),
        race: said.race,
        tries: said.tries,
        astray: astray.collect(),
        events: said.events,
        controls: controls.collect(),
    }
}

fn not_played<'a>(one: &'a NotPlayed, why: &'a Verdict) -> ConformLine<'a> {
    ConformLine::Scenario {
        name: &one.scenario,
        verdict: why.into(),
        reason: why.reason(),
        race: false,
        tries: 0,
        astray: Vec::new(),
        events: 0,
        controls: Vec::new(),
    }
}

fn rule<'a>(said: &'a RuleVerdict, unjudged: &'a [UnjudgedCommand]) -> ConformLine<'a> {
    let unjudged = unjudged.iter().filter(|one| one.rule == said.rule.id).map(|one| UnjudgedLine {
        scenario: &one.scenario,
        command: &one.command,
        why: &one.why,
    });
    ConformLine::Rule {
        id: said.rule.id,
        kind: said.rule.kind.to_string(),
        party: said.rule.party.to_string(),
        since: said.rule.since,
        verdict: (&said.verdict).into(),
        reason: said.verdict.reason(),
        exercised: said.exercised,
        scenarios: said.scenarios,
        broken: said.broken,
        broken_in: &said.broken_in,
        known: said.known && said.verdict == Verdict::Fail,
        unjudged: unjudged.collect(),
    }
}

fn finding<'a>(plan: &ConformPlan<'_>, fault: &'a Fault) -> ConformLine<'a> {
    ConformLine::Finding {
        scenario: &fault.scenario,
        times: fault.times,
        tries: fault.tries,
        standing: fault.standing.word(),
        why: fault.standing.why(),
        reproduce: reproduce(plan, fault),
        found: FoundLine::of(fault),
        wrote: fault.wrote.as_deref(),
    }
}

fn baseline<'a>(state: &'a str, entry: &'a Entry) -> ConformLine<'a> {
    let (how, seen, tries) = match entry.how {
        How::Deterministic => ("deterministic", None, None),
        How::Race { seen, tries } => ("race", Some(seen), Some(tries)),
    };
    let broken = BrokenLine::listed(entry);
    let scenario = entry.scenario.as_deref().unwrap_or_default();
    ConformLine::Baseline { state, scenario, why: &entry.why, broken, how, seen, tries }
}

fn end(conformance: &Conformance) -> ConformLine<'_> {
    ConformLine::End {
        exit: conformance.exit().code(),
        meaning: conformance.meaning(),
        known: conformance.known.len(),
        stale: conformance.stale.len(),
    }
}

/// Returns the last line of a run that has failed in this way.
pub(crate) fn failed(exit: Exit, why: &str) -> String {
    let meaning = format!("{}: {why}", exit.meaning());
    line(&ConformLine::End { exit: exit.code(), meaning, known: 0, stale: 0 })
}

/// Writes all lines that come when the run is over.
pub(super) fn write<W: Write>(
    to: &mut Ndjson<W>,
    plan: &ConformPlan<'_>,
    conformance: &Conformance,
) -> io::Result<()> {
    for one in &conformance.not_played {
        to.line(&not_played(one, &Verdict::Skipped(one.why.to_string())))?;
    }
    let rules = conformance.rules.iter().map(|said| rule(said, &conformance.unjudged));
    let findings = conformance.faults.iter().map(|fault| finding(plan, fault));
    let known = conformance.known.iter().map(|entry| baseline("known", entry));
    let stale = conformance.stale.iter().map(|entry| baseline("stale", entry));
    let mut lines = rules.chain(findings).chain(known).chain(stale).chain([end(conformance)]);
    lines.try_for_each(|line| to.line(&line))
}
