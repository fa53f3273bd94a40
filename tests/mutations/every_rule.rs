//! Every rule can fail: for each one that the named scenarios exercise there is a change that it rejects, and the rules
//! that may fire with it are those that stand beside it in `tests/self-test.txt`.
//!
//! LAYERS_SELF_TEST=write adds to that table what is missing; look at it before it is committed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use layers::rules::Rule;
use layers::version::Version;

use super::operators::{Try, altered, displaced, samples};
use super::recorded::{Ids, Recorded, Trace, judged, recordings, side_by_side};

/// Rules that no single change of these breaks; each has a counter-example, made by hand, beside its check.
const BROKEN_ELSEWHERE: &[(&str, &str)] = &[
    ("open.fail.no-close", "a failed open has no handle, so its close must be invented"),
    ("open.fail.retry", "the second attempt must vanish together with its replies"),
    ("conn.disc-prompt", "the close must move behind the client's own end of the connection"),
];

/// Traces in which a rule is tried with one operator.
const TRACES: usize = 2;

type Operator = fn(&mut Trace, usize, &mut Try<'_>);

/// What a rule rejected, as its first change: the other rules that reject it as well.
type Table = BTreeMap<String, Vec<String>>;

/// Rules in search of a change that breaks them.
struct Search {
    alive: Vec<&'static Rule>,
    found: BTreeMap<&'static str, Ids>,
}

impl Search {
    /// Tries the operator on every sample of every trace, until each rule has rejected something.
    fn try_all(&mut self, recorded: &mut [Recorded], version: Version, operator: Operator) {
        let mut tried: BTreeMap<&str, usize> = BTreeMap::new();
        for one in recorded {
            let mut here: Vec<&'static Rule> =
                self.alive.iter().copied().filter(|rule| one.holds.contains(rule.id)).collect();
            here.retain(|rule| {
                let traces = tried.entry(rule.id).or_default();
                *traces += 1;
                *traces <= TRACES
            });
            for place in samples(&one.trace) {
                operator(&mut one.trace, place, &mut |mutant| {
                    if here.is_empty() {
                        return;
                    }
                    let [killed, _] = judged(mutant, &here, version);
                    if killed.is_empty() {
                        return;
                    }
                    let [broken, _] = judged(mutant, &recordings().rules, version);
                    for id in &killed {
                        let others =
                            broken.iter().filter(|other| *other != id && !one.broken.contains(*other));
                        self.found.insert(id, others.copied().collect());
                    }
                    here.retain(|rule| !killed.contains(rule.id));
                    self.alive.retain(|rule| !killed.contains(rule.id));
                });
                if here.is_empty() {
                    break;
                }
            }
        }
    }
}

/// Those with a fixed order first. Short ones say the same in less time, but not everything: a short one, a long one, and
/// so on.
fn in_order_of_trial(recorded: &[Recorded]) -> Vec<Recorded> {
    let mut all = Vec::new();
    for repeatable in [true, false] {
        let mut some: Vec<Recorded> =
            recorded.iter().filter(|one| one.repeatable == repeatable).cloned().collect();
        some.sort_by_key(|one| one.trace.len());
        let mut long = some.split_off(some.len() / 2);
        for one in some {
            all.extend([Some(one), long.pop()].into_iter().flatten());
        }
        all.extend(long);
    }
    all
}

fn search() -> (usize, Vec<&'static str>, BTreeMap<&'static str, Ids>) {
    let recordings = recordings();
    let elsewhere = |rule: &Rule| BROKEN_ELSEWHERE.iter().any(|(id, _)| *id == rule.id);
    let holds = |rule: &Rule| recordings.all.iter().any(|one| one.holds.contains(rule.id));
    let rules: Vec<&'static Rule> =
        recordings.rules.iter().copied().filter(|rule| holds(rule) && !elsewhere(rule)).collect();
    let halves: Vec<Vec<&'static Rule>> =
        [0, 1].map(|half| rules.iter().copied().skip(half).step_by(2).collect()).into();
    let results = side_by_side(&halves, |rules| {
        let mut recorded = in_order_of_trial(&recordings.all);
        let mut search = Search { alive: rules.clone(), found: BTreeMap::new() };
        search.try_all(&mut recorded, recordings.version, altered);
        search.try_all(&mut recorded, recordings.version, displaced);
        search
    });
    let survivors = results.iter().flat_map(|search| search.alive.iter().map(|rule| rule.id)).collect();
    (rules.len(), survivors, results.into_iter().flat_map(|search| search.found).collect())
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/self-test.txt")
}

fn stored() -> Table {
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            (words.next().unwrap(), words.collect())
        })
        .collect()
}

fn write(mut table: Table, missing: &Table) {
    for (rule, others) in missing {
        let row = table.entry(rule.clone()).or_default();
        row.extend(others.iter().cloned());
        row.sort();
        row.dedup();
    }
    let mut text = String::from(
        "# For each rule: the others that may reject the first change that it rejects (tests/mutations/every_rule.rs).\n",
    );
    for (rule, others) in table {
        let row: Vec<&str> =
            std::iter::once(rule.as_str()).chain(others.iter().map(String::as_str)).collect();
        text.push_str(&row.join(" "));
        text.push('\n');
    }
    std::fs::write(path(), text).unwrap();
}

#[test]
fn every_exercised_rule_rejects_a_change_to_a_real_trace() {
    let (tried, survivors, found) = search();
    assert!(tried > 40, "only {tried} rules were tried");
    assert!(survivors.is_empty(), "of {tried} rules nothing breaks {survivors:#?}");

    let table = stored();
    let missing: Table = found
        .into_iter()
        .filter_map(|(rule, others)| {
            let row = table.get(rule);
            let new: Vec<String> = others
                .into_iter()
                .filter(|other| row.is_none_or(|row| row.iter().all(|known| known != other)))
                .map(str::to_owned)
                .collect();
            (row.is_none() || !new.is_empty()).then(|| (rule.to_owned(), new))
        })
        .collect();
    if std::env::var("LAYERS_SELF_TEST").is_ok_and(|what| what == "write") {
        write(table, &missing);
        return;
    }
    assert!(
        missing.is_empty(),
        "tests/self-test.txt does not know that these rules fire, with these others; look whether they should, and \
         let LAYERS_SELF_TEST=write add them: {missing:#?}"
    );
}

#[test]
fn the_table_names_rules() {
    for (rule, others) in stored() {
        for id in others.iter().chain([&rule]) {
            assert!(layers::rules::find(id).is_some(), "there is no rule {id}");
        }
    }
}
