//! What `layers watch` tells people.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::super::account::{Account, JudgedServer};
use super::super::wrapped::{many, one_line, wrapped};
use super::finding;
use super::style::{MOST_AT_LENGTH, MOST_OTHERS, ODD, style_of, word_of};
use crate::outcome::{Exit, Fault, Group, Standing, groups};
use crate::rules::{self, Checker, Rule};
use crate::watch::Ended;

/// Where findings show themselves.
const PLACES: &str = "server";

/// Writes everything: what was found, what was judged and what was not, and how the servers have ended.
pub(super) fn write(to: &mut impl Write, account: &Account<'_>) -> io::Result<()> {
    let is_new = |fault: &&Fault| !matches!(fault.standing, Standing::Known { .. });
    let groups = groups(account.faults.iter().filter(is_new));
    if !groups.is_empty() {
        writeln!(to, "layers: findings:")?;
    }
    for (number, group) in groups.iter().enumerate() {
        if number < MOST_AT_LENGTH {
            at_length(to, account, group)?;
        } else {
            finding::in_short(to, group, PLACES, 2)?;
        }
    }
    known(to, account)?;
    unclear(to, account)?;
    servers(to, &account.servers)?;
    rules_judged(to, account)?;
    if let Some(kept) = account.kept {
        writeln!(to, "layers: the traces are in `{}`: `layers check` judges them again", kept.display())?;
    }
    for entry in account.stale {
        let line =
            format!("layers: {ODD}stale{ODD:#}: {} did not happen, and is listed: {}", entry.id, entry.why);
        writeln!(to, "{}", wrapped(&line, 0))?;
    }
    let broken = !groups.is_empty() || !account.stale.is_empty();
    let style = style_of(if broken { Exit::Violation } else { Exit::Conformant });
    writeln!(to, "layers: {style}exit {}{style:#}: {}", account.code, account.why)
}

/// Writes one line of what has just been found.
pub fn write_live(to: &mut impl Write, fault: &Fault) -> io::Result<()> {
    let (style, word) = word_of(fault);
    if matches!(fault.standing, Standing::Known { .. }) {
        return Ok(());
    }
    let seen = fault.seen();
    let server = fault.scenario.split_once(": ").map_or(fault.scenario.as_str(), |(_, line)| line);
    writeln!(to, "layers: {style}{word}{style:#} {}", one_line(&format!("{}: {seen}: {server}", fault.what)))
}

fn at_length(to: &mut impl Write, account: &Account<'_>, group: &Group<'_>) -> io::Result<()> {
    let Some(fault) = group.example() else { return Ok(()) };
    let (style, word) = word_of(fault);
    let servers = many(group.faults.len(), PLACES);
    writeln!(to, "  {style}{word:<5}{style:#}  {} in {servers}", fault.what)?;
    finding::of(to, fault)?;
    let seen = account.servers.iter().find(|one| one.name == fault.scenario);
    if let Some(JudgedServer {
        name, server, version, process: Some(pid), directory: Some(directory), ..
    }) = seen
    {
        writeln!(to, "{}", wrapped(&format!("seen in:  {name}"), 8))?;
        writeln!(to, "        process {pid}, {server} {version}, in {directory}")?;
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
    group.with.iter().try_for_each(|with| finding::in_short(to, with, PLACES, 10))
}

/// What is known of these versions of the server, by its explanation.
fn known(to: &mut impl Write, account: &Account<'_>) -> io::Result<()> {
    let mut causes: Vec<(&str, Vec<&Fault>)> = Vec::new();
    for fault in account.faults {
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
fn unclear(to: &mut impl Write, account: &Account<'_>) -> io::Result<()> {
    let of_traces = account.servers.iter().filter_map(|one| {
        let why = one.unclear.as_ref()?;
        Some(format!("{why}: {}", one.traced.name))
    });
    let unseen = account.unseen.iter().map(|one| match one.pid {
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
fn servers(to: &mut impl Write, servers: &[JudgedServer<'_>]) -> io::Result<()> {
    let (mut versions, mut ends) = (BTreeMap::new(), BTreeMap::new());
    for one in servers {
        *versions.entry((one.server.as_str(), one.version.as_str())).or_insert(0) += 1;
        *ends.entry(one.ended).or_insert(0) += 1;
    }
    let versions = versions.into_iter().map(|((name, version), servers)| match version {
        "" => format!("{servers} of {name} of an unknown version"),
        version => format!("{servers} of {name} {version}"),
    });
    let versions: Vec<String> = versions.collect();
    let ends = ends.into_iter().map(|(ended, servers)| match ended {
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
    match servers.len() {
        0 => writeln!(to, "layers: no server was seen"),
        all => {
            let line =
                format!("layers: {} ({}): {}", many(all, "server"), versions.join(", "), ends.join(", "));
            writeln!(to, "{}", wrapped(&line, 0))
        }
    }
}

/// How many rules were put to the test, and why the others were not.
fn rules_judged(to: &mut impl Write, account: &Account<'_>) -> io::Result<()> {
    let (judged, exercised) = (&account.rules, account.exercised);
    if account.servers.is_empty() {
        return Ok(());
    }
    let of_clients = judged.iter().filter(|rule| is_of_clients(rule)).count();
    let silent = judged.len().saturating_sub(exercised.len());
    let line = format!(
        "layers: {} of {} put to the test {} times; not the other {silent}, {of_clients} of which compare what clients \
         ask or get, which nobody has recorded",
        exercised.len(),
        many(judged.len(), "rule"),
        exercised.values().sum::<u64>(),
    );
    writeln!(to, "{}", wrapped(&line, 0))
}

/// It compares calls with what clients have written down, or speaks of nothing else.
fn is_of_clients(rule: &Rule) -> bool {
    matches!(rule.check, Checker::Trace(_))
        && (rule.party == rules::Party::Client
            || rules::nbdkit::wire::RULES.iter().copied().flatten().any(|one| one.id == rule.id))
}
