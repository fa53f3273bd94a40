//! A whole scenario, with start, clients, end and judgement, against a server that does nothing; and against the test
//! of nbdkit's own source for the same.

#![allow(clippy::expect_used, reason = "a benchmark without a server fails")]

mod side_by_side;

use std::process::{Command, Stdio};

use layers::scenario::{Player, named};
use layers::server::nbdkit::Nbdkit;
use side_by_side::{SideBySide, time, verdict};

const ROUNDS: usize = 200;
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
        || {
            time(|| {
                let mut bare = Command::new(&server.path);
                bare.args(["-U", "-", "null", "1M", "--run", "true"]);
                let ended = bare.stdin(Stdio::null()).status().expect("nbdkit starts");
                assert!(ended.success());
            })
        },
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
}
