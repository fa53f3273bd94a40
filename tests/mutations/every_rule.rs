//! Every rule can fail: for each one that the named scenarios exercise there is a change that it rejects. With
//! `--nocapture` the test prints which other rules reject that change as well.

use std::collections::BTreeMap;

use layers::rules::Rule;
use layers::version::Version;

use super::operators::{Try, altered, displaced, samples};
use super::recorded::{Ids, Recorded, Trace, judged, recordings, side_by_side};

/// Rules that no single change of these breaks; each has a counter-example, made by hand, beside its check.
const BROKEN_ELSEWHERE: &[(&str, &str)] = &[
    ("open.fail.no-close", "a failed open has no handle, so its close must be invented"),
    ("open.fail.retry", "the second attempt must vanish together with its replies"),
    ("conn.disc-prompt", "the close must move behind the client's own end of the connection"),
    ("emul.extents.nonempty", "an empty list and a client that is told of success must come together"),
    ("emul.zero.fast-no-fallback", "a write must be invented inside a fast zero"),
    ("data.error.zero-notsup", "a filter's zero must fail with one certain error"),
    ("data.max-io", "the count must grow far beyond what the operators write"),
    ("data.buf.distinct", "two calls must meet, and be given one buffer"),
];

/// Traces in which a rule is tried with one operator.
const TRACES: usize = 2;

type Operator = fn(&mut Trace, usize, &mut Try<'_>);

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
                    let killed = judged(mutant, &here, version).broken;
                    if killed.is_empty() {
                        return;
                    }
                    let broken = judged(mutant, &recordings().rules, version).broken;
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
    // Which rules a scenario without a fixed order exercises is for chance to say.
    let holds = |rule: &Rule| recordings.all.iter().any(|one| one.repeatable && one.holds.contains(rule.id));
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

#[test]
fn every_exercised_rule_rejects_a_change_to_a_real_trace() {
    let (tried, survivors, found) = search();
    assert!(tried > 100, "only {tried} rules were tried");
    assert!(survivors.is_empty(), "of {tried} rules nothing breaks {survivors:#?}");
    for (rule, others) in found {
        println!("{rule}: {}", others.into_iter().collect::<Vec<_>>().join(" "));
    }
}
