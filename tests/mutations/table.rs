//! For each rule a change to a recorded trace that it rejects, and the other rules that reject that change too: a table,
//! stored beside this file, of traces that are stored in fixtures/traces. What fires is the same in every run, and nothing
//! may fire that the table does not allow.
//!
//! `LAYERS_UPDATE=1 cargo test -p layers --test mutations table` finds changes for rules that have none in the table, in
//! recordings of the nbdkit at hand (`LAYERS_SERVER`: of another one), stores their traces, and writes the table anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use layers::rules::{Kind, Rule, Trouble, find};
use layers::version::Version;

use super::operators::{every, samples};
use super::recorded::{
    Ids, Recorded, Trace, judged, judged_rules, recordings, root, stored_traces, traces_folder,
};
use super::side_by_side::each;
use super::stored;

/// Rules that no one change of a recorded trace breaks; each has a counter-example, made by hand, beside its check.
const BROKEN_ELSEWHERE: &[(&str, &str)] = &[
    (
        "emul.extents.synthetic",
        "an extents must be invented inside a request that leads to no call, and no call is there to be changed",
    ),
    ("data.pread.fills", "only `validate` lends buffers, and the traces here are of `conform`"),
    ("data.pwrite.const", "only `validate` lends buffers, and the traces here are of `conform`"),
    ("data.buffer.bounds", "only `validate` lends buffers, and the traces here are of `conform`"),
    (
        "errno.shutdown",
        "the request that it judges comes after others of its sort, and only the first is changed: see beside its check",
    ),
];

/// Changes that a rule rejects among which the best is chosen.
const HITS: usize = 12;

const BEGINNING: &str = "\
# For each rule a change to a trace in fixtures/traces that it rejects: the trace, the line of the event that is changed, what
# is done to it (tests/mutations/operators.rs), and the other rules that reject the change as well. Read by tests/mutations/table.rs,
# which says how to write it anew.
";

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    rule: String,
    trace: String,
    line: usize,
    change: String,
    others: Vec<String>,
}

impl Row {
    fn read(line: &str) -> Row {
        let columns: Vec<&str> = line.split(" | ").collect();
        assert_eq!(columns.len(), 5, "not a row: {line}");
        Row {
            rule: columns[0].to_owned(),
            trace: columns[1].to_owned(),
            line: columns[2].parse().unwrap(),
            change: columns[3].to_owned(),
            others: columns[4].split_whitespace().map(str::to_owned).collect(),
        }
    }

    fn written(&self) -> String {
        let others = if self.others.is_empty() { "-".to_owned() } else { self.others.join(" ") };
        format!("{} | {} | {} | {} | {others}\n", self.rule, self.trace, self.line, self.change)
    }
}

fn table_file() -> PathBuf {
    root().join("tests/mutations/rules.table")
}

fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(table_file()).unwrap_or_default();
    let rows = text.lines().filter(|line| !line.starts_with('#')).map(Row::read);
    rows.map(|row| Row { others: row.others.into_iter().filter(|other| other != "-").collect(), ..row })
        .collect()
}

fn by_name() -> BTreeMap<String, Recorded> {
    stored_traces().into_iter().map(|one| (one.name.clone(), one)).collect()
}

/// What this change of a stored trace breaks that is whole without it.
fn broken_by(row: &Row, stored: &Recorded) -> Option<Ids> {
    let rules = judged_rules();
    let mut broken = None;
    every(&mut stored.trace.clone(), row.line - 1, &mut |change, mutant| {
        if change == row.change && broken.is_none() {
            let found = judged(mutant, &rules, stored.version).broken;
            broken = Some(found.difference(&stored.broken).copied().collect());
        }
    });
    broken
}

#[test]
fn every_rule_rejects_its_change_and_only_those_of_the_table_do_too() {
    if std::env::var_os("LAYERS_UPDATE").is_some() {
        update();
    }
    let (rows, traces) = (rows(), by_name());
    let wrong: Vec<String> = each(&rows, 1, |row| {
        let Some(stored) = traces.get(&row.trace) else {
            return Some(format!("{}: no such trace", row.rule));
        };
        let Some(broken) = broken_by(row, stored) else {
            return Some(format!("{}: no such change", row.rule));
        };
        let allowed: BTreeSet<&str> = row.others.iter().map(String::as_str).collect();
        let found: BTreeSet<&str> = broken.iter().copied().filter(|id| *id != row.rule).collect();
        if !broken.contains(row.rule.as_str()) {
            return Some(format!("{}: does not reject its change; these do: {found:?}", row.rule));
        }
        (found != allowed)
            .then(|| format!("{}: fires with {found:?}, and the table has {allowed:?}", row.rule))
    })
    .into_iter()
    .flatten()
    .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_has_every_rule_that_is_judged() {
    let rows = rows();
    let listed: BTreeSet<&str> = rows.iter().map(|row| row.rule.as_str()).collect();
    let elsewhere: BTreeSet<&str> = BROKEN_ELSEWHERE.iter().map(|(rule, _)| *rule).collect();
    assert!(rows.iter().all(|row| find(&row.rule).is_some()), "the table speaks of rules that there are not");
    let missing: Vec<&str> = judged_rules()
        .iter()
        .map(|rule| rule.id)
        .filter(|id| !listed.contains(id) && !elsewhere.contains(id))
        .collect();
    assert!(missing.is_empty(), "no change is known that these reject: {missing:?}");
    assert!(elsewhere.is_disjoint(&listed), "in the table, and an exception");
}

#[test]
fn stored_traces_are_whole_and_used() {
    let (rows, traces) = (rows(), by_name());
    for (name, stored) in &traces {
        assert_eq!(stored::read(&stored::written(&stored.trace)), stored.trace, "{name}");
        assert!(rows.iter().any(|row| row.trace == *name), "{name} is not in the table");
    }
    // Rules that must hold and do not are known findings of that server, none of the harness.
    let broken: BTreeSet<&str> = traces.values().flat_map(|stored| stored.broken.iter().copied()).collect();
    let of_a_layer: Vec<&str> = broken
        .into_iter()
        .filter(|id| {
            find(id).is_some_and(|rule| rule.kind != Kind::Observed && !rule.party.comes_with_server())
        })
        .collect();
    assert!(of_a_layer.is_empty(), "{of_a_layer:?}");
}

/// A change that the rule rejects, of the trace; of several the one that the fewest other rules reject.
fn found(
    rule: &'static Rule,
    trace: &Trace,
    version: Version,
    base: &Ids,
) -> Option<(usize, String, Vec<String>)> {
    let rules = judged_rules();
    let mut best: Option<(usize, String, Vec<String>)> = None;
    let (mut hits, mut least) = (0, (true, usize::MAX));
    for place in samples(trace) {
        if hits >= HITS {
            break;
        }
        every(&mut trace.clone(), place, &mut |change, mutant| {
            if hits >= HITS || least == (false, 0) {
                return;
            }
            if judged(mutant, &[rule], version).broken.is_empty() {
                return;
            }
            hits += 1;
            let said = judged(mutant, &rules, version);
            let others: Vec<String> = said
                .broken
                .iter()
                .filter(|id| **id != rule.id && !base.contains(*id))
                .map(|id| (*id).to_owned())
                .collect();
            // Rather what a server could do than what none can.
            let faulty = said.troubles.iter().any(|trouble| matches!(trouble, Trouble::Faulty { .. }));
            if (faulty, others.len()) < least {
                least = (faulty, others.len());
                best = Some((place + 1, change.to_owned(), others));
            }
        });
    }
    best
}

fn update() {
    let mut rows = rows();
    let recordings = recordings();
    let mut kept = by_name();
    // What is known already, with what fires now.
    rows.retain_mut(|row| {
        let broken = kept.get(&row.trace).and_then(|stored| broken_by(row, stored));
        let Some(broken) = broken.filter(|broken| broken.contains(row.rule.as_str())) else { return false };
        row.others = broken.iter().filter(|id| **id != row.rule).map(|id| (*id).to_owned()).collect();
        true
    });
    let mut shortest: Vec<_> = recordings.all.iter().collect();
    shortest.sort_by_key(|one| one.trace.len());
    let missing: Vec<&'static Rule> = judged_rules()
        .into_iter()
        .filter(|rule| rule.since <= recordings.version() && !rows.iter().any(|row| row.rule == rule.id))
        .filter(|rule| !BROKEN_ELSEWHERE.iter().any(|(elsewhere, _)| *elsewhere == rule.id))
        .collect();
    println!("to find: {}", missing.len());
    for rule in missing {
        let stored = kept.iter().filter(|(_, one)| one.holds.contains(rule.id));
        let mut stored: Vec<_> =
            stored.map(|(name, one)| (name.clone(), &one.trace, one.version, &one.broken)).collect();
        stored.sort_by_key(|(_, trace, _, _)| trace.len());
        // Where one of this name is stored already, a row would be of that.
        let fresh = shortest.iter().filter(|one| !kept.contains_key(&one.file_name()));
        let fresh = fresh.filter(|one| one.holds.contains(rule.id) && one.trace.len() < 2000);
        let fresh = fresh.map(|one| (one.file_name(), &one.trace, one.version, &one.broken));
        let candidates: Vec<_> = stored.into_iter().take(3).chain(fresh.take(6)).collect();
        let row = candidates.into_iter().find_map(|(trace, events, version, base)| {
            let (line, change, others) = found(rule, events, version, base)?;
            Some((Row { rule: rule.id.to_owned(), trace, line, change, others }, events.clone()))
        });
        let Some((row, events)) = row else {
            println!("nothing breaks {}", rule.id);
            continue;
        };
        if !kept.contains_key(&row.trace) {
            std::fs::create_dir_all(traces_folder()).unwrap();
            let text = stored::written(&events);
            std::fs::write(traces_folder().join(format!("{}.trace", row.trace)), &text).unwrap();
            kept.insert(row.trace.clone(), Recorded::new(row.trace.clone(), stored::read(&text)));
        }
        rows.push(row);
        write_table(&rows);
    }
    write_table(&rows);
}

/// In the order of the catalogue.
fn write_table(rows: &[Row]) {
    let mut text = BEGINNING.to_owned();
    for rule in judged_rules() {
        for row in rows.iter().filter(|row| row.rule == rule.id) {
            write!(text, "{}", row.written()).unwrap();
        }
    }
    std::fs::write(table_file(), text).unwrap();
}
