//! Misbehaving keywords and services: each is caught by the rule that it breaks, and each rule catches one.

use std::collections::BTreeSet;

use layers::history::End;
use layers::rules::{Checker, Judge, of};
use layers::scenario::session::{SessionStep, Socket};
use layers::scenario::{Recording, Scenario, SessionPlayer, named};
use layers::server::Which;
use layers::server::haproxy::Haproxy;
use layers::version::Version;

use super::play;

/// The first rule is the animal's own; the others are what else shows.
fn zoo() -> Vec<Scenario> {
    named::of(Which::Haproxy).into_iter().filter(|scenario| !scenario.breaks.is_empty()).collect()
}

/// Ids of the rules that a recording breaks, in a version in which every rule applies.
fn broken(recording: &Recording) -> BTreeSet<&'static str> {
    let mut judge = Judge::new(of(Which::Haproxy), Version(u16::MAX, 0, 0));
    recording.events.iter().for_each(|event| judge.feed(event));
    let results = judge.finish().results;
    results.iter().filter(|result| result.broken > 0).map(|result| result.rule.id).collect()
}

#[test]
fn every_animal_is_caught_by_its_rule() {
    for scenario in zoo() {
        let broken = broken(&play(&scenario.name));
        assert!(broken.contains(scenario.breaks[0]), "{} breaks {broken:?}", scenario.name);
        // HAProxy 2.6 calls an applet after its release, by design; the rule is for later versions.
        let others: Vec<_> = broken
            .iter()
            .filter(|id| !scenario.breaks.contains(id) && **id != "applet.no-call-after-release")
            .collect();
        assert_eq!(others, [&""; 0], "{}", scenario.name);
    }
}

#[test]
fn every_rule_has_an_animal() {
    let caught: BTreeSet<&str> =
        zoo().iter().map(|scenario| scenario.breaks[0]).chain([RELEASE_WITH_NULL]).collect();
    let without: Vec<&str> = of(Which::Haproxy)
        .filter(|rule| matches!(rule.check, Checker::Trace(_)) && !caught.contains(rule.id))
        .map(|rule| rule.id)
        .collect();
    assert_eq!(without, ALSO_CAUGHT, "rules that no animal is about");
}

/// Rules of which no animal's first is: each is among the others of one.
const ALSO_CAUGHT: &[&str] = &["appctx.storage.zero-at-start", "appctx.st2.zero-at-start"];

const RELEASE_WITH_NULL: &str = "appctx.dynamic.release-tolerates-null";

/// It takes the server with it, so it is not among the named scenarios.
#[test]
fn a_release_that_takes_its_context_for_granted_is_caught() {
    let server = Haproxy::find(None).unwrap();
    let mut scenario = named::find("own/failing").unwrap();
    let session = scenario.session.as_mut().unwrap();
    session.steps = vec![SessionStep::Perhaps(Socket::Cli, "layers bad-release-null".to_owned())];
    session.dies = true;
    let player = SessionPlayer { keep_events: true, ..SessionPlayer::new(&server) };
    let recording = player.play(&scenario).unwrap();
    assert_eq!(recording.end, Some(End::Killed(11)));
    assert!(broken(&recording).contains(RELEASE_WITH_NULL));
}
