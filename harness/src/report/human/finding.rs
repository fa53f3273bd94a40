//! A broken rule, for people.

use std::io::{self, Write};

use super::super::wrapped::{one_line, wrapped};
use super::style::{DIM, word_of};
use crate::outcome::{Fault, Group, What};
use crate::rules::{Finding, Rule};

/// What was promised and where, whose duty it is, what happened instead, and the calls that conflict.
pub(super) fn write(to: &mut impl Write, rule: &Rule, finding: Option<&Finding>) -> io::Result<()> {
    writeln!(to, "{}", wrapped(&format!("{} ({})", rule.statement, rule.clause), 8))?;
    let Some(finding) = finding else { return Ok(()) };
    writeln!(to, "        at fault: {}", rule.party)?;
    writeln!(to, "{}", wrapped(&format!("expected: {}", finding.expected), 8))?;
    writeln!(to, "        actual:   {}", wrapped(&finding.actual, 8).trim_start())?;
    for call in &finding.calls {
        writeln!(to, "        {DIM}{:>6} |{DIM:#} {call}", call.position)?;
    }
    Ok(())
}

/// The rule that is broken, or how the server crashed or hung.
pub(super) fn of(to: &mut impl Write, fault: &Fault) -> io::Result<()> {
    match &fault.what {
        What::Rule(rule) => write(to, rule, fault.first.as_ref()),
        What::Verdict(verdict) => writeln!(to, "{}", wrapped(verdict.reason().unwrap_or_default(), 8)),
    }
}

/// One line: what, in how many of these places, and what was seen.
pub(super) fn in_short(
    to: &mut impl Write,
    group: &Group<'_>,
    places: &str,
    indent: usize,
) -> io::Result<()> {
    let (Some(fault), Some(heading)) = (group.example(), group.heading(places)) else { return Ok(()) };
    let (style, word) = word_of(fault);
    let word = if indent > 2 { String::new() } else { format!("{style}{word:<5}{style:#}  ") };
    let line = one_line(&format!("{heading}, first {}: {}", fault.scenario, fault.seen()));
    writeln!(to, "{:indent$}{word}{line}", "")
}
