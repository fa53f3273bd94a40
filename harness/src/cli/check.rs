//! `layers check TRACE…`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use layers_trace::{ReadError, Reader};

use super::failure::Failure;
use super::reports::{self, Course, Report};
use crate::campaign::event_budget::Events;
use crate::campaign::level::Level;
use crate::conform::{exit_of, verdict_of_troubles};
use crate::foreign::bounded;
use crate::foreign::visible::visible_line;
use crate::outcome::{Exit, Fault, Verdict, What};
use crate::report::account::{Account, JudgedServer, of_servers};
use crate::report::html::Traced;
use crate::report::ndjson::traces::failed;
use crate::report::{Format, Outcome};
use crate::rules::{self, Judgement, Rule};
use crate::run::Run;
use crate::watch::{Ended, traces_in};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Files that `layers trace --save` wrote, or directories of `layers watch --dir`
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// How to report, and to which file if not to standard output; may be repeated [default: human] [formats: human, ndjson, junit, tap, github, markdown, html]
    #[arg(long, value_name = "FORMAT[=FILE]")]
    report: Vec<Report>,
    /// Judge no more than up to the first trace in which a promise is broken
    #[arg(long)]
    fail_fast: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let mut course = Course::new(&arguments.report);
    checked(arguments, &mut course).inspect_err(|failure| course.failed(failure, failed))
}

fn checked(arguments: &Arguments, course: &mut Course) -> Result<Exit, Failure> {
    say_when_cut_short();
    let traces = named(&arguments.traces)?;
    let opened = course.open(&arguments.report)?.into_iter();
    let mut reporters: Vec<_> = opened.map(|(format, to, place)| (format.reporter(to), place)).collect();
    let tells_people =
        arguments.report.is_empty() || arguments.report.iter().any(|report| report.format == Format::Human);
    let draws = reports::room_for_events(&arguments.report) > 0;
    let mut checked = Vec::new();
    for path in &traces {
        let one = check(path, draws)?;
        course.spoken().set(tells_people);
        for (reporter, place) in &mut reporters {
            reporter.trace(&one.subject()).map_err(|error| reports::unwritten(&place.failure(error)))?;
        }
        let is_broken = exit_of(&one.judgement) == Exit::Violation;
        checked.push(one);
        if is_broken && arguments.fail_fast {
            break;
        }
    }
    let exit = Exit::of(checked.iter().map(|one| exit_of(&one.judgement)));
    let faults: Vec<Fault> = checked.iter().flat_map(Checked::faults).collect();
    let exercised = exercised(&checked);
    let account = account(&checked, &faults, &exercised, exit);
    for (reporter, place) in &mut reporters {
        let written = reporter.end(Outcome::Traces(&account));
        written.map_err(|error| reports::unwritten(&place.failure(error)))?;
    }
    course.has_ended();
    reports::finish(reporters.into_iter().map(|(_, place)| place))?;
    Ok(exit)
}

fn account<'a>(
    checked: &'a [Checked],
    faults: &'a [Fault],
    exercised: &'a BTreeMap<&'static str, u64>,
    exit: Exit,
) -> Account<'a> {
    let rules: Vec<&'static Rule> = rules::all().collect();
    let kinds: Vec<&str> = checked.iter().filter_map(Checked::run).map(|run| run.server.as_str()).collect();
    Account {
        title: format!("{} recorded traces", checked.len()),
        command: None,
        level: Level::default().word(),
        rules: of_servers(kinds.into_iter(), &rules),
        servers: checked.iter().map(Checked::subject).collect(),
        faults,
        exercised,
        unseen: &[],
        stale: &[],
        exit,
        meaning: exit.meaning().to_owned(),
        code: exit.code(),
        why: exit.meaning().to_owned(),
        kept: None,
    }
}

fn exercised(checked: &[Checked]) -> BTreeMap<&'static str, u64> {
    let mut exercised = BTreeMap::new();
    let results = checked.iter().flat_map(|one| &one.judgement.results);
    for result in results.filter(|result| result.exercised > 0) {
        *exercised.entry(result.rule.id).or_default() += result.exercised;
    }
    exercised
}

/// The traces that these paths name: a directory stands for those that `layers watch` has kept in it.
fn named(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut traces = Vec::new();
    for path in paths {
        if !path.is_dir() {
            traces.push(path.clone());
            continue;
        }
        let shown = path.display();
        let usage = |what: String| Failure::new(Exit::Usage, what);
        let within = traces_in(path)
            .map_err(|error| usage(format!("cannot read the directory `{shown}`: {error}")))?;
        if within.is_empty() {
            return Err(usage(format!("`{shown}` has no traces in it")));
        }
        traces.extend(within);
    }
    Ok(traces)
}

/// A file that somebody cuts short while it is read is one that was cut off, and no reason to die of a signal.
fn say_when_cut_short() {
    extern "C" fn say(_: std::ffi::c_int) {
        const SAID: &[u8] = b"layers: a trace was cut off while it was read\n";
        // SAFETY: both calls are async-signal-safe, and the bytes are a constant.
        unsafe {
            libc::write(libc::STDERR_FILENO, SAID.as_ptr().cast(), SAID.len());
            libc::_exit(Exit::Inconclusive.code().into());
        }
    }
    // SAFETY: the handler makes async-signal-safe calls only.
    unsafe { libc::signal(libc::SIGBUS, say as extern "C" fn(_) as libc::sighandler_t) };
}

/// A trace that has been judged.
struct Checked {
    name: String,
    judgement: Judgement,
    /// Where they are to be drawn.
    events: Events,
    verdict: Verdict,
}

impl Checked {
    fn run(&self) -> Option<&Run> {
        self.judgement.history.run()
    }

    fn subject(&self) -> JudgedServer<'_> {
        let Checked { name, judgement, events, verdict } = self;
        let unclear = judgement.troubles.iter().find(|trouble| trouble.is_cut());
        JudgedServer {
            name: name.clone(),
            server: self.run().map_or(String::new(), |run| run.server.clone()),
            version: self.run().map_or(String::new(), |run| run.version.to_string()),
            process: None,
            directory: None,
            ended: judgement.history.end().map_or(Ended::Unseen, Ended::of),
            events: judgement.events,
            unclear: unclear.map(ToString::to_string),
            traced: Traced { name, judgement, events, verdict },
        }
    }

    /// What is broken in it, and a crash.
    fn faults(&self) -> Vec<Fault> {
        let broken = self.judgement.results.iter().filter(|result| result.broken > 0);
        let broken = broken.map(|result| Fault::in_trace(&self.name, result));
        let crash = Some(&self.verdict).filter(|verdict| matches!(verdict, Verdict::Crash(_)));
        let crash = crash.map(|verdict| Fault::new(What::Verdict(verdict.clone()), &self.name));
        broken.chain(crash).collect()
    }
}

fn check(path: &Path, draws: bool) -> Result<Checked, Failure> {
    let shown = path.display();
    let file = bounded::regular(path)
        .map_err(|error| Failure::new(Exit::Usage, format!("cannot read the trace `{shown}`: {error}")))?;
    // SAFETY: the mapping is private and read-only. Another process that changes the file meanwhile can change what is
    // read, which the reader is made for; where one cuts it short, this process says so and ends (see
    // `say_when_cut_short`).
    let bytes = unsafe { memmap2::MmapOptions::new().map_copy_read_only(&file) }
        .map_err(|error| Failure::new(Exit::Usage, format!("cannot read the trace `{shown}`: {error}")))?;
    let reader = Reader::new(&bytes).map_err(|error| {
        let exit =
            if matches!(error, ReadError::Truncated { .. }) { Exit::Inconclusive } else { Exit::Usage };
        Failure::new(exit, format!("cannot judge `{shown}`: {error}"))
    })?;
    let judgement = rules::judge(&reader, rules::all());
    let events = if draws { reader.events().flatten().collect() } else { Events::default() };
    let verdict = verdict_of_troubles(&judgement.troubles).unwrap_or(Verdict::Pass);
    Ok(Checked { name: visible_line(&shown.to_string()), judgement, events, verdict })
}
