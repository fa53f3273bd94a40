//! The report of `validate` for programs: one JSON object a line, from the first check on, with a version in the first
//! line.

use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::ValidationReporter;
use super::ndjson::Ndjson;
use crate::validate::{Check, CheckVerdict, Finding, ProfileResult, RuleVerdict, Subject, Validation};

/// Version of the format: it grows when a field changes its meaning or goes.
pub const VERSION: u32 = 1;

fn check(validation: &Validation, said: &CheckVerdict) -> Value {
    json!({
        "type": "check",
        "id": said.check.id,
        "level": said.check.level.word(),
        "profile": said.check.profile.word(),
        "party": said.check.party.to_string(),
        "verdict": said.verdict.word(),
        "reason": said.verdict.reason(),
        "claimed": !said.not_claimed,
        "counts": validation.standing(said.check.id).word(),
    })
}

fn rule(validation: &Validation, said: &RuleVerdict) -> Value {
    json!({
        "type": "rule",
        "id": said.rule.id,
        "kind": said.rule.kind.to_string(),
        "party": said.rule.party.to_string(),
        "verdict": said.verdict.word(),
        "reason": said.verdict.reason(),
        "exercised": said.exercised,
        "broken": said.broken,
        "counts": validation.standing(said.rule.id).word(),
    })
}

fn finding(found: &Finding, file: Option<&PathBuf>) -> Value {
    let calls: Vec<Value> = found
        .calls
        .iter()
        .map(|call| json!({"position": call.position, "layer": call.layer, "thread": call.tid, "call": call.to_string()}))
        .collect();
    json!({
        "type": "finding",
        "id": found.id,
        "statement": found.statement,
        "clause": found.clause,
        "expected": found.expected,
        "actual": found.actual,
        "layer": found.blame.layer,
        "name": found.blame.name,
        "party": found.blame.party.to_string(),
        "calls": calls,
        "fix": found.fix,
        "repro": file,
    })
}

fn profile(result: &ProfileResult) -> Value {
    json!({
        "type": "profile",
        "profile": result.profile.word(),
        "verdict": result.verdict.word(),
        "reason": result.reason,
        "hold": result.hold,
        "broken": result.broken,
    })
}

impl<W: Write> ValidationReporter for Ndjson<W> {
    fn begin(&mut self, subject: &Subject) -> io::Result<()> {
        self.line(&json!({
            "type": "begin",
            "format": VERSION,
            "layers": env!("CARGO_PKG_VERSION"),
            "subject": subject.words,
            "server": "nbdkit",
            "server_version": subject.server,
            "level": subject.level.word(),
            "checks": subject.checks,
            "rules": subject.rules,
            "spared": subject.spared,
        }))
    }

    fn playing(&mut self, done: usize, all: usize, check: &Check) -> io::Result<()> {
        self.line(&json!({"type": "playing", "id": check.id, "done": done, "of": all}))
    }

    fn end(&mut self, validation: &Validation, files: &[PathBuf]) -> io::Result<()> {
        for said in &validation.checks {
            self.line(&check(validation, said))?;
        }
        for said in &validation.rules {
            self.line(&rule(validation, said))?;
        }
        for (index, found) in validation.findings().enumerate() {
            self.line(&finding(found, files.get(index)))?;
        }
        for result in &validation.profiles {
            self.line(&profile(result))?;
        }
        for entry in &validation.stale {
            let common = json!({"type": "stale", "id": entry.id, "actual": entry.actual, "why": entry.why});
            self.line(&common)?;
        }
        let exit = validation.exit();
        self.line(&json!({
            "type": "end",
            "servers": validation.cases,
            "unloadable": validation.unloadable,
            "cut_short": validation.cut_short,
            "exit": exit.code(),
            "meaning": validation.meaning(),
        }))
    }
}
