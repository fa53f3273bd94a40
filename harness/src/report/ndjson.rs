//! The report for programs: one JSON object a line, from the first scenario on, with a version in the first line.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::Reporter;
use crate::conform::{Conformance, RuleVerdict, ScenarioVerdict};
use crate::rules::Finding;
use crate::server::nbdkit::Nbdkit;

/// Version of the format: it grows when a field changes its meaning or goes.
pub const VERSION: u32 = 1;

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

    fn line(&mut self, value: &Value) -> io::Result<()> {
        writeln!(self.to, "{value}")?;
        self.to.flush()
    }
}

fn finding(finding: &Finding) -> Value {
    let calls: Vec<Value> = finding
        .calls
        .iter()
        .map(|call| json!({"position": call.position, "layer": call.layer, "thread": call.tid, "call": call.to_string()}))
        .collect();
    json!({"expected": finding.expected, "actual": finding.actual, "calls": calls})
}

fn rule(verdict: &RuleVerdict) -> Value {
    let findings: Vec<Value> = verdict
        .findings
        .iter()
        .map(|(scenario, one)| json!({"scenario": scenario, "finding": finding(one)}))
        .collect();
    json!({
        "type": "rule",
        "id": verdict.rule.id,
        "kind": verdict.rule.kind.to_string(),
        "party": verdict.rule.party.to_string(),
        "clause": verdict.rule.clause,
        "verdict": verdict.verdict.word(),
        "reason": verdict.verdict.reason(),
        "exercised": verdict.exercised,
        "broken": verdict.broken,
        "findings": findings,
    })
}

impl<W: Write> Reporter for Ndjson<W> {
    fn begin(&mut self, server: &Nbdkit, rules: usize, scenarios: usize) -> io::Result<()> {
        self.line(&json!({
            "type": "begin",
            "format": VERSION,
            "layers": env!("CARGO_PKG_VERSION"),
            "server": "nbdkit",
            "server_version": server.version,
            "server_path": server.path,
            "rules": rules,
            "scenarios": scenarios,
        }))
    }

    fn scenario(&mut self, verdict: &ScenarioVerdict) -> io::Result<()> {
        self.line(&json!({
            "type": "scenario",
            "name": verdict.name,
            "verdict": verdict.verdict.word(),
            "reason": verdict.verdict.reason(),
            "events": verdict.events,
        }))
    }

    fn end(&mut self, _server: &Nbdkit, conformance: &Conformance) -> io::Result<()> {
        for verdict in &conformance.rules {
            self.line(&rule(verdict))?;
        }
        for race in &conformance.races {
            let broken: Vec<Value> = race
                .broken
                .iter()
                .map(|(rule, tries, first)| json!({"id": rule.id, "tries": tries, "finding": finding(first)}))
                .collect();
            let astray: Vec<Value> = race
                .astray
                .iter()
                .map(|(verdict, tries)| json!({"verdict": verdict.word(), "reason": verdict.reason(), "tries": tries}))
                .collect();
            self.line(&json!({
                "type": "race",
                "scenario": race.scenario,
                "tries": race.tries,
                "broken": broken,
                "astray": astray,
            }))?;
        }
        let exit = conformance.exit();
        self.line(&json!({"type": "end", "exit": exit.code(), "meaning": exit.meaning()}))
    }
}
