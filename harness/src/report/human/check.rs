//! What `layers check` tells people of each trace.

use std::io::{self, Write};

use super::super::account::JudgedServer;
use super::finding;
use crate::conform::exit_of;
use crate::history::Call;
use crate::rules::{CallRef, Judgement, Kind};

/// Writes what is broken, what was in flight at the end, and what is wrong with the trace.
pub(super) fn write(to: &mut impl Write, judged: &JudgedServer<'_>) -> io::Result<()> {
    let judgement = judged.traced.judgement;
    writeln!(to, "{}: {} events", judged.name, judgement.events)?;
    write_broken(to, judgement)?;
    let mut in_flight: Vec<&Call> = judgement.history.in_flight().collect();
    in_flight.sort_by_key(|call| (call.enter.tid, call.id()));
    if !in_flight.is_empty() {
        writeln!(to, "  in flight at the end:")?;
    }
    for call in in_flight {
        let (id, thread) = (call.id(), call.enter.tid);
        writeln!(to, "        {id:>6} | thread {thread}: {}", CallRef::from(&call.enter))?;
    }
    if judgement.history.end().is_none() && judgement.history.is_watched() {
        writeln!(to, "  its end was not seen: it still runs, or was ended by a signal")?;
    }
    for trouble in &judgement.troubles {
        writeln!(to, "  {trouble}")?;
    }
    let exercised = judgement.results.iter().filter(|result| result.exercised > 0).count();
    let broken = judgement.results.iter().filter(|result| result.broken > 0).count();
    let exit = exit_of(judgement);
    writeln!(to, "  {exercised} rules exercised, {broken} broken; exit {}: {}", exit.code(), exit.meaning())
}

/// Writes what is broken in one trace.
pub fn write_broken(to: &mut impl Write, judgement: &Judgement) -> io::Result<()> {
    for result in judgement.results.iter().filter(|result| result.broken > 0) {
        let word = if result.rule.kind == Kind::Observed { "warn" } else { "FAIL" };
        let (id, broken, exercised) = (result.rule.id, result.broken, result.exercised);
        writeln!(to, "  {word}  {id} (broken {broken} of {exercised} times)")?;
        finding::write(to, result.rule, result.findings.first())?;
    }
    Ok(())
}
