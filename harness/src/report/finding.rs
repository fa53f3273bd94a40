//! A broken rule, for people.

use std::io::{self, Write};

use anstyle::Style;

use crate::rules::{Finding, Rule};

const DIM: Style = Style::new().dimmed();

/// What was promised and where, whose duty it is, what happened instead, and the calls that conflict.
pub fn write(to: &mut impl Write, rule: &Rule, finding: Option<&Finding>) -> io::Result<()> {
    writeln!(to, "        {} ({})", rule.statement, rule.clause)?;
    let Some(finding) = finding else { return Ok(()) };
    writeln!(to, "        at fault: {}", rule.party)?;
    writeln!(to, "        expected: {}", finding.expected)?;
    writeln!(to, "        actual:   {}", finding.actual)?;
    for call in &finding.calls {
        writeln!(to, "        {DIM}{:>6} |{DIM:#} {call}", call.position)?;
    }
    Ok(())
}
