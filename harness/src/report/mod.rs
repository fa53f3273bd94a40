//! What people and programs read: a file a format.

pub mod at_end;
pub mod cases;
pub mod catalogue;
pub mod finding;
pub mod github;
pub mod html;
pub mod human;
pub mod junit;
mod marks;
pub mod ndjson;
pub mod perfetto;
pub mod snapshot;
pub mod tap;
pub mod validation;
pub mod watched;
mod wrapped;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use at_end::AtEnd;

use crate::conform::{Conformance, Fault, Plan, ScenarioVerdict, Source, Standing, TIMEOUT};
use crate::level::Level;
use crate::server::haproxy::DEBIANS as DEBIANS_HAPROXY;
use crate::validate::{Check, Subject, Validation};
use crate::verdict::Exit;

/// A format of the report of `conform`, told of things as they happen.
pub trait Reporter {
    /// A run begins.
    fn begin(&mut self, _plan: &Plan<'_>) -> io::Result<()> {
        Ok(())
    }
    /// This has been found, in the scenario of which is told next.
    fn found(&mut self, _fault: &Fault) -> io::Result<()> {
        Ok(())
    }
    /// A scenario is over.
    fn scenario(&mut self, _verdict: &ScenarioVerdict) -> io::Result<()> {
        Ok(())
    }
    /// The run is over.
    fn end(&mut self, plan: &Plan<'_>, conformance: &Conformance) -> io::Result<()>;
}

/// A format of the report of `validate`, told of things as they happen.
pub trait ValidationReporter {
    /// A run begins.
    fn begin(&mut self, _subject: &Subject) -> io::Result<()> {
        Ok(())
    }
    /// `done` checks of `all` are judged, and this one is the next.
    fn playing(&mut self, _done: usize, _all: usize, _check: &Check) -> io::Result<()> {
        Ok(())
    }
    /// The run is over; `files` hold the cases of the findings, in their order, where they were written.
    fn end(&mut self, validation: &Validation, files: &[PathBuf]) -> io::Result<()>;
    /// Everything is over: all sets of parameters, of which each was told of as a run of its own, end with this code together.
    fn close(&mut self, _exit: Exit) -> io::Result<()> {
        Ok(())
    }
}

/// The formats, each with what makes its reporters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Text for people
    Human,
    /// One JSON object a line
    Ndjson,
    /// JUnit's XML
    Junit,
    /// TAP 13
    Tap,
    /// Annotations on GitHub
    Github,
    /// A summary in Markdown, as GitHub shows it of a step
    Markdown,
    /// One page with the verdicts, the findings and pictures of the runs
    Html,
}

impl Format {
    /// A reporter that writes this format to `to`, which drops the colours where they do not belong.
    pub fn reporter<'a>(self, to: impl Write + 'a) -> Box<dyn Reporter + 'a> {
        match self {
            Format::Human => Box::new(human::Human::new(to)),
            Format::Ndjson => Box::new(ndjson::Ndjson::new(to)),
            Format::Junit => Box::new(AtEnd::new(to, junit::write)),
            Format::Tap => Box::new(AtEnd::new(to, tap::write)),
            Format::Github => Box::new(AtEnd::new(to, github::annotations)),
            Format::Markdown => Box::new(AtEnd::new(to, github::summary)),
            Format::Html => Box::new(html::Html::new(to)),
        }
    }

    /// The same for `validate`.
    pub fn of_validation<'a>(self, to: impl Write + 'a) -> Box<dyn ValidationReporter + 'a> {
        match self {
            Format::Human => Box::new(validation::Human::new(to)),
            Format::Ndjson => Box::new(ndjson::Ndjson::new(to)),
            Format::Junit => Box::new(AtEnd::new(to, junit::write)),
            Format::Tap => Box::new(AtEnd::new(to, tap::write)),
            Format::Github => Box::new(AtEnd::new(to, github::annotations)),
            Format::Markdown => Box::new(AtEnd::new(to, github::summary)),
            Format::Html => Box::new(html::Html::new(to)),
        }
    }

    /// It shows the calls of runs, so that their events must be kept.
    pub fn draws_runs(self) -> bool {
        self == Format::Html
    }
}

/// The command that shows this again.
pub fn reproduce(plan: &Plan<'_>, fault: &Fault) -> String {
    let (name, path) = (plan.server.which().name(), plan.server.path());
    let mut words = vec!["layers".to_owned(), "conform".to_owned(), name.to_owned()];
    if path.as_os_str() != "nbdkit" && path != DEBIANS_HAPROXY {
        words.extend(["--server".to_owned(), quoted(path)]);
    }
    if plan.level != Level::default() {
        words.extend(["--level".to_owned(), plan.level.word().to_owned()]);
    }
    if plan.timeout != TIMEOUT {
        words.extend(["--timeout".to_owned(), plan.timeout.as_secs().to_string()]);
    }
    match plan.source {
        _ if matches!(fault.standing, Standing::Known { .. }) => words.push("--no-baseline".to_owned()),
        Source::Nothing => words.push("--no-baseline".to_owned()),
        Source::File(file) => words.extend(["--baseline".to_owned(), quoted(file)]),
        Source::Embedded => {}
    }
    words.extend(["--only".to_owned(), fault.scenario.clone()]);
    words.join(" ")
}

/// As a shell takes it for one word.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+:,@%=~".contains(letter);
    if !text.is_empty() && !text.starts_with('~') && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
