//! TAP, version 13, which Debian's `prove` reads as it comes: a line a case, with the details of what is broken as YAML below it.

use std::io::{self, Write};

use crate::cases::{Case, CaseOutcome, CaseRun, CaseTrouble};

/// Writes it.
pub fn write(to: &mut dyn Write, run: &CaseRun) -> io::Result<()> {
    writeln!(to, "TAP version 13\n# {}\n1..{}", one_line(&run.name), run.cases.len())?;
    for (number, case) in (1..).zip(&run.cases) {
        point(to, number, case)?;
    }
    writeln!(to, "# exit {}: {}", run.exit.code(), run.meaning)
}

fn point(to: &mut dyn Write, number: usize, case: &Case) -> io::Result<()> {
    let name = format!("{number} - {}/{}", case.group, described(&case.name));
    match &case.outcome {
        CaseOutcome::Passed => writeln!(to, "ok {name}"),
        CaseOutcome::Skipped(why) => writeln!(to, "ok {name} # SKIP {}", one_line(why)),
        CaseOutcome::Warned(trouble) => {
            writeln!(to, "ok {name}")?;
            details(to, trouble)
        }
        CaseOutcome::Known(trouble) => {
            writeln!(to, "not ok {name} # TODO known: {}", one_line(&trouble.message))?;
            details(to, trouble)
        }
        CaseOutcome::Follows(trouble) => {
            writeln!(to, "not ok {name} # TODO {}", one_line(&trouble.message))
        }
        CaseOutcome::Failed(trouble) | CaseOutcome::Inconclusive(trouble) => {
            writeln!(to, "not ok {name}")?;
            details(to, trouble)
        }
    }
}

/// JSON strings are YAML.
fn details(to: &mut dyn Write, trouble: &CaseTrouble) -> io::Result<()> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    writeln!(to, "  ---\n  severity: {}\n  message: {}", trouble.word, quoted(&trouble.message))?;
    if !trouble.text.is_empty() {
        writeln!(to, "  details: |")?;
        for line in trouble.text.lines() {
            writeln!(to, "    {}", line.replace(char::is_control, " "))?;
        }
    }
    writeln!(to, "  ...")
}

/// A description in which no `#` begins a directive.
fn described(text: &str) -> String {
    one_line(text).replace('\\', "\\\\").replace('#', "\\#")
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
