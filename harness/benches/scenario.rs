//! A whole scenario, with start, clients, end and judgement, against a server that does nothing; against the test of
//! nbdkit's own source for the same; and what a second job gains.

#![allow(clippy::expect_used, reason = "a benchmark without a server fails")]

mod side_by_side;

use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::time::Duration;

use layers::baseline::Baseline;
use layers::conform::{ConformListener, ConformPlan, ScenarioVerdict, Source, conform};
use layers::level::Level;
use layers::scenario::{Player, named};
use layers::select::Selection;
use layers::server::Installed;
use layers::server::nbdkit::Nbdkit;
use layers::verdict::Verdict;
use side_by_side::{SideBySide, median, time, verdict};

const ROUNDS: usize = 200;
/// Scenarios, or bare servers, of one measurement of what a second job gains; and how often it is measured.
const BATCH: usize = 60;
const BATCHES: usize = 15;
/// What nbdkit 1.32's tests/test-layers takes for one scenario: ten sleeps of two seconds, and the rest.
const TEST_LAYERS: f64 = 20.03;

fn main() {
    let server = Nbdkit::find(None).expect("nbdkit is installed");
    let scenario = named::find("classical").expect("a named scenario");
    let player = Player::new(&server);
    let mut events = 0;
    let rounds = SideBySide::measure(
        ROUNDS,
        || {
            time(|| {
                let recording = player.play(&scenario).expect("nbdkit starts");
                assert!(recording.mishaps.is_empty(), "{:?}", recording.mishaps);
                events = recording.judgement.events;
            })
        },
        || time(|| bare(&server)),
    );
    let (whole, bare) = (rounds.one(), rounds.other());
    println!(
        "nbdkit {}, {ROUNDS} rounds in turns, {} rules, {events} events",
        server.version,
        player.rules.len()
    );
    println!("  three filters, plugin, one of every request, judged {whole:>10.2?}");
    println!("  nbdkit -U - null 1M --run true                      {bare:>10.2?}");
    verdict(
        "a scenario against a bare start (median of the rounds' ratios)",
        format!("{:.2}x", rounds.ratio()),
        "<= 1.3x",
        rounds.ratio() <= 1.3,
    );
    let faster = TEST_LAYERS / whole.as_secs_f64();
    let what = "scenarios in the time of tests/test-layers (20.03 s, a constant)";
    verdict(what, format!("{faster:.0}"), ">= 4000", faster >= 4000.0);
    second_job(&server);
}

/// A server that does nothing.
fn bare(server: &Nbdkit) {
    let mut bare = Command::new(&server.path);
    bare.args(["-U", "-", "null", "1M", "--run", "true"]);
    let ended = bare.stdin(Stdio::null()).status().expect("nbdkit starts");
    assert!(ended.success());
}

struct AllPass;

impl ConformListener for AllPass {
    fn played(&mut self, one: &ScenarioVerdict) {
        assert_eq!(one.verdict, Verdict::Pass, "{}", one.name);
    }
}

/// The same batch with one job and with two, in turns; the same for servers that do nothing.
fn second_job(server: &Nbdkit) {
    let scenario = named::find("classical").expect("a named scenario");
    let scenarios = vec![scenario; BATCH];
    let selection = Selection { rules: layers::rules::all().collect(), scenarios };
    let installed = Installed::Nbdkit(server.clone());
    let ours = |jobs: usize| {
        let plan = ConformPlan {
            server: &installed,
            selection: &selection,
            level: Level::Should,
            jobs: NonZeroUsize::new(jobs).expect("a number of jobs"),
            timeout: Duration::from_secs(60),
            baseline: &Baseline::default(),
            room: None,
            time: None,
            fail_fast: false,
            source: Source::Embedded,
            all: false,
            keep_events: 0,
        };
        time(|| assert!(conform(&plan, &mut AllPass).is_ok()))
    };
    let theirs = |jobs: usize| {
        let some = || (0..BATCH / jobs).for_each(|_| bare(server));
        time(|| std::thread::scope(|scope| (0..jobs).for_each(|_| drop(scope.spawn(some)))))
    };
    let rounds: Vec<[f64; 4]> = (0..BATCHES)
        .map(|_| [ours(1), ours(2), theirs(1), theirs(2)].map(|time| time.as_secs_f64()))
        .collect();
    let middle = |of: fn(&[f64; 4]) -> f64| median(rounds.iter().map(of)).unwrap_or(f64::NAN);
    println!(
        "  scenarios a second: {:.0} with one job, {:.0} with two; bare servers: {:.0} and {:.0}",
        BATCH as f64 / middle(|round| round[0]),
        BATCH as f64 / middle(|round| round[1]),
        BATCH as f64 / middle(|round| round[2]),
        BATCH as f64 / middle(|round| round[3]),
    );
    let (gain, bare) = (middle(|round| round[0] / round[1]), middle(|round| round[2] / round[3]));
    let share = middle(|round| (round[0] / round[1]) / (round[2] / round[3]));
    let what = format!("what two jobs gain ({gain:.2}x) of what two bare servers do ({bare:.2}x)");
    verdict(&what, format!("{share:.2}"), ">= 0.9", share >= 0.9);
}
