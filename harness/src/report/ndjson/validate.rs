//! The lines of `validate`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::line::{CallLine, Ndjson, StaleLine, Word, calls, line};
use crate::outcome::{Exit, Standing};
use crate::validate::{CheckVerdict, ModuleFinding, ModuleRuleVerdict, ProfileResult, Subject, Validation};

/// Version of the format: it grows when a field changes its meaning or goes.
pub const VERSION: u32 = 1;

/// A line of `layers validate --report ndjson`.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Line"))]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum ValidateLine<'a> {
    /// The first line.
    Begin {
        /// Version of this format.
        #[cfg_attr(feature = "schema", schemars(extend("const" = VERSION)))]
        format: u32,
        /// Version of this project.
        layers: &'a str,
        /// As on the server's command line.
        subject: &'a str,
        /// The name of its set of parameters, where there are several; each has a first and a last line of its own.
        set: Option<&'a str>,
        /// `nbdkit` or `haproxy`.
        server: &'a str,
        /// Its version.
        server_version: &'a str,
        /// How much is asked.
        level: &'a str,
        /// How many checks are selected.
        checks: usize,
        /// How many rules are selected.
        rules: usize,
        /// The storage of the user's that is not written to.
        spared: Option<&'a str>,
        /// Files that a parameter names, and of which each case has a copy.
        copied: &'a [String],
    },
    /// A check's turn comes.
    Playing {
        /// Its id.
        id: &'a str,
        /// How many are judged.
        done: usize,
        /// Of how many.
        of: usize,
    },
    /// What is said of a check; after the last case.
    Check {
        /// Its id.
        id: &'a str,
        /// How much it asks.
        level: &'a str,
        /// The part of what subjects can do that it belongs to.
        profile: &'a str,
        /// Whose duty it is.
        party: String,
        /// What is said.
        verdict: Word,
        /// Why it was not judged.
        reason: Option<&'a str>,
        /// The subject offers what it is about.
        claimed: bool,
        /// `plain`, `known` (in the baseline) or `denied` (a warning that counts like a failure).
        counts: &'a str,
    },
    /// What is said of a rule.
    Rule {
        /// Its id.
        id: &'a str,
        /// Its kind.
        kind: String,
        /// Whose duty it is.
        party: String,
        /// What is said.
        verdict: Word,
        /// Why it was not judged.
        reason: Option<&'a str>,
        /// How often it had something to say.
        exercised: u64,
        /// How often it was broken.
        broken: u64,
        /// As of a check.
        counts: &'a str,
    },
    /// One of the first findings of a check or rule.
    Finding {
        /// Id of the check or rule.
        id: &'a str,
        /// What it promises.
        statement: &'a str,
        /// Where that is written.
        clause: &'a str,
        /// What was expected.
        expected: &'a str,
        /// What came instead.
        actual: &'a str,
        /// The layer at fault, where one can be named.
        layer: Option<u8>,
        /// What it calls itself.
        name: &'a str,
        /// Its part.
        party: String,
        /// What the evidence tells beyond that.
        hint: Option<&'a str>,
        /// The calls that show it.
        calls: Vec<CallLine>,
        /// Position of the call that has done it, where that can be told.
        guilty: Option<u32>,
        /// What the server and the subject have said, by lines.
        said: &'a [String],
        /// Checks that have met the same thing.
        also: &'a [&'static str],
        /// What to do about it.
        fix: &'a str,
        /// A file for `layers repro`.
        repro: Option<&'a Path>,
    },
    /// What is said of a part of what subjects can do.
    Profile {
        /// Which.
        profile: &'a str,
        /// `conformant`, `not conformant`, `not claimed`, `not judged` or `inconclusive`.
        verdict: &'a str,
        /// Why.
        reason: Option<&'a str>,
        /// Checks that hold.
        hold: usize,
        /// Checks that are broken or warn.
        broken: usize,
    },
    /// An entry of the baseline that did not happen.
    Stale {
        /// What is listed.
        #[serde(flatten)]
        entry: StaleLine<'a>,
    },
    /// The last line.
    End {
        /// Servers that were started.
        servers: u32,
        /// Why the subject cannot be loaded.
        unloadable: Option<&'a str>,
        /// Why not everything was played.
        cut_short: Option<&'a str>,
        /// Parameters that the modules document and that were not given.
        untried: &'a [String],
        /// The exit code.
        exit: u8,
        /// What it means.
        meaning: String,
    },
    /// The last line where there are several sets of parameters.
    Sets {
        /// The exit code of all of them together.
        exit: u8,
        /// What it means.
        meaning: &'a str,
    },
}

pub(super) fn begin(subject: &Subject) -> ValidateLine<'_> {
    ValidateLine::Begin {
        format: VERSION,
        layers: env!("CARGO_PKG_VERSION"),
        subject: &subject.words,
        set: subject.set.as_deref(),
        server: subject.which.name(),
        server_version: &subject.server,
        level: subject.level.word(),
        checks: subject.checks,
        rules: subject.rules,
        spared: subject.spared.as_deref(),
        copied: &subject.copied,
    }
}

fn check<'a>(validation: &Validation, said: &'a CheckVerdict) -> ValidateLine<'a> {
    ValidateLine::Check {
        id: said.check.id,
        level: said.check.level.word(),
        profile: said.check.profile.word(),
        party: said.check.party.to_string(),
        verdict: (&said.verdict).into(),
        reason: said.verdict.reason(),
        claimed: !said.not_claimed,
        counts: counts(validation, said.check.id),
    }
}

/// Whether what is said under this id counts as it stands.
fn counts(validation: &Validation, id: &str) -> &'static str {
    match validation.standing(id) {
        Some(Standing::Known { .. }) => "known",
        Some(Standing::New) if validation.denied.contains(&id) => "denied",
        _ => "plain",
    }
}

fn rule<'a>(validation: &Validation, said: &'a ModuleRuleVerdict) -> ValidateLine<'a> {
    ValidateLine::Rule {
        id: said.rule.id,
        kind: said.rule.kind.to_string(),
        party: said.rule.party.to_string(),
        verdict: (&said.verdict).into(),
        reason: said.verdict.reason(),
        exercised: said.exercised,
        broken: said.broken,
        counts: counts(validation, said.rule.id),
    }
}

fn finding<'a>(found: &'a ModuleFinding, file: Option<&'a PathBuf>) -> ValidateLine<'a> {
    ValidateLine::Finding {
        id: found.promise.id,
        statement: found.promise.statement,
        clause: found.promise.clause,
        expected: &found.expected,
        actual: &found.actual,
        layer: found.blame.layer,
        name: &found.blame.name,
        party: found.blame.party.to_string(),
        hint: found.hint.as_deref(),
        calls: calls(&found.calls),
        guilty: found.guilty,
        said: &found.said,
        also: &found.also,
        fix: found.promise.fix,
        repro: file.map(PathBuf::as_path),
    }
}

fn profile(result: &ProfileResult) -> ValidateLine<'_> {
    ValidateLine::Profile {
        profile: result.word(),
        verdict: result.verdict.word(),
        reason: result.reason.as_deref(),
        hold: result.hold,
        broken: result.broken,
    }
}

fn end(validation: &Validation) -> ValidateLine<'_> {
    ValidateLine::End {
        servers: validation.cases,
        unloadable: validation.unloadable.as_deref(),
        cut_short: validation.cut_short.as_deref(),
        untried: &validation.untried,
        exit: validation.exit().code(),
        meaning: validation.meaning(),
    }
}

/// Returns the last line of a run that has failed in this way.
pub(crate) fn failed(exit: Exit, why: &str) -> String {
    let (code, meaning) = (exit.code(), exit.meaning().to_owned());
    line(&ValidateLine::End {
        servers: 0,
        unloadable: None,
        cut_short: Some(why),
        untried: &[],
        exit: code,
        meaning,
    })
}

/// Writes all lines that come when the run is over.
pub(super) fn write<W: Write>(
    to: &mut Ndjson<W>,
    validation: &Validation,
    files: &[PathBuf],
) -> io::Result<()> {
    let checks = validation.checks.iter().map(|said| check(validation, said));
    let rules = validation.rules.iter().map(|said| rule(validation, said));
    let findings = validation.findings().enumerate().map(|(index, found)| finding(found, files.get(index)));
    let profiles = validation.profiles.iter().map(profile);
    let stale = validation.stale.iter().map(|entry| ValidateLine::Stale { entry: StaleLine::of(entry) });
    let lines = checks.chain(rules).chain(findings).chain(profiles).chain(stale);
    lines.chain([end(validation)]).try_for_each(|line| to.line(&line))
}
