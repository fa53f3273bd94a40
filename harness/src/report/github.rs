//! What GitHub shows of a run: annotations (workflow commands on standard output), and a summary of the step in Markdown.

use std::io::{self, Write};

use crate::cases::{Case, CaseOutcome, CaseRun, CaseTrouble};
use crate::outcome::Exit;

/// An annotation for each cause for which a case is broken, could not be told, or warns.
pub fn annotations(to: &mut dyn Write, run: &CaseRun) -> io::Result<()> {
    for case in &run.cases {
        let (command, trouble) = match &case.outcome {
            CaseOutcome::Failed(trouble) | CaseOutcome::Inconclusive(trouble) => ("error", trouble),
            CaseOutcome::Warned(trouble) => ("warning", trouble),
            // That another case tells of is told once.
            CaseOutcome::Known(trouble) if trouble.text.is_empty() => continue,
            CaseOutcome::Known(trouble) => ("notice", trouble),
            CaseOutcome::Passed | CaseOutcome::Skipped(_) | CaseOutcome::Follows(_) => continue,
        };
        let title = property(&format!("{}: {}", run.name, case.name));
        let text = format!("{}\n{}", trouble.message, trouble.text);
        writeln!(to, "::{command} title={title}::{}", data(text.trim_end()))?;
    }
    let command = if run.exit == Exit::Conformant { "notice" } else { "error" };
    let title = property(&run.name);
    writeln!(to, "::{command} title={title}::{}", data(&format!("exit {}: {}", run.exit.code(), run.meaning)))
}

/// A table of the groups, and what is broken at length.
pub fn summary(to: &mut dyn Write, run: &CaseRun) -> io::Result<()> {
    let sign = if run.exit == Exit::Conformant { "✅" } else { "❌" };
    writeln!(to, "## {sign} layers: {}\n", escaped(&run.name))?;
    writeln!(to, "exit {}: {}\n", run.exit.code(), escaped(&run.meaning))?;
    writeln!(to, "| | passed | warned | known | failed | follow | inconclusive | skipped |")?;
    writeln!(to, "|---|--:|--:|--:|--:|--:|--:|--:|")?;
    for group in run.groups() {
        let count = |wanted: fn(&CaseOutcome) -> bool| {
            run.cases.iter().filter(|case| case.group == group && wanted(&case.outcome)).count()
        };
        let passed = count(|outcome| *outcome == CaseOutcome::Passed);
        let warned = count(|outcome| matches!(outcome, CaseOutcome::Warned(_)));
        let known = count(|outcome| matches!(outcome, CaseOutcome::Known(_)));
        let failed = count(|outcome| matches!(outcome, CaseOutcome::Failed(_)));
        let follow = count(|outcome| matches!(outcome, CaseOutcome::Follows(_)));
        let inconclusive = count(|outcome| matches!(outcome, CaseOutcome::Inconclusive(_)));
        let skipped = count(|outcome| matches!(outcome, CaseOutcome::Skipped(_)));
        writeln!(
            to,
            "| {group} | {passed} | {warned} | {known} | {failed} | {follow} | {inconclusive} | {skipped} |"
        )?;
    }
    for case in &run.cases {
        if let CaseOutcome::Failed(trouble) | CaseOutcome::Inconclusive(trouble) = &case.outcome {
            at_length(to, case, trouble)?;
        }
    }
    Ok(())
}

fn at_length(to: &mut dyn Write, case: &Case, trouble: &CaseTrouble) -> io::Result<()> {
    writeln!(to, "\n### {} `{}`\n\n{}", trouble.word, case.name, escaped(&trouble.message))?;
    if trouble.text.is_empty() {
        return Ok(());
    }
    // A fence that the text cannot close.
    let longest = trouble.text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    writeln!(to, "\n{fence}text\n{}\n{fence}", trouble.text.trim_end())
}

/// Text of a workflow command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property of one.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Text that Markdown and its HTML leave alone.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '*' | '_' | '`' | '[' | ']' | '|' | '\\' => escaped.extend(['\\', letter]),
            letter if letter.is_control() => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}
