//! `layers conform nbdkit`.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Failure;
use crate::conform::{Listener, ScenarioVerdict, conform};
use crate::report::Reporter;
use crate::report::human::Human;
use crate::report::ndjson::Ndjson;
use crate::scenario::Scenario;
use crate::select::Selection;
use crate::server::nbdkit::Nbdkit;
use crate::server::process::become_subreaper;
use crate::verdict::Exit;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Which server
    server_kind: ServerKind,
    /// The program, if it is not the one on the PATH
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Judge only the rules, or play only the scenarios, that match (`*` stands for any text); may be repeated
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,
    /// Leave out the rules and scenarios that match; may be repeated
    #[arg(long, value_name = "PATTERN")]
    skip: Vec<String>,
    /// How to report
    #[arg(long, value_enum, default_value = "human")]
    report: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ServerKind {
    /// The NBD server
    Nbdkit,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Text
    Human,
    /// One JSON object a line
    Ndjson,
}

/// Hands what happens to the reporter, and keeps the first error of writing for the end.
struct Relay<'a> {
    reporter: &'a mut dyn Reporter,
    written: std::io::Result<()>,
}

impl Listener for Relay<'_> {
    fn playing(&mut self, _scenario: &Scenario) {}

    fn played(&mut self, verdict: &ScenarioVerdict) {
        if self.written.is_ok() {
            self.written = self.reporter.scenario(verdict);
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let ServerKind::Nbdkit = arguments.server_kind;
    let selection =
        Selection::new(&arguments.only, &arguments.skip).map_err(|error| Failure::new(Exit::Usage, error))?;
    become_subreaper()?;
    let server = Nbdkit::find(arguments.server.as_deref())?;
    let out = anstream::AutoStream::auto(std::io::stdout().lock());
    let mut reporter: Box<dyn Reporter> = match arguments.report {
        Format::Human => Box::new(Human::new(out)),
        Format::Ndjson => Box::new(Ndjson::new(out)),
    };
    reporter.begin(&server, selection.rules.len(), selection.scenarios.len())?;
    let mut relay = Relay { reporter: reporter.as_mut(), written: Ok(()) };
    let conformance = conform(&server, &selection, &mut relay)?;
    relay.written?;
    reporter.end(&server, &conformance)?;
    std::io::stdout().flush()?;
    Ok(conformance.exit())
}
