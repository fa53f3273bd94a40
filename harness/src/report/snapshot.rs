//! What came of comparing trees, for people: a line a scenario, and the difference where there is one.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use similar::{ChangeTag, DiffOp, TextDiff};

use crate::outcome::Exit;
use crate::snapshot::{
    Compared, Comparison, MadeFrom, SessionsPlan, SnapshotPlan, Store, TreeOutcome, words,
};

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const ODD: Style = AnsiColor::Yellow.on_default();
const GONE: Style = AnsiColor::Red.on_default();
const CAME: Style = AnsiColor::Green.on_default();
const DIM: Style = Style::new().dimmed();

/// Lines around a difference that are shown with it.
const CONTEXT: usize = 3;

/// What comes before all others; `spared` is why nothing is written to.
pub fn begin(to: &mut impl Write, plan: &SnapshotPlan<'_>, spared: Option<&str>) -> io::Result<()> {
    let (version, path) = (plan.server.version, plan.server.path.display());
    let (stack, scenarios) = (words(plan.stack), plan.selection.scenarios.len());
    let plural = if scenarios == 1 { "" } else { "s" };
    writeln!(to, "nbdkit {version} ({path}), {stack}: {scenarios} scenario{plural}")?;
    if let Some(why) = spared {
        writeln!(to, "served read-only: {why} (--allow-writes writes to it)")?;
    }
    writeln!(to)
}

/// What comes before what a user's HAProxy is asked.
pub fn begin_sessions(to: &mut impl Write, plan: &SessionsPlan<'_>) -> io::Result<()> {
    let (version, path, count) = (plan.server.version, plan.server.path.display(), plan.asked.len());
    let plural = if count == 1 { "" } else { "s" };
    writeln!(to, "haproxy {version} ({path}), {}: {count} question{plural}\n", plan.words)
}

/// One scenario, stored there; `update`: what is new or differs is stored.
pub fn scenario(to: &mut impl Write, store: &Store, update: bool, one: &Compared) -> io::Result<()> {
    let name = &one.scenario;
    let mut row =
        |style: Style, word: &str, rest: &str| writeln!(to, "  {style}{word:<7}{style:#} {name}{rest}");
    match &one.outcome {
        TreeOutcome::Same => row(GOOD, "same", ""),
        TreeOutcome::New(_) if update => row(ODD, "stored", ", for the first time"),
        TreeOutcome::New(_) => {
            let pending = store.pending(name);
            row(BAD, "NEW", &format!(": nothing is stored; this run is in {}", pending.display()))
        }
        TreeOutcome::Changed { stored, now } => {
            let (style, word) = if update { (ODD, "stored") } else { (BAD, "DIFFERS") };
            row(style, word, &changed(&stored.made, &now.made))?;
            let file = store.file(name).display().to_string();
            let old = format!("{file} ({})", shown(&stored.made.server));
            let new = format!("this run ({})", shown(&now.made.server));
            diff(to, (&old, &stored.tree), (&new, &now.tree))
        }
        TreeOutcome::Varies(one, other) => {
            row(
                ODD,
                "varies",
                ": two runs of it did not make the same calls, so it is neither compared nor stored",
            )?;
            diff(to, ("one run", one), ("another run", other))
        }
        TreeOutcome::NotStarted(complaint) => {
            row(BAD, "ERROR", &format!(": the server did not start: {complaint}"))
        }
        TreeOutcome::Astray(verdict) => {
            let reason = verdict.reason().map_or(String::new(), |reason| format!(": {reason}"));
            row(BAD, &verdict.word().to_uppercase(), &reason)
        }
        TreeOutcome::NotPlayed(halt) => row(ODD, "left", &format!(": not compared: {}", halt.reason())),
        TreeOutcome::Unfit(why) => row(DIM, "skipped", &format!(": {why}")),
    }
}

/// What else is not as it was when the tree was stored.
fn changed(stored: &MadeFrom, now: &MadeFrom) -> String {
    let mut text = String::new();
    if stored.server != now.server {
        text.push_str(&format!(": stored with {}, played with {}", shown(&stored.server), now.server));
    }
    if stored.stack != now.stack {
        text.push_str(&format!(": stored of `{}`, played with `{}`", shown(&stored.stack), now.stack));
    }
    text
}

fn shown(text: &str) -> &str {
    if text.is_empty() { "not known" } else { text }
}

/// The lines that differ, with those around them, under the section of the tree that they stand in.
fn diff(to: &mut impl Write, (old, one): (&str, &str), (new, other): (&str, &str)) -> io::Result<()> {
    writeln!(to, "    {GONE}--- {old}{GONE:#}\n    {CAME}+++ {new}{CAME:#}")?;
    let diff = TextDiff::from_lines(one, other);
    for group in diff.grouped_ops(CONTEXT) {
        let first = group.first().map_or(0, |op| op.old_range().start);
        writeln!(to, "    {DIM}@@ line {}, {}{DIM:#}", first + 1, section(one, first))?;
        for change in group.iter().flat_map(|op: &DiffOp| diff.iter_changes(op)) {
            let (style, sign) = match change.tag() {
                ChangeTag::Delete => (GONE, '-'),
                ChangeTag::Insert => (CAME, '+'),
                ChangeTag::Equal => (Style::new(), ' '),
            };
            writeln!(to, "    {style}{sign}{}{style:#}", change.value().trim_end_matches('\n'))?;
        }
    }
    writeln!(to)
}

/// The nearest line at or above this one that is not indented.
fn section(tree: &str, line: usize) -> &str {
    let above = tree.lines().take(line + 1).filter(|line| !line.starts_with(' '));
    above.last().unwrap_or("start")
}

/// What is stale, how many came out how, and what to do.
pub fn end(to: &mut impl Write, comparison: &Comparison) -> io::Result<()> {
    let word = if comparison.updated { "dropped" } else { "STALE" };
    for file in &comparison.stale {
        writeln!(to, "  {ODD}{word:<7}{ODD:#} {}: no scenario makes this file", file.display())?;
    }
    let is_new = |outcome: &TreeOutcome| matches!(outcome, TreeOutcome::New(_));
    let is_changed = |outcome: &TreeOutcome| matches!(outcome, TreeOutcome::Changed { .. });
    let (new, changed) = (comparison.count(is_new), comparison.count(is_changed));
    let same = comparison.count(|outcome| *outcome == TreeOutcome::Same);
    let others = comparison.compared.len() - same - new - changed;
    writeln!(to, "\n{same} the same, {changed} different, {new} new, {others} not compared")?;
    if new + changed > 0 && !comparison.updated {
        writeln!(
            to,
            "to accept what you have looked at: the same command with --update, or `cargo insta review`"
        )?;
    } else if !comparison.stale.is_empty() && !comparison.updated {
        writeln!(to, "to drop what is stale: the same command with --update")?;
    }
    let exit = comparison.exit();
    writeln!(to, "exit {}: {}", exit.code(), meaning(comparison, exit))
}

/// The exit code in words of this command.
fn meaning(comparison: &Comparison, exit: Exit) -> &'static str {
    let lost =
        comparison.count(|outcome| matches!(outcome, TreeOutcome::Astray(verdict) if verdict.exit() == exit));
    let left = comparison.count(|outcome| matches!(outcome, TreeOutcome::NotPlayed(_)));
    match exit {
        Exit::Inconclusive if left > 0 => "the run was ended before everything was compared",
        Exit::Conformant if comparison.updated => "what differed or was new is stored",
        Exit::Conformant => "every tree is the one that is stored",
        Exit::Violation if lost == 0 => "a tree differs from what is stored, or nothing is stored",
        Exit::Stale => "a stored tree belongs to no scenario",
        Exit::NothingJudged => "nothing was compared",
        Exit::Inconclusive if lost == 0 => "a tree varies from run to run",
        exit => exit.meaning(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_stands_under_its_section() {
        let one = "start\n  a\nconnection 1\n  b\n  c\n  d\n  e\n  f\nend";
        let other = one.replace("  f", "  g");
        let mut text = Vec::new();
        diff(&mut text, ("old", one), ("new", &other)).unwrap();
        let text = anstream::adapter::strip_str(&String::from_utf8(text).unwrap()).to_string();
        let wanted = "    --- old\n    +++ new\n    @@ line 5, connection 1\n       c\n       d\n       e\n    -  f\n    +  g\n     end\n\n";
        assert_eq!(text, wanted);
    }
}
