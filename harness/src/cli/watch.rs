//! `layers watch -- COMMAND`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::failure::Failure;
use super::reports::{self, Report, Streams};
use super::settings::Asked;
use crate::campaign::level::Level;
use crate::campaign::select;
use crate::conform::{Standing, verdict_of_troubles};
use crate::deadline::Deadline;
use crate::report::html::{self, Traced};
use crate::report::watched::{self, Outcome};
use crate::rules::Rule;
use crate::server::interrupt;
use crate::server::watched::{Place, PlaceError, status_code};
use crate::verdict::{Exit, Verdict};
use crate::watch::{Seen, Summary, Watch, faults};

/// What servers get that are about to end when the command has.
const LAST_MOMENT: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(override_usage = "layers watch [OPTIONS] -- COMMAND [ARGUMENT]...")]
pub(super) struct Arguments {
    /// Keep the traces in this directory, for `layers check`; it must have none yet
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Judge only the rules that match (`*` stands for any text); may be repeated
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,
    /// Leave out the rules that match; may be repeated
    #[arg(long, value_name = "PATTERN")]
    skip: Vec<String>,
    /// How much is asked of servers, plugins and filters [default: should]
    #[arg(long, value_enum)]
    level: Option<Asked>,
    /// Nothing is known of the servers: every finding counts
    #[arg(long)]
    no_baseline: bool,
    /// How to report, and to which file if not to standard error; may be repeated [default: human] [formats: human, html]
    #[arg(long, value_name = "FORMAT[=FILE]")]
    report: Vec<Report<Format>>,
    /// End with the command's own status, whatever was found
    #[arg(long)]
    exit_with_command: bool,
    /// Wait for servers that outlive the command, and judge them to their ends
    #[arg(long)]
    wait: bool,
    /// Tell of each finding as soon as its server has ended
    #[arg(long)]
    live: bool,
    /// Tell the command to end (SIGTERM) as soon as a server has ended in which a promise was broken
    #[arg(long)]
    fail_fast: bool,
    /// The command, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// How it is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for people
    Human,
    /// One page with a picture of the calls
    Html,
}

impl Streams for Format {
    fn streams(&self) -> bool {
        *self == Format::Human
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let level = arguments.level.map_or_else(Level::default, Level::from);
    let usage = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, error);
    let rules = select::rules(&arguments.only, &arguments.skip).map_err(|error| usage(&error))?;
    let rules: Vec<&'static Rule> = rules.into_iter().filter(|rule| level.judges(rule)).collect();
    // The command's own output is the command's.
    let wanted = reports::or_to_stderr(&arguments.report);
    let reporters = reports::open(&wanted)?;
    let draws = wanted.iter().any(|report| report.format == Format::Html);
    let place = match &arguments.dir {
        Some(path) => Place::named(path),
        None => Place::private(),
    };
    let place = place.map_err(|error| match &error {
        PlaceError::Unwritable { .. } if arguments.dir.is_none() => Failure::new(Exit::Harness, error),
        _ => usage(&error),
    })?;
    let (program, rest) = arguments.command.split_first().ok_or_else(|| usage(&"name a command"))?;
    let mut running = place
        .start(program, rest)
        .map_err(|error| Failure::new(Exit::Usage, format!("cannot run `{}`: {error}", program.display())))?;
    let mut watch = Watch::new(place.path(), &rules, draws);
    if arguments.live || arguments.fail_fast {
        while running.wait_for_a_server()? {
            let counts = tell(watch.look(false)?, level, arguments)?;
            if counts && arguments.fail_fast {
                running.terminate();
                break;
            }
        }
    }
    let status = running.wait()?;
    interrupt::report_on_signals();
    // A server that has just been told to end gets a moment for it.
    crate::watch::wait_for(place.path(), (!arguments.wait).then(|| Deadline::after(LAST_MOMENT)))?;
    watch.look(true)?;
    let (seen, unseen) = watch.finish()?;
    let summary = Summary::of(seen, unseen, level, arguments.no_baseline);
    let summary = summary.map_err(|error| Failure::new(Exit::Harness, error))?;
    let (code, why) = exit(arguments, &summary, status_code(status));
    let outcome = Outcome { code, why: &why, kept: (!place.is_private()).then(|| place.path()) };
    let mut places = Vec::new();
    for (format, mut to, at) in reporters {
        match format {
            Format::Human => watched::write(&mut to, &summary, &rules, outcome)?,
            Format::Html => html(&mut to, &summary)?,
        }
        places.push(at);
    }
    reports::finish(places)?;
    Ok(code)
}

/// Tells of what these servers have broken, in a line for each, where that is wanted; true when it counts.
fn tell(seen: &[Seen], level: Level, arguments: &Arguments) -> Result<bool, Failure> {
    let failed = |error| Failure::new(Exit::Harness, error);
    let faults = faults(seen, level, arguments.no_baseline).map_err(failed)?;
    if arguments.live {
        let mut to = anstream::stderr();
        faults.iter().try_for_each(|fault| watched::write_live(&mut to, fault))?;
    }
    Ok(faults.iter().any(|fault| fault.standing == Standing::New))
}

/// The exit code, and why it is that.
fn exit(arguments: &Arguments, summary: &Summary, command: u8) -> (u8, String) {
    let own = || format!("the command's own status; {}", found(summary));
    match summary.exit() {
        _ if arguments.exit_with_command => (command, own()),
        Exit::Conformant => (command, own()),
        exit => (exit.code(), exit.meaning().to_owned()),
    }
}

fn found(summary: &Summary) -> &'static str {
    match summary.exit() {
        Exit::Conformant => "everything that was judged holds (warnings allowed)",
        other => other.meaning(),
    }
}

fn html(to: &mut impl std::io::Write, summary: &Summary) -> std::io::Result<()> {
    let named: Vec<(String, Verdict)> = summary
        .seen
        .iter()
        .map(|one| {
            let verdict = verdict_of_troubles(&one.judgement.troubles).unwrap_or(Verdict::Pass);
            (one.server.command_line(), verdict)
        })
        .collect();
    let traced: Vec<Traced<'_>> = summary
        .seen
        .iter()
        .zip(&named)
        .map(|(one, (name, verdict))| Traced {
            name,
            judgement: &one.judgement,
            events: &one.events,
            verdict,
        })
        .collect();
    html::write(to, &traced, Some(summary.exit()))
}
