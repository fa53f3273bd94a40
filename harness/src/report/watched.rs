//! What `layers watch` tells people.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::finding;
use super::wrapped::{many, one_line, wrapped};
use crate::outcome::{Fault, Group, Standing, What, groups};
use crate::rules::{self, Checker, Rule};
use crate::server::Which;
use crate::watch::{Ended, Summary};

const BAD: Style = AnsiColor::Red.on_default().bold();
const ODD: Style = AnsiColor::Yellow.on_default();
const GOOD: Style = AnsiColor::Green.on_default();

/// Findings that are shown at length.
const MOST_AT_LENGTH: usize = 6;
/// Other servers of one finding, and servers of which nothing can be told, that get a line of their own.
const MOST_OTHERS: usize = 3;

/// What the run ends with.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// The exit code.
    pub code: u8,
    /// Why it is that.
    pub why: &'a str,
    /// Where the traces are kept, if they are.
    pub kept: Option<&'a std::path::Path>,
}

/// Writes everything: what was found, what was judged and what was not, and how the servers have ended.
pub fn write(
    to: &mut dyn Write,
    summary: &Summary,
    judged: &[&'static Rule],
    outcome: Outcome<'_>,
) -> io::Result<()> {
    let is_new = |fault: &&Fault| !matches!(fault.standing, Standing::Known { .. });
    let groups = groups(summary.faults.iter().filter(is_new));
    if !groups.is_empty() {
        writeln!(to, "layers: findings:")?;
    }
    for (number, group) in groups.iter().enumerate() {
        if number < MOST_AT_LENGTH { at_length(to, summary, group)? } else { in_short(to, group, 2)? }
    }
    known(to, summary)?;
    unclear(to, summary)?;
    servers(to, summary)?;
    rules_judged(to, summary, judged)?;
    if let Some(kept) = outcome.kept {
        writeln!(to, "layers: the traces are in `{}`: `layers check` judges them again", kept.display())?;
    }
    for entry in &summary.stale {
        let line =
            format!("layers: {ODD}stale{ODD:#}: {} did not happen, and is listed: {}", entry.id, entry.why);
        writeln!(to, "{}", wrapped(&line, 0))?;
    }
    let style = if groups.is_empty() && summary.stale.is_empty() { GOOD } else { BAD };
    writeln!(to, "layers: {style}exit {}{style:#}: {}", outcome.code, outcome.why)
}

/// Writes one line of what has just been found.
pub fn write_live(to: &mut dyn Write, fault: &Fault) -> io::Result<()> {
    let (style, word) = word_of(fault);
    if matches!(fault.standing, Standing::Known { .. }) {
        return Ok(());
    }
    let seen = fault.seen();
    let server = fault.scenario.split_once(": ").map_or(fault.scenario.as_str(), |(_, line)| line);
    writeln!(to, "layers: {style}{word}{style:#} {}", one_line(&format!("{}: {seen}: {server}", fault.what)))
}

fn at_length(to: &mut dyn Write, summary: &Summary, group: &Group<'_>) -> io::Result<()> {
    let Some(fault) = group.example() else { return Ok(()) };
    let (style, word) = word_of(fault);
    let servers = many(group.faults.len(), "server");
    writeln!(to, "  {style}{word:<5}{style:#}  {} in {servers}", fault.what)?;
    match &fault.what {
        What::Rule(rule) => finding::write(&mut &mut *to, rule, fault.first.as_ref())?,
        What::Verdict(verdict) => {
            writeln!(to, "{}", wrapped(verdict.reason().unwrap_or_default(), 8))?;
        }
    }
    if let Some(seen) = summary.server_of(fault) {
        let found = &seen.server.found;
        writeln!(to, "{}", wrapped(&format!("seen in:  {}", fault.scenario), 8))?;
        writeln!(
            to,
            "        process {}, {} {}, in {}",
            found.pid, found.found, found.version, found.directory
        )?;
    }
    let others = group.faults.iter().skip(1);
    for other in others.clone().take(MOST_OTHERS) {
        writeln!(to, "        {}", one_line(&format!("also in:  {}", other.scenario)))?;
    }
    if others.len() > MOST_OTHERS {
        writeln!(to, "        and in {} more", others.len() - MOST_OTHERS)?;
    }
    if !group.with.is_empty() {
        writeln!(to, "        seen only with this, and never before it:")?;
    }
    group.with.iter().try_for_each(|with| in_short(to, with, 10))
}

fn in_short(to: &mut dyn Write, group: &Group<'_>, indent: usize) -> io::Result<()> {
    let Some(fault) = group.example() else { return Ok(()) };
    let seen = fault.seen();
    let (style, word) = word_of(fault);
    let word = if indent > 2 { String::new() } else { format!("{style}{word:<5}{style:#}  ") };
    let servers = many(group.faults.len(), "server");
    let line = one_line(&format!("{} in {servers}, first {}: {seen}", fault.what, fault.scenario));
    writeln!(to, "{:indent$}{word}{line}", "")
}

fn word_of(fault: &Fault) -> (Style, &'static str) {
    match fault.standing {
        Standing::Habit => (ODD, "warn"),
        _ => (BAD, "FAIL"),
    }
}

/// What is known of these versions of the server, by its explanation.
fn known(to: &mut dyn Write, summary: &Summary) -> io::Result<()> {
    let mut causes: Vec<(&str, Vec<&Fault>)> = Vec::new();
    for fault in &summary.faults {
        let Standing::Known { why, .. } = &fault.standing else { continue };
        match causes.iter_mut().find(|(one, _)| one == why) {
            Some((_, faults)) => faults.push(fault),
            None => causes.push((why, vec![fault])),
        }
    }
    if !causes.is_empty() {
        writeln!(to, "layers: known of this version of the server (--no-baseline has it count):")?;
    }
    for (why, faults) in causes {
        let mut rules: Vec<String> = faults.iter().map(|fault| fault.what.to_string()).collect();
        rules.sort_unstable();
        rules.dedup();
        let mut servers: Vec<&str> = faults.iter().map(|fault| fault.scenario.as_str()).collect();
        servers.dedup();
        let of = many(servers.len(), "server");
        writeln!(to, "{}", wrapped(&format!("{why}: {} in {of}", rules.join(", ")), 2))?;
        if let Some(first) = faults.first() {
            let shown = format!("first in: {}: {}", first.scenario, first.seen());
            writeln!(to, "        {}", one_line(&shown))?;
        }
    }
    Ok(())
}

/// Servers of which less is told than of others.
fn unclear(to: &mut dyn Write, summary: &Summary) -> io::Result<()> {
    let of_traces = summary.unclear().map(|(one, why)| format!("{why}: {}", one.line));
    let unseen = summary.unseen.iter().map(|one| match one.pid {
        Some(pid) => format!("process {pid}: {}", one.why),
        None => one.why.clone(),
    });
    let all: Vec<String> = of_traces.chain(unseen).collect();
    if !all.is_empty() {
        writeln!(to, "layers: {ODD}not judged, or not to the end{ODD:#}: {}", many(all.len(), "server"))?;
    }
    for one in all.iter().take(MOST_OTHERS) {
        writeln!(to, "        {}", one_line(one))?;
    }
    if all.len() > MOST_OTHERS {
        writeln!(to, "        and {} more", all.len() - MOST_OTHERS)?;
    }
    Ok(())
}

/// How many there were, and how they have ended.
fn servers(to: &mut dyn Write, summary: &Summary) -> io::Result<()> {
    let versions = summary.versions().into_iter().map(|((name, version), servers)| match version {
        "" => format!("{servers} of {name} of an unknown version"),
        version => format!("{servers} of {name} {version}"),
    });
    let versions: Vec<String> = versions.collect();
    let ends = summary.ends().into_iter().map(|(ended, servers)| match ended {
        Ended::Exited(status) => format!("{servers} exited with {status}"),
        Ended::Crashed(signal) => format!("{servers} crashed with signal {signal}"),
        Ended::Unseen => format!("{servers} ended without exit(3), as by a signal"),
        Ended::Unrecorded => format!("{servers} ended, and nobody has recorded how"),
        Ended::Running => format!(
            "{servers} still ran, and {} judged up to then",
            if servers == 1 { "was" } else { "were" }
        ),
    });
    let ends: Vec<String> = ends.collect();
    match summary.seen.len() {
        0 => writeln!(to, "layers: no server was seen"),
        all => {
            let line =
                format!("layers: {} ({}): {}", many(all, "server"), versions.join(", "), ends.join(", "));
            writeln!(to, "{}", wrapped(&line, 0))
        }
    }
}

/// Those of these rules that are about servers with these names.
pub fn of_servers<'a>(names: impl Iterator<Item = &'a str>, judged: &[&'static Rule]) -> Vec<&'static Rule> {
    let kinds: Vec<Which> = names.filter_map(Which::named).collect();
    let is_of_servers =
        |rule: &&&Rule| kinds.iter().any(|kind| rules::of(*kind).any(|one| one.id == rule.id));
    judged.iter().filter(is_of_servers).copied().collect()
}

/// How many rules were put to the test, and why the others were not.
fn rules_judged(to: &mut dyn Write, summary: &Summary, judged: &[&'static Rule]) -> io::Result<()> {
    if summary.seen.is_empty() {
        return Ok(());
    }
    let judged = of_servers(summary.versions().keys().map(|(name, _)| *name), judged);
    let of_clients = judged.iter().filter(|rule| is_of_clients(rule)).count();
    let silent = judged.len().saturating_sub(summary.exercised.len());
    let line = format!(
        "layers: {} of {} put to the test {} times; not the other {silent}, {of_clients} of which compare what clients \
         ask or get, which nobody has recorded",
        summary.exercised.len(),
        many(judged.len(), "rule"),
        summary.exercised.values().sum::<u64>(),
    );
    writeln!(to, "{}", wrapped(&line, 0))
}

/// It compares calls with what clients have written down, or speaks of nothing else.
fn is_of_clients(rule: &Rule) -> bool {
    matches!(rule.check, Checker::Trace(_))
        && (rule.party == rules::Party::Client
            || rules::nbdkit::wire::RULES.iter().copied().flatten().any(|one| one.id == rule.id))
}
