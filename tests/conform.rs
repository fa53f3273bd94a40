//! The whole run on Debian's nbdkit, and on its HAProxy: what it must say there, and that it says the same every time.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::time::Duration;

use layers::baseline::Baseline;
use layers::conform::{ConformListener, ConformPlan, Conformance, ScenarioVerdict, Source, conform};
use layers::level::Level;
use layers::rules::Checker;
use layers::select::Selection;
use layers::server::process::become_subreaper;
use layers::server::{Installed, Which};
use layers::verdict::{Exit, Standing, Verdict};
use layers::version::Version;

struct Nobody;

impl ConformListener for Nobody {
    fn played(&mut self, _verdict: &ScenarioVerdict) {}
}

fn run(which: Which) -> Conformance {
    become_subreaper().unwrap();
    let server = Installed::find(which, None).unwrap();
    let selection = Selection::new(which, &[], &[]).unwrap();
    let baseline = Baseline::embedded(which.name(), server.version()).unwrap().unwrap_or_default();
    let plan = ConformPlan {
        server: &server,
        selection: &selection,
        level: Level::Should,
        jobs: NonZeroUsize::new(2).unwrap(),
        timeout: Duration::from_secs(10),
        baseline: &baseline,
        room: None,
        time: None,
        fail_fast: false,
        source: Source::Embedded,
        all: false,
        keep_events: 0,
    };
    conform(&plan, &mut Nobody).unwrap()
}

fn full_run(which: Which) -> &'static Conformance {
    static RUNS: [OnceLock<Conformance>; 2] = [const { OnceLock::new() }; 2];
    RUNS[which as usize].get_or_init(|| run(which))
}

fn version(which: Which) -> Version {
    Installed::find(which, None).unwrap().version()
}

/// What a server breaks differs from version to version: a version that has no baseline is not spoken of here.
fn has_baseline(which: Which) -> bool {
    Baseline::embedded(which.name(), version(which)).unwrap().is_some()
}

fn is_conformant_except_what_stands_there(which: Which) {
    if !has_baseline(which) {
        return;
    }
    // What a busy machine brings out once has to show itself again, in a run of its own.
    let again;
    let mut run = full_run(which);
    if run.exit() != Exit::Conformant {
        eprintln!("once more: {:#?}", run.faults);
        again = self::run(which);
        run = &again;
    }
    let known = |standing: &Standing| matches!(standing, Standing::Known { .. } | Standing::Habit);
    let new: Vec<_> = run.faults.iter().filter(|fault| !known(&fault.standing)).collect();
    let stale: Vec<_> = run.stale.iter().map(ToString::to_string).collect();
    let is_known =
        |name: &str| run.faults.iter().any(|fault| fault.scenario == name && known(&fault.standing));
    let astray = |one: &&ScenarioVerdict| one.verdict != Verdict::Pass && !is_known(&one.name);
    let astray: Vec<_> = run.scenarios.iter().filter(astray).collect();
    assert!(new.is_empty(), "{new:#?}");
    assert_eq!(stale, [""; 0]);
    assert!(astray.is_empty(), "{astray:#?}");
    assert_eq!(run.exit(), Exit::Conformant);
}

#[test]
fn a_server_with_a_baseline_is_conformant_except_what_stands_there() {
    is_conformant_except_what_stands_there(Which::Nbdkit);
    is_conformant_except_what_stands_there(Which::Haproxy);
}

/// Rules about buffers that `validate` alone lends to layers: elsewhere they get those of the server.
const LENT_BUFFERS: [&str; 3] = ["data.pread.fills", "data.pwrite.const", "data.buffer.bounds"];

#[test]
fn every_rule_that_applies_is_put_to_the_test() {
    for which in [Which::Nbdkit, Which::Haproxy].into_iter().filter(|which| has_baseline(*which)) {
        let version = version(which);
        let applies =
            |rule: &layers::rules::Rule| rule.since <= version && !matches!(rule.check, Checker::Nothing);
        let rules = full_run(which).rules.iter();
        let lends = |rule: &layers::rules::Rule| LENT_BUFFERS.contains(&rule.id);
        let never = rules.filter(|one| applies(one.rule) && !lends(one.rule) && one.exercised == 0);
        let never: Vec<&str> = never.map(|verdict| verdict.rule.id).collect();
        assert_eq!(never, [""; 0], "a rule that is never put to the test is not judged");
    }
}

/// What a run says that must not depend on chance: all but how often races were lost.
fn verdicts(run: &Conformance) -> BTreeMap<String, String> {
    let rules = run
        .rules
        .iter()
        .map(|one| (one.rule.id.to_owned(), format!("{:?} {:?}", one.verdict, one.broken_in)));
    let scenarios = run.scenarios.iter().map(|one| (one.name.clone(), format!("{:?}", one.verdict)));
    let by_chance = |standing: &Standing| matches!(standing, Standing::Known { race: true, .. });
    let faults = run.faults.iter().filter(|fault| !by_chance(&fault.standing));
    let faults = faults.map(|one| {
        // A try that crashed, by chance, shows nothing else.
        (format!("{} in {}", one.what, one.scenario), format!("{:?}", one.standing))
    });
    let exit = ("exit".to_owned(), run.meaning());
    rules.chain(scenarios).chain(faults).chain([exit]).collect()
}

/// Takes minutes: `cargo test -p layers --test conform -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn fifty_full_runs_give_the_same_verdicts() {
    give_the_same_verdicts(Which::Nbdkit, 50);
}

/// Takes minutes, too.
#[test]
#[ignore = "takes minutes"]
fn twenty_full_runs_of_haproxy_give_the_same_verdicts() {
    give_the_same_verdicts(Which::Haproxy, 20);
}

fn give_the_same_verdicts(which: Which, usual: u32) {
    let runs = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(usual);
    let first = run(which);
    let (wanted, mut different) = (verdicts(&first), Vec::new());
    let mut rates: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let mut exercised: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for number in 1..=runs {
        let this = if number == 1 { first.clone() } else { run(which) };
        let said = verdicts(&this);
        let names = wanted.keys().chain(said.keys().filter(|name| !wanted.contains_key(*name)));
        for name in names.filter(|name| wanted.get(*name) != said.get(*name)) {
            different.push(format!(
                "run {number}: {name}: {:?}, first {:?}",
                said.get(name),
                wanted.get(name)
            ));
        }
        for fault in &this.faults {
            if matches!(fault.standing, Standing::Known { race: true, .. }) {
                rates.entry(format!("{} in {}", fault.what, fault.scenario)).or_default().push(fault.times);
            }
        }
        for rule in &this.rules {
            exercised.entry(rule.rule.id).or_default().push(rule.exercised);
        }
    }
    for (what, times) in rates {
        let (seen, all) = (times.iter().filter(|times| **times > 0).count(), times.iter().sum::<u32>());
        println!(
            "{what}: in {seen} of {runs} runs, {all} times, {:?} to {:?}",
            times.iter().min(),
            times.iter().max()
        );
    }
    for (id, counts) in exercised {
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        if least != most {
            println!("{id}: exercised {least} to {most} times");
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
