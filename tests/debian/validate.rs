//! Judges every plugin and filter that Debian packages, and writes the tables: `ci/validate-debian` runs this.
//!
//! Arguments: the directory of the tables, and perhaps a text: then only subjects with it in their name are judged, and
//! all others keep their rows. Exits with 1 when something was found that the table of subjects does not explain.

#![allow(clippy::unwrap_used, reason = "a program for this project's own use fails by panicking")]

#[path = "../side_by_side.rs"]
mod side_by_side;
mod subjects;

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use layers::server::nbdkit::Nbdkit;
use layers::server::process::become_subreaper;
use layers::stack::{Layers, Stack};
use layers::validate::{ProfileVerdict, Validate, Validation, subject};
use serde::{Deserialize, Serialize};

use subjects::{Prepared, Subject, table};

/// For one case: scripts start a process for each request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The table for programs.
const JSON: &str = "debian.json";

/// One row of the table.
#[derive(Debug, Deserialize, Serialize)]
struct Row {
    module: String,
    package: String,
    subject: String,
    /// Why it was not run, if it was not.
    not_run: Option<String>,
    /// The exit code of `layers validate`, and what it means.
    exit: Option<u8>,
    verdict: String,
    hold: usize,
    not_applicable: usize,
    servers: u32,
    seconds: u64,
    conformant: Vec<String>,
    not_conformant: Vec<String>,
    findings: Vec<Found>,
    /// What could not be told, and why.
    open: Vec<String>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Found {
    id: String,
    verdict: String,
    expected: String,
    actual: String,
    /// The heading in docs/findings.md.
    explained: Option<String>,
}

fn main() -> ExitCode {
    become_subreaper().unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, only) = match arguments.as_slice() {
        [folder] => (Path::new(folder), ""),
        [folder, only] => (Path::new(folder), only.as_str()),
        _ => {
            eprintln!("usage: validate-debian DIRECTORY [TEXT]");
            return ExitCode::from(2);
        }
    };
    let (table, nbdkit) = (table(), Nbdkit::find(None).unwrap());
    let installed = subjects::installed(&nbdkit, &table.packages);
    let mut wanted: Vec<(&Subject, &str)> = Vec::new();
    for (module, package) in &installed {
        match table.subject.iter().find(|subject| subject.module == *module) {
            Some(subject) if subject.name().contains(only) => wanted.push((subject, package)),
            Some(_) => {}
            None => {
                eprintln!("{module} of {package} has no row in fixtures/debian/subjects.toml");
                return ExitCode::FAILURE;
            }
        }
    }
    let mut rows = side_by_side::each(&wanted, 1, |(subject, package)| {
        let row = row(subject, package);
        eprintln!("{:>4} s  {}: {}", row.seconds, row.subject, summary(&row));
        row
    });
    let unexplained = unexplained(&rows, &table.subject);
    let others = if only.is_empty() { Vec::new() } else { before(folder) };
    rows.extend(
        others.into_iter().filter(|row| wanted.iter().all(|(subject, _)| subject.module != row.module)),
    );
    rows.sort_by_key(|row| installed.iter().position(|(module, _)| *module == row.module));
    std::fs::write(folder.join(JSON), serde_json::to_string_pretty(&rows).unwrap() + "\n").unwrap();
    std::fs::write(folder.join("debian.md"), markdown(&nbdkit, &rows)).unwrap();
    for one in &unexplained {
        eprintln!("{one}");
    }
    ExitCode::from(u8::from(!unexplained.is_empty()))
}

/// The rows of the last run.
fn before(folder: &Path) -> Vec<Row> {
    serde_json::from_str(&std::fs::read_to_string(folder.join(JSON)).unwrap()).unwrap()
}

fn row(subject: &Subject, package: &str) -> Row {
    let begun = Instant::now();
    let mut row = Row {
        module: subject.module.clone(),
        package: package.to_owned(),
        subject: if subject.not_run.is_some() { subject.name() } else { subject.shown() },
        not_run: subject.not_run.clone(),
        exit: None,
        verdict: "not run".to_owned(),
        hold: 0,
        not_applicable: 0,
        servers: 0,
        seconds: 0,
        conformant: Vec::new(),
        not_conformant: Vec::new(),
        findings: Vec::new(),
        open: Vec::new(),
    };
    if subject.not_run.is_none() {
        let prepared = subject.prepare();
        judged(&mut row, subject, &validate(&prepared));
        row.seconds = begun.elapsed().as_secs_f64().round() as u64;
    }
    row
}

fn validate(prepared: &Prepared) -> Validation {
    let is_filter = |word: &&String| word.starts_with("--filter=");
    let filters = prepared.words.iter().filter(is_filter).map(|word| word.replace("--filter=", "")).collect();
    let readonly = prepared.words.iter().any(|word| word == "-r");
    let mut words = prepared.words.iter().filter(|word| !is_filter(word) && *word != "-r");
    let plugin = words.next().unwrap().clone();
    let stack = Stack {
        layers: Layers::Wrapped { filters, plugin },
        parameters: words.map(|word| subject::parameter(word)).collect(),
        readonly,
        ..Stack::default()
    };
    // All storage is in the subject's own directory.
    Validate::stack(stack).allow_writes(true).timeout(TIMEOUT).run().unwrap()
}

fn judged(row: &mut Row, subject: &Subject, validation: &Validation) {
    let profiles = |verdict| {
        let all = validation.profiles.iter().filter(move |one| one.verdict == verdict);
        all.map(|one| one.profile.word().to_owned()).collect()
    };
    row.conformant = profiles(ProfileVerdict::Conformant);
    row.not_conformant = profiles(ProfileVerdict::NotConformant);
    row.exit = Some(validation.exit() as u8);
    row.verdict = validation.exit().meaning().split(':').next().unwrap().to_owned();
    row.hold = validation.count("pass");
    row.not_applicable = validation.count("not-applicable");
    row.servers = validation.cases;
    for (id, verdict) in validation.verdicts() {
        // What only meets a crash that is found says of it how it is done.
        let follows = verdict.reason().is_some_and(|why| why.contains("see process.crash"));
        if let ("inconclusive" | "harness-error" | "skipped", false) = (verdict.word(), follows) {
            row.open.push(format!("{id}: {}", verdict.reason().unwrap_or_default()));
        }
        if let Some(finding) = validation.findings().find(|finding| finding.promise.id == id) {
            row.findings.push(Found {
                id: id.to_owned(),
                verdict: verdict.word().to_owned(),
                expected: finding.expected.clone(),
                actual: finding.actual.clone(),
                explained: subject.explained(id).cloned(),
            });
        }
    }
}

fn summary(row: &Row) -> String {
    let ids: Vec<&str> = row.findings.iter().map(|found| found.id.as_str()).collect();
    match (&row.not_run, ids.as_slice()) {
        (Some(reason), _) => reason.clone(),
        (None, []) => row.verdict.clone(),
        (None, ids) => format!("{}: {}", row.verdict, ids.join(", ")),
    }
}

/// Findings that the table of subjects does not know, and those that it knows and nobody has found.
fn unexplained(rows: &[Row], subjects: &[Subject]) -> Vec<String> {
    let mut all = Vec::new();
    for row in rows.iter().filter(|row| row.not_run.is_none()) {
        let found = row.findings.iter().filter(|found| found.explained.is_none());
        all.extend(found.map(|found| {
            format!(
                "{}: {} is not explained: {}, but {}",
                row.subject, found.id, found.expected, found.actual
            )
        }));
        let subject = subjects.iter().find(|subject| subject.module == row.module).unwrap();
        let stale = subject.findings.keys().filter(|id| row.findings.iter().all(|found| found.id != **id));
        all.extend(stale.map(|id| format!("{}: {id} is explained and was not found", row.subject)));
        if !matches!(row.exit, Some(0 | 1)) {
            all.push(format!("{}: {}", row.subject, row.verdict));
        }
    }
    all
}

fn markdown(nbdkit: &Nbdkit, rows: &[Row]) -> String {
    let seconds: u64 = rows.iter().map(|row| row.seconds).sum();
    let run = rows.iter().filter(|row| row.not_run.is_none()).count();
    let mut text = format!(
        "# What `layers validate` says of Debian's plugins and filters

`ci/validate-debian` writes this page and debian.json: a row for every module in the plugin and filter directories of
these packages, here of nbdkit {}. {run} of {} modules were run; with one at a time that takes {seconds} seconds. Every finding
has been looked at, and is explained in [findings.md](findings.md) with its reproduction. What the subjects need is made by
`fixtures/debian/subjects.toml`.

*Hold* counts checks and rules, *n/a* those that the subject does not claim or that do not apply, *servers* those that
were started, each for one case.

| module | subject | verdict | findings | hold | n/a | servers | seconds |
|---|---|---|---|---|---|---|---|
",
        nbdkit.version,
        rows.len()
    );
    for row in rows {
        let findings: Vec<String> = row.findings.iter().map(linked).collect();
        let verdict = row.not_run.as_ref().map_or(row.verdict.clone(), |reason| format!("not run: {reason}"));
        let Row { module, subject, hold, not_applicable, servers, seconds, .. } = row;
        let module = module.trim_start_matches("nbdkit-").trim_end_matches(".so");
        let subject = if row.not_run.is_some() { String::new() } else { format!("`{subject}`") };
        writeln!(
            text,
            "| {module} | {} | {verdict} | {} | {hold} | {not_applicable} | {servers} | {seconds} |",
            subject.replace('|', "\\|"),
            findings.join(", ")
        )
        .unwrap();
    }
    text
}

fn linked(found: &Found) -> String {
    match &found.explained {
        Some(heading) => format!("[`{}`](findings.md#{})", found.id, subjects::anchor(heading)),
        None => format!("`{}` (not explained)", found.id),
    }
}
