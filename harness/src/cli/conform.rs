//! `layers conform`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::failure::Failure;
use super::output::output;
use super::relay::Relay;
use super::reports::{self, Course};
use super::settings::{ConformSettings, jobs};
use super::{bounds, config};
use crate::baseline::Baseline;
use crate::campaign::level::Level;
use crate::campaign::select::Selection;
use crate::conform::{
    ConformListener, ConformPlan, Conformance, ScenarioVerdict, Source, TIMEOUT, conform, updated,
};
use crate::foreign::pipe;
use crate::outcome::{Exit, Fault};
use crate::report::ndjson::conform::failed;
use crate::report::{Begun, Format, Outcome};
use crate::server::process::become_subreaper;
use crate::server::{Installed, Which, interrupt};
use crate::version::Version;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Which server
    server_kind: ServerKind,
    /// The program, if it is not the one on the PATH
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    #[command(flatten)]
    settings: ConformSettings,
    #[command(flatten)]
    config: config::Arguments,
    /// What is known of this server, in place of what comes with layers
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Nothing is known of this server: every finding counts
    #[arg(long, conflicts_with = "baseline")]
    no_baseline: bool,
    /// Write the baseline anew, without what is stale and with what is new, for you to say why
    #[arg(long, requires = "baseline")]
    update_baseline: bool,
    /// End the run at the first finding that counts
    #[arg(long, conflicts_with = "update_baseline")]
    fail_fast: bool,
    /// Show everything at length: every rule, every scenario of a finding, and what is known
    #[arg(long)]
    all: bool,
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

/// Tells of scenarios as they are played, and how many of them are.
struct Telling {
    relay: Relay,
    done: usize,
    all: usize,
}

impl ConformListener for Telling {
    fn found(&mut self, fault: &Fault) {
        self.relay.each(|reporter| reporter.found(fault));
    }

    fn played(&mut self, verdict: &ScenarioVerdict) {
        self.relay.each(|reporter| reporter.scenario(verdict));
        self.done += 1;
        self.relay.progress(self.done, self.all, &verdict.name);
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let mut course = Course::new(&arguments.settings.report);
    judged(arguments, &mut course).inspect_err(|failure| course.failed(failure, failed))
}

fn judged(arguments: &Arguments, course: &mut Course) -> Result<Exit, Failure> {
    let which = Which::from(arguments.server_kind);
    let usage = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, error);
    let config = arguments.config.load()?;
    let settings = arguments.settings.clone().or(config.conform.clone());
    if arguments.config.show_config {
        write!(output(), "{}", config.show("conform", &settings)?)?;
        return Ok(Exit::Conformant);
    }
    let selection = Selection::new(which, &settings.only, &settings.skip).map_err(|error| usage(&error))?;
    let mut reporters = course.open(&settings.report)?;
    course.spoken().set(config.announce(&mut reporters)?);
    become_subreaper()?;
    interrupt::report_on_signals();
    let server = Installed::find(which, arguments.server.as_deref())?;
    let baseline = baseline(arguments, which, server.version())?;
    let plan = ConformPlan {
        server: &server,
        selection: &selection,
        level: settings.level.map_or_else(Level::default, Level::from),
        jobs: jobs(settings.jobs),
        timeout: settings.timeout.map_or(TIMEOUT, |seconds| Duration::from_secs(seconds.get())),
        time: settings.time.map(|seconds| Duration::from_secs(seconds.get())),
        fail_fast: arguments.fail_fast,
        room: bounds::records(settings.trace_room)?,
        baseline: &baseline,
        source: match &arguments.baseline {
            Some(path) => Source::File(path),
            None if arguments.no_baseline => Source::Nothing,
            None => Source::Embedded,
        },
        all: arguments.all,
        keep_events: reports::room_for_events(&settings.report),
    };
    let relay = Relay::new(reporters, course.spoken());
    let mut telling = Telling { relay, done: 0, all: selection.scenarios.len() };
    telling.relay.each(|reporter| reporter.begin(Begun::Server(&plan)));
    let conformance = conform(&plan, &mut telling)?;
    let outcome = Outcome::Server(&plan, &conformance);
    let unwritten = telling.relay.finish(|reporter| reporter.end(outcome));
    course.has_ended();
    if !reports::told(&settings.report, &unwritten)? {
        // Whoever started the command is told what was found, whatever became of the reports.
        let mut human = Format::Human.reporter(anstream::stderr());
        human.begin(Begun::Server(&plan))?;
        conformance.faults.iter().try_for_each(|fault| human.found(fault))?;
        human.end(outcome)?;
    } else if !reports::reach_the_terminal(&settings.report) {
        let exit = conformance.exit();
        writeln!(output(), "exit {}: {}", exit.code(), conformance.meaning())?;
    }
    if let Some(path) = arguments.baseline.as_deref().filter(|_| arguments.update_baseline) {
        update(path, &baseline, &server, &conformance)?;
    }
    Ok(reports::exit(conformance.exit(), &unwritten))
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
    pipe::write(path, updated(old, server.which().name(), server.version(), run)).map_err(|error| {
        Failure::new(Exit::Usage, format!("cannot write the baseline `{}`: {error}", path.display()))
    })
}
