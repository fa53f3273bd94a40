//! `layers check TRACE…`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use layers_trace::{ReadError, Reader};

use super::failure::Failure;
use super::reports::{self, Report, Streams};
use crate::campaign::event_budget::Events;
use crate::conform::{exit_of, verdict_of_troubles};
use crate::foreign::bounded;
use crate::foreign::visible::visible_line;
use crate::history::Call;
use crate::report::finding;
use crate::report::html::{self, Traced};
use crate::rules::{self, CallRef, Judgement, Kind};
use crate::verdict::{Exit, Verdict};
use crate::watch::traces_in;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Files that `layers trace --save` wrote, or directories of `layers watch --dir`
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// How to report, and to which file if not to standard output; may be repeated [default: human] [formats: human, html]
    #[arg(long, value_name = "FORMAT[=FILE]")]
    report: Vec<Report<Format>>,
}

/// How it is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for people
    Human,
    /// One page with a picture of the calls
    Html,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    say_when_cut_short();
    let mut reports = reports::open(&arguments.report)?;
    let draws = reports.iter().any(|(format, ..)| *format == Format::Html);
    let mut checked = Vec::new();
    for path in &named(&arguments.traces)? {
        let one = check(path, draws)?;
        for (_, to, _) in reports.iter_mut().filter(|(format, ..)| *format == Format::Human) {
            print(to, &one)?;
        }
        checked.push(one);
    }
    let traced: Vec<Traced<'_>> = checked.iter().map(Checked::traced).collect();
    for (_, to, _) in reports.iter_mut().filter(|(format, ..)| *format == Format::Html) {
        html::write(to, &traced, Some(Exit::of(checked.iter().map(|one| exit_of(&one.judgement)))))?;
    }
    reports::finish(reports.into_iter().map(|(_, _, place)| place))?;
    Ok(Exit::of(checked.iter().map(|one| exit_of(&one.judgement))))
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

impl Streams for Format {
    fn streams(&self) -> bool {
        *self == Format::Human
    }
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
    fn traced(&self) -> Traced<'_> {
        let Checked { name, judgement, events, verdict } = self;
        Traced { name, judgement, events, verdict }
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

fn print(out: &mut impl Write, checked: &Checked) -> std::io::Result<()> {
    let judgement = &checked.judgement;
    writeln!(out, "{}: {} events", checked.name, judgement.events)?;
    for result in judgement.results.iter().filter(|result| result.broken > 0) {
        let word = if result.rule.kind == Kind::Observed { "warn" } else { "FAIL" };
        writeln!(
            out,
            "  {word}  {} (broken {} of {} times)",
            result.rule.id, result.broken, result.exercised
        )?;
        finding::write(out, result.rule, result.findings.first())?;
    }
    let mut in_flight: Vec<&Call> = judgement.history.in_flight().collect();
    in_flight.sort_by_key(|call| (call.enter.tid, call.id()));
    if !in_flight.is_empty() {
        writeln!(out, "  in flight at the end:")?;
    }
    for call in in_flight {
        writeln!(
            out,
            "        {:>6} | thread {}: {}",
            call.id(),
            call.enter.tid,
            CallRef::from(&call.enter)
        )?;
    }
    for trouble in &judgement.troubles {
        writeln!(out, "  {trouble}")?;
    }
    let exercised = judgement.results.iter().filter(|result| result.exercised > 0).count();
    let broken = judgement.results.iter().filter(|result| result.broken > 0).count();
    let exit = exit_of(judgement);
    writeln!(out, "  {exercised} rules exercised, {broken} broken; exit {}: {}", exit.code(), exit.meaning())
}
