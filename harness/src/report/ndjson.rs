//! The report for programs: one JSON object a line, from the first scenario on, with a version in the first line.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{Reporter, reproduce};
use crate::baseline::{Entry, How, What};
use crate::conform::{Conformance, Fault, Plan, RuleVerdict, ScenarioVerdict, Standing};
use crate::rules::Finding;
use crate::verdict::Verdict;

/// Version of the format: it grows when a field changes its meaning or goes.
pub const VERSION: u32 = 2;

/// Writes to `W`, a line at a time.
#[derive(Debug)]
pub struct Ndjson<W> {
    to: W,
}

impl<W: Write> Ndjson<W> {
    /// Writes to `to`.
    pub fn new(to: W) -> Ndjson<W> {
        Ndjson { to }
    }

    pub(super) fn line(&mut self, value: &Value) -> io::Result<()> {
        writeln!(self.to, "{value}")?;
        self.to.flush()
    }
}

fn rule(verdict: &RuleVerdict) -> Value {
    json!({
        "type": "rule",
        "id": verdict.rule.id,
        "kind": verdict.rule.kind.to_string(),
        "party": verdict.rule.party.to_string(),
        "since": verdict.rule.since,
        "verdict": verdict.verdict.word(),
        "reason": verdict.verdict.reason(),
        "exercised": verdict.exercised,
        "scenarios": verdict.scenarios,
        "broken": verdict.broken,
        "broken_in": verdict.broken_in,
        "known": verdict.known && verdict.verdict == Verdict::Fail,
    })
}

/// Two objects in one.
fn joined(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}

/// What went wrong: the rule, or the verdict and its reason.
fn what(what: &What) -> Value {
    match what {
        What::Rule(rule) => json!({"rule": rule.id}),
        What::Verdict(verdict) => json!({"verdict": verdict.word(), "reason": verdict.reason()}),
    }
}

fn first(what: &What, finding: Option<&Finding>) -> Value {
    let (What::Rule(rule), Some(finding)) = (what, finding) else { return json!({}) };
    let calls: Vec<Value> = finding
        .calls
        .iter()
        .map(|call| json!({"position": call.position, "layer": call.layer, "thread": call.tid, "call": call.to_string()}))
        .collect();
    json!({
        "party": rule.party.to_string(),
        "statement": rule.statement,
        "clause": rule.clause,
        "expected": finding.expected,
        "actual": finding.actual,
        "calls": calls,
    })
}

fn fault(plan: &Plan<'_>, fault: &Fault) -> Value {
    let why = match &fault.standing {
        Standing::Known { why, .. } => Some(why),
        _ => None,
    };
    let common = json!({
        "type": "finding",
        "scenario": fault.scenario,
        "times": fault.times,
        "tries": fault.tries,
        "standing": fault.standing.word(),
        "why": why,
        "reproduce": reproduce(plan, fault),
    });
    joined(joined(common, what(&fault.what)), first(&fault.what, fault.first.as_ref()))
}

fn entry(word: &str, entry: &Entry) -> Value {
    let how = match entry.how {
        How::Deterministic => json!({"how": "deterministic"}),
        How::Race { seen, tries } => json!({"how": "race", "seen": seen, "tries": tries}),
    };
    let common = json!({"type": "baseline", "state": word, "scenario": entry.scenario, "why": entry.why});
    joined(joined(common, what(&entry.what)), how)
}

impl<W: Write> Reporter for Ndjson<W> {
    fn begin(&mut self, plan: &Plan<'_>) -> io::Result<()> {
        self.line(&json!({
            "type": "begin",
            "format": VERSION,
            "layers": env!("CARGO_PKG_VERSION"),
            "server": plan.server.which().name(),
            "server_version": plan.server.version(),
            "server_path": plan.server.path(),
            "level": plan.level.word(),
            "rules": plan.selection.rules.len(),
            "scenarios": plan.selection.scenarios.len(),
            "baseline": plan.baseline.entries.len(),
        }))
    }

    fn scenario(&mut self, verdict: &ScenarioVerdict) -> io::Result<()> {
        let astray: Vec<Value> = verdict
            .astray
            .iter()
            .map(|(verdict, times)| json!({"verdict": verdict.word(), "reason": verdict.reason(), "times": times}))
            .collect();
        let controls: Vec<Value> = verdict
            .controls
            .iter()
            .map(|control| {
                let (word, reason) = (control.verdict.word(), control.verdict.reason());
                json!({"expected": control.expected.to_string(), "verdict": word, "reason": reason})
            })
            .collect();
        self.line(&json!({
            "type": "scenario",
            "name": verdict.name,
            "verdict": verdict.verdict.word(),
            "reason": verdict.verdict.reason(),
            "race": verdict.race,
            "tries": verdict.tries,
            "astray": astray,
            "events": verdict.events,
            "controls": controls,
        }))
    }

    fn end(&mut self, plan: &Plan<'_>, conformance: &Conformance) -> io::Result<()> {
        for verdict in &conformance.rules {
            self.line(&rule(verdict))?;
        }
        for one in &conformance.faults {
            self.line(&fault(plan, one))?;
        }
        for (word, entries) in [("known", &conformance.known), ("stale", &conformance.stale)] {
            for one in entries {
                self.line(&entry(word, one))?;
            }
        }
        let exit = conformance.exit();
        self.line(&json!({
            "type": "end",
            "exit": exit.code(),
            "meaning": conformance.meaning(),
            "known": conformance.known.len(),
            "stale": conformance.stale.len(),
        }))
    }
}
