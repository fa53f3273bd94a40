//! `layers check TRACE…`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use layers_trace::{ReadError, Reader};

use super::Failure;
use crate::conform::verdict_of_troubles;
use crate::history::Call;
use crate::report::finding;
use crate::rules::{self, CallRef, Judgement, Kind};
use crate::verdict::Exit;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Files that `layers trace --save` wrote
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let exits: Result<Vec<Exit>, Failure> = arguments.traces.iter().map(|path| check(path)).collect();
    Ok(Exit::of(exits?))
}

fn check(path: &Path) -> Result<Exit, Failure> {
    let shown = path.display();
    let file = File::open(path)
        .map_err(|error| Failure::new(Exit::Usage, format!("cannot read the trace `{shown}`: {error}")))?;
    // SAFETY: the mapping is private and read-only. Another process that changes the file meanwhile can change what is
    // read, which the reader is made for; one that cuts it short can end this process, as with any mapped file.
    let bytes = unsafe { memmap2::MmapOptions::new().map_copy_read_only(&file) }
        .map_err(|error| Failure::new(Exit::Usage, format!("cannot read the trace `{shown}`: {error}")))?;
    let reader = Reader::new(&bytes).map_err(|error| {
        let exit =
            if matches!(error, ReadError::Truncated { .. }) { Exit::Inconclusive } else { Exit::Usage };
        Failure::new(exit, format!("cannot judge `{shown}`: {error}"))
    })?;
    let judgement = rules::judge(&reader, rules::all());
    print(path, &judgement)?;
    Ok(exit_of(&judgement))
}

fn exit_of(judgement: &Judgement) -> Exit {
    let binding = |kind| matches!(kind, Kind::Required | Kind::Forbidden);
    let broken = judgement.results.iter().any(|result| result.broken > 0 && binding(result.rule.kind));
    let exercised = judgement.results.iter().any(|result| result.exercised > 0);
    let trouble = verdict_of_troubles(&judgement.troubles).map(|verdict| verdict.exit());
    let causes = [broken.then_some(Exit::Violation), trouble, (!exercised).then_some(Exit::NothingJudged)];
    Exit::of(causes.into_iter().flatten().chain(exercised.then_some(Exit::Conformant)))
}

fn print(path: &Path, judgement: &Judgement) -> std::io::Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{}: {} events", path.display(), judgement.events)?;
    for result in judgement.results.iter().filter(|result| result.broken > 0) {
        let word = if result.rule.kind == Kind::Observed { "warn" } else { "FAIL" };
        writeln!(
            out,
            "  {word}  {} (broken {} of {} times)",
            result.rule.id, result.broken, result.exercised
        )?;
        finding::write(&mut out, result.rule, result.findings.first())?;
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
