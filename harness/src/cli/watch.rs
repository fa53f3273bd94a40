//! `layers watch -- COMMAND`.

use std::ffi::OsString;
use std::io::Write;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use anstream::AutoStream;
use clap::Args;
use layers_trace::full_disk;

use super::failure::Failure;
use super::reports::{self, Course, Report};
use super::settings::Asked;
use crate::baseline::Baseline;
use crate::campaign::level::Level;
use crate::campaign::select;
use crate::campaign::trace_room as room;
use crate::conform::verdict_of_troubles;
use crate::deadline::Deadline;
use crate::foreign::pipe;
use crate::outcome::{Exit, Standing, Verdict};
use crate::report::Outcome;
use crate::report::account::{Account, JudgedServer, of_servers};
use crate::report::html::Traced;
use crate::report::human::write_live;
use crate::report::ndjson::traces::failed;
use crate::rules::Rule;
use crate::server::interrupt;
use crate::server::shortage::is_full;
use crate::server::watched::{
    Notices, Place, PlaceError, Running, Woken, is_anybody_left, status_code, unloaded,
};
use crate::watch::summary::load_known;
use crate::watch::{Knowledge, News, Summary, WatchOptions, Watcher, faults};

/// What servers get that are about to end when the command has.
const LAST_MOMENT: Duration = Duration::from_millis(500);
/// How often it is looked whether this process was told to stop.
const LOOK: Duration = Duration::from_millis(100);
/// MiB for a server.
const MEMORY: u64 = 64;
/// This part of them is for its trace; the rest is for what judges it.
const OF_TRACE: u64 = 2;

const ABOUT: &str = "\
Judge every nbdkit and HAProxy that a command starts, whatever starts it: a test suite, a script, a service.

The command runs as it would, with the same output, streams, terminal and signals. What was found is told after it, on standard
error. Without --dir a server is judged while it runs, within a bound of memory, however long that is; with it the traces
are kept, each with room for 4 million records, and `layers check` judges them again.

What is known of a version of a server (see docs/findings.md) is told as known, and does not count.";

const EXAMPLES: &str = "\
Examples:
  layers watch -- make check
  layers watch --fail-fast --report junit=watch.xml -- ./test.sh
  layers watch --live -- nbdkit -f -U /run/disk.sock file /var/lib/disk.img";

#[derive(Debug, Args)]
#[command(
    long_about = ABOUT,
    after_help = EXAMPLES,
    override_usage = "layers watch [OPTIONS] -- COMMAND [ARGUMENT]..."
)]
pub(super) struct Arguments {
    /// Keep the traces in this directory, for `layers check`; it must have none yet
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// MiB of memory for each server that runs: half for its trace, half for what judges it [default: 64]
    #[arg(long, value_name = "MIB", conflicts_with = "dir")]
    memory: Option<NonZeroU64>,
    /// Judge only the rules that match (`*` stands for any text); may be repeated
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,
    /// Leave out the rules that match; may be repeated
    #[arg(long, value_name = "PATTERN")]
    skip: Vec<String>,
    /// How much is asked of servers, plugins and filters [default: should]
    #[arg(long, value_enum)]
    level: Option<Asked>,
    /// Findings that are known and do not count; one that is gone is stale, with an exit code of its own
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Write the baseline anew, without what is stale and with what is new, for you to say why
    #[arg(long, requires = "baseline")]
    update_baseline: bool,
    /// Nothing is known of the servers but what --baseline lists: every other finding counts
    #[arg(long)]
    no_baseline: bool,
    /// How to report, and to which file if not to standard error; may be repeated [default: human] [formats: human, ndjson, junit, tap, github, markdown, html]
    #[arg(long, value_name = "FORMAT[=FILE]")]
    report: Vec<Report>,
    /// End with the command's own status, whatever was found
    #[arg(long)]
    exit_with_command: bool,
    /// Wait for servers that outlive the command or that begin after it, as long as anything runs that it has started
    #[arg(long)]
    wait: bool,
    /// Tell of each finding as soon as it is made
    #[arg(long)]
    live: bool,
    /// Tell the command to end (SIGTERM) at the first finding that counts
    #[arg(long, conflicts_with = "update_baseline")]
    fail_fast: bool,
    /// The command, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let mut course = Course::new(&reports::or_to_stderr(&arguments.report));
    watched(arguments, &mut course).inspect_err(|failure| course.failed(failure, failed))
}

fn watched(arguments: &Arguments, course: &mut Course) -> Result<u8, Failure> {
    let level = arguments.level.map_or_else(Level::default, Level::from);
    let usage = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, error);
    let rules = select::rules(&arguments.only, &arguments.skip).map_err(|error| usage(&error))?;
    let rules: Vec<&'static Rule> = rules.into_iter().filter(|rule| level.judges(rule)).collect();
    if rules.is_empty() {
        return Err(usage(&"--only, --skip and --level leave no rule to judge by"));
    }
    full_disk::survive()?;
    let knowledge = Knowledge { of_servers: !arguments.no_baseline, own: known(arguments)? };
    // The command's own output is the command's.
    let wanted = reports::or_to_stderr(&arguments.report);
    let reporters = course.open(&wanted)?;
    let draws = reports::room_for_events(&wanted) > 0;
    let place = match &arguments.dir {
        Some(path) => Place::named(path),
        None => Place::private(places(arguments.memory)?),
    };
    let place = place.map_err(|error| match &error {
        PlaceError::Unwritable { source, .. } if arguments.dir.is_none() || is_full(source) => {
            Failure::new(Exit::Harness, error)
        }
        _ => usage(&error),
    })?;
    let (program, rest) = arguments.command.split_first().ok_or_else(|| usage(&"name a command"))?;
    let (running, notices) = place
        .start(program, rest)
        .map_err(|error| Failure::new(Exit::Usage, format!("cannot run `{}`: {error}", program.display())))?;
    let keeps = !place.is_private();
    let eager = arguments.live || arguments.fail_fast;
    let mut watch =
        Watcher::new(WatchOptions { directory: place.path(), rules: &rules, draws, keeps, eager });
    let mut tell = |news: &[News]| tell(news, level, arguments, &knowledge);
    while_it_runs(&mut watch, &running, &notices, &mut tell)?;
    let status = running.wait()?;
    interrupt::report_on_signals();
    // A server that has just been told to end gets a moment for it.
    let deadline = (!arguments.wait).then(|| Deadline::after(LAST_MOMENT));
    afterwards(&mut watch, &notices, deadline, &mut tell)?;
    let summary = Summary::of(watch.finish()?, level, &knowledge);
    let summary = summary.map_err(|error| Failure::new(Exit::Harness, error))?;
    if let Some(path) = arguments.baseline.as_deref().filter(|_| arguments.update_baseline) {
        let written = pipe::write(path, summary.baseline(&knowledge.own));
        written
            .map_err(|error| usage(&format!("cannot write the baseline `{}`: {error}", path.display())))?;
    }
    let (code, why) = exit(arguments, &summary, status_code(status));
    let verdicts: Vec<Verdict> = summary.seen.iter().map(|one| verdict(&one.judgement)).collect();
    let account = Account {
        code,
        why,
        kept: (keeps && !summary.seen.is_empty()).then(|| place.path()),
        ..account(arguments, &summary, &verdicts, &rules)
    };
    let mut places = Vec::new();
    for (format, to, at) in reporters {
        let written = format.reporter(to).end(Outcome::Traces(&account));
        written.map_err(|error| reports::unwritten(&at.failure(error)))?;
        places.push(at);
    }
    course.has_ended();
    reports::finish(places)?;
    Ok(code)
}

/// Records for which there is room in the trace of one server.
fn places(memory: Option<NonZeroU64>) -> Result<u64, Failure> {
    let mib = memory.map_or(MEMORY, NonZeroU64::get);
    if mib > room::MOST_MIB {
        let what = format!("no server can have {mib} MiB, and {} at most (--memory)", room::MOST_MIB);
        return Err(Failure::new(Exit::Usage, what));
    }
    Ok(room::records(mib) / OF_TRACE)
}

fn known(arguments: &Arguments) -> Result<Baseline, Failure> {
    match &arguments.baseline {
        None => Ok(Baseline::default()),
        // A file that is to be written need not be there.
        Some(path) if arguments.update_baseline && !path.exists() => Ok(Baseline::default()),
        Some(path) => load_known(path).map_err(|error| Failure::new(Exit::Usage, error)),
    }
}

/// Judges servers until the command has ended, and tells it to end where a finding is to do that.
fn while_it_runs(
    watch: &mut Watcher<'_>,
    running: &Running,
    notices: &Notices,
    tell: &mut impl FnMut(&[News]) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut told_to_end = false;
    let mut outsiders = Outsiders::default();
    loop {
        let pause = watch.pause().unwrap_or(Outsiders::PAUSE);
        let woken = hear(watch, notices, Some(running), Some(pause))?;
        outsiders.look(watch);
        if tell(&watch.look()?)? && !std::mem::replace(&mut told_to_end, true) {
            running.terminate();
        }
        if woken == Woken::Command {
            return Ok(());
        }
    }
}

/// Judges servers that are left until they have ended, until the deadline, or until this process is told to stop.
fn afterwards(
    watch: &mut Watcher<'_>,
    notices: &Notices,
    deadline: Option<Deadline>,
    tell: &mut impl FnMut(&[News]) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    hear(watch, notices, None, Some(Duration::ZERO))?;
    tell(&watch.look()?)?;
    // Whoever is left may start another server.
    let waits =
        |watch: &Watcher<'_>| watch.is_waiting() || deadline.is_none() && is_anybody_left(watch.directory());
    while waits(watch) && interrupt::told_to_stop().is_none() {
        let left = deadline.map_or(LOOK, |deadline| deadline.left().min(LOOK));
        if left.is_zero() {
            break;
        }
        hear(watch, notices, None, Some(watch.pause().map_or(left, |pause| pause.min(left))))?;
        tell(&watch.look()?)?;
    }
    Ok(())
}

/// Servers that cannot be watched, because nothing is loaded into them: statically linked, setuid, or where the place for the
/// traces is not to be seen.
#[derive(Debug, Default)]
struct Outsiders {
    /// Those that were there when it was looked last.
    seen: Vec<(u32, PathBuf)>,
    last: Option<Deadline>,
}

impl Outsiders {
    /// How often they are looked for.
    const PAUSE: Duration = Duration::from_millis(500);

    /// Tells of those that were there the last time, too: a program that has just begun has loaded nothing yet.
    fn look(&mut self, watch: &mut Watcher<'_>) {
        if self.last.as_ref().is_some_and(|last| !last.passed()) {
            return;
        }
        self.last = Some(Deadline::after(Outsiders::PAUSE));
        let now = unloaded(watch.directory());
        for (pid, program) in now.iter().filter(|one| self.seen.contains(one)) {
            watch.cannot(
                *pid,
                format!(
                    "nothing is loaded into `{}`: it is statically linked, setuid, or where `{}` is another directory",
                    program.display(),
                    watch.directory().display()
                ),
            );
        }
        self.seen = now;
    }
}

/// Waits for something to look at.
fn hear(
    watch: &mut Watcher<'_>,
    notices: &Notices,
    running: Option<&Running>,
    pause: Option<Duration>,
) -> Result<Woken, Failure> {
    let mut missed = false;
    let woken = notices.wait(running, pause, |name| match name {
        Some(name) => watch.begins(name),
        None => missed = true,
    })?;
    if missed {
        watch.look_around()?;
    }
    Ok(woken)
}

/// Tells of what these servers have broken, in a line for each, where that is wanted; true when it counts.
fn tell(news: &[News], level: Level, arguments: &Arguments, knowledge: &Knowledge) -> Result<bool, Failure> {
    let mut counts = false;
    for one in news {
        let faults = faults(one, level, knowledge).map_err(|error| Failure::new(Exit::Harness, error))?;
        if arguments.live {
            // In one write: the command writes to the same place meanwhile.
            let mut to = AutoStream::new(Vec::new(), AutoStream::choice(&std::io::stderr()));
            faults.iter().try_for_each(|fault| write_live(&mut to, fault))?;
            std::io::stderr().write_all(&to.into_inner())?;
        }
        counts |= faults.iter().any(|fault| fault.standing == Standing::New);
    }
    Ok(counts && arguments.fail_fast)
}

/// The exit code, and why it is that.
fn exit(arguments: &Arguments, summary: &Summary, command: u8) -> (u8, String) {
    let own = || format!("the command's own status; {}", summary.meaning());
    match summary.exit() {
        _ if arguments.exit_with_command => (command, own()),
        Exit::Conformant => (command, own()),
        exit => (exit.code(), summary.meaning()),
    }
}

fn verdict(judgement: &crate::rules::Judgement) -> Verdict {
    verdict_of_troubles(&judgement.troubles).unwrap_or(Verdict::Pass)
}

fn account<'a>(
    arguments: &Arguments,
    summary: &'a Summary,
    verdicts: &'a [Verdict],
    rules: &[&'static Rule],
) -> Account<'a> {
    let command: Vec<String> =
        arguments.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let seen = summary.seen.iter().enumerate().zip(verdicts);
    let servers = seen.map(|((number, one), verdict)| JudgedServer {
        name: one.name(number),
        server: one.server.found.found.clone(),
        version: one.server.found.version.clone(),
        process: Some(one.server.found.pid),
        directory: Some(one.server.found.directory.clone()),
        ended: one.ended,
        events: one.judgement.events,
        unclear: one.unclear(),
        traced: Traced { name: &one.line, judgement: &one.judgement, events: &one.events, verdict },
    });
    Account {
        title: "servers that a command has started".to_owned(),
        command: Some(command),
        level: arguments.level.map_or_else(Level::default, Level::from).word(),
        rules: of_servers(summary.seen.iter().map(|one| one.server.found.found.as_str()), rules),
        servers: servers.collect(),
        faults: &summary.faults,
        exercised: &summary.exercised,
        unseen: &summary.unseen,
        stale: &summary.stale,
        exit: summary.exit(),
        meaning: summary.meaning(),
        code: summary.exit().code(),
        why: summary.meaning(),
        kept: None,
    }
}
