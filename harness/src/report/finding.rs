//! A broken rule, for people.

use std::io::{self, Write};

use anstyle::Style;

use super::wrapped::wrapped;
use crate::rules::{Finding, Rule};

const DIM: Style = Style::new().dimmed();

/// What was promised and where, whose duty it is, what happened instead, and the calls that conflict.
pub fn write(to: &mut impl Write, rule: &Rule, finding: Option<&Finding>) -> io::Result<()> {
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
