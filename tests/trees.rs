//! The tree of calls of every named scenario, as stored for Debian 12's nbdkit, and that it never varies.
//!
//! Another version of nbdkit makes other calls: its trees belong in a directory of their own.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use layers::scenario::{Player, Scenario, named};
use layers::server::Which;
use layers::server::nbdkit::Nbdkit;
use layers::server::process::become_subreaper;
use layers::tree::tree;

fn tree_of(server: &Nbdkit, scenario: &Scenario) -> String {
    let player = Player { keep_events: true, ..Player::new(server) };
    let recording = player.play(scenario).unwrap();
    assert_eq!(recording.mishaps, [], "{}: {}\n{}", scenario.name, recording.stderr, tree(&recording.events));
    tree(&recording.events)
}

#[test]
fn every_named_scenario_makes_the_calls_that_are_stored() {
    become_subreaper().unwrap();
    let server = Nbdkit::find(None).unwrap();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("snapshots/nbdkit-{}", server.version));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for scenario in
            named::of(Which::Nbdkit).iter().filter(|scenario| scenario.repeatable && !scenario.is_race())
        {
            insta::assert_snapshot!(scenario.name.replace('/', "."), tree_of(&server, scenario));
        }
    });
}

/// In somebody's tests there are other children than servers, and they carry no mark of a run.
#[test]
fn what_a_test_has_started_by_itself_outlives_every_run() {
    become_subreaper().unwrap();
    let mut own = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let server = Nbdkit::find(None).unwrap();
    tree_of(&server, &named::find("leave/abort").unwrap());
    let ended = own.try_wait().unwrap();
    own.kill().unwrap();
    own.wait().unwrap();
    assert_eq!(ended, None, "a child that is none of a run's was killed");
}

/// The scenarios with the most that could vary: threads, several connections, a signal at a certain moment.
#[test]
fn a_hundred_runs_make_the_same_tree() {
    let server = Nbdkit::find(None).unwrap();
    for name in ["classical", "connections/several", "connections/pipelined", "end/sigterm/connected"] {
        let scenario = named::find(name).unwrap();
        let first = tree_of(&server, &scenario);
        for run in 2..=100 {
            assert_eq!(tree_of(&server, &scenario), first, "{name}, run {run}");
        }
    }
}
