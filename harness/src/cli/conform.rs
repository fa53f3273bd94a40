//! `layers conform`.

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Failure;
use crate::baseline::{Baseline, updated};
use crate::conform::{Conformance, Listener, Plan, ScenarioVerdict, conform};
use crate::level::Level;
use crate::report::{Format, Reporter};
use crate::select::Selection;
use crate::server::process::become_subreaper;
use crate::server::{Installed, Which};
use crate::verdict::Exit;
use crate::version::Version;

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
    /// How much is asked of the server
    #[arg(long, value_enum, default_value = "should")]
    level: Asked,
    /// Scenarios played at a time [default: one for each CPU]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Seconds that one run of one scenario may take
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// What is known of this server, in place of what comes with layers
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Nothing is known of this server: every finding counts
    #[arg(long, conflicts_with = "baseline")]
    no_baseline: bool,
    /// Write the baseline anew, without what is stale and with what is new, for you to say why
    #[arg(long, requires = "baseline")]
    update_baseline: bool,
    /// How to report, and to which file if not to standard output; may be repeated [default: human] [formats: human, ndjson]
    #[arg(long, value_name = "FORMAT[=FILE]")]
    report: Vec<Report>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ServerKind {
    /// The NBD server
    Nbdkit,
    /// The load balancer: its command line and its applets
    Haproxy,
}

impl From<ServerKind> for Which {
    fn from(kind: ServerKind) -> Which {
        match kind {
            ServerKind::Nbdkit => Which::Nbdkit,
            ServerKind::Haproxy => Which::Haproxy,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Asked {
    /// What its manual promises; races in a fifth of their tries
    Must,
    /// Also its habits, whose change is a warning
    Should,
    /// Also more tries: every scenario three times, races four times as often
    Pedantic,
}

impl From<Asked> for Level {
    fn from(asked: Asked) -> Level {
        match asked {
            Asked::Must => Level::Must,
            Asked::Should => Level::Should,
            Asked::Pedantic => Level::Pedantic,
        }
    }
}

/// A format, and where it goes.
#[derive(Clone, Debug)]
struct Report {
    format: Format,
    file: Option<PathBuf>,
}

impl FromStr for Report {
    type Err = String;

    fn from_str(text: &str) -> Result<Report, String> {
        let (format, file) = match text.split_once('=') {
            Some((_, "")) => return Err("there is no file name after `=`".to_owned()),
            Some((format, file)) => (format, Some(PathBuf::from(file))),
            None => (text, None),
        };
        let names = || Format::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let format = Format::from_str(format, false).map_err(|_| {
            let names: Vec<String> = names().map(|name| name.get_name().to_owned()).collect();
            format!("there is no format `{format}`, only {}", names.join(", "))
        })?;
        Ok(Report { format, file })
    }
}

impl Report {
    fn reporter(&self) -> Result<Box<dyn Reporter>, Failure> {
        let Some(path) = &self.file else {
            return Ok(self.format.reporter(anstream::AutoStream::auto(std::io::stdout())));
        };
        let file = File::create(path).map_err(|error| {
            Failure::new(Exit::Usage, format!("cannot write the report `{}`: {error}", path.display()))
        })?;
        Ok(self.format.reporter(anstream::StripStream::new(file)))
    }
}

/// Hands what happens to every reporter, and keeps the first error of writing for the end.
struct Relay {
    reporters: Vec<Box<dyn Reporter>>,
    written: std::io::Result<()>,
}

impl Relay {
    fn each(&mut self, mut tell: impl FnMut(&mut dyn Reporter) -> std::io::Result<()>) {
        for reporter in &mut self.reporters {
            if self.written.is_ok() {
                self.written = tell(reporter.as_mut());
            }
        }
    }
}

impl Listener for Relay {
    fn played(&mut self, verdict: &ScenarioVerdict) {
        self.each(|reporter| reporter.scenario(verdict));
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let which = Which::from(arguments.server_kind);
    let usage = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, error);
    let selection = Selection::new(which, &arguments.only, &arguments.skip).map_err(|error| usage(&error))?;
    let reporters = reporters(&arguments.report)?;
    become_subreaper()?;
    let server = Installed::find(which, arguments.server.as_deref())?;
    let baseline = baseline(arguments, which, server.version())?;
    let plan = Plan {
        server: &server,
        selection: &selection,
        level: arguments.level.into(),
        jobs: super::jobs(arguments.jobs),
        timeout: Duration::from_secs(arguments.timeout),
        baseline: &baseline,
    };
    let mut relay = Relay { reporters, written: Ok(()) };
    relay.each(|reporter| reporter.begin(&plan));
    let conformance = conform(&plan, &mut relay)?;
    relay.each(|reporter| reporter.end(&plan, &conformance));
    relay.written?;
    if let Some(path) = arguments.baseline.as_deref().filter(|_| arguments.update_baseline) {
        update(path, &baseline, &server, &conformance)?;
    }
    Ok(conformance.exit())
}

/// Two reports to standard output would be none.
fn reporters(wanted: &[Report]) -> Result<Vec<Box<dyn Reporter>>, Failure> {
    let human = [Report { format: Format::Human, file: None }];
    let wanted = if wanted.is_empty() { &human } else { wanted };
    if wanted.iter().filter(|report| report.file.is_none()).count() > 1 {
        return Err(Failure::new(
            Exit::Usage,
            "only one report can go to standard output: give the others a file",
        ));
    }
    wanted.iter().map(Report::reporter).collect()
}

fn baseline(arguments: &Arguments, which: Which, version: Version) -> Result<Baseline, Failure> {
    let found = match &arguments.baseline {
        // A file that is to be written need not be there.
        Some(path) if arguments.update_baseline && !path.exists() => Ok(Baseline::default()),
        Some(path) => Baseline::load(path, which.name(), version),
        None if arguments.no_baseline => Ok(Baseline::default()),
        None => Baseline::embedded(which.name(), version).map(Option::unwrap_or_default),
    };
    found.map_err(|error| Failure::new(Exit::Usage, error))
}

fn update(path: &Path, old: &Baseline, server: &Installed, run: &Conformance) -> Result<(), Failure> {
    std::fs::write(path, updated(old, server.which().name(), server.version(), run)).map_err(|error| {
        Failure::new(Exit::Usage, format!("cannot write the baseline `{}`: {error}", path.display()))
    })
}
