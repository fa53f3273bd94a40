//! HAProxy, with the instrument in it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::time::Duration;

use layers::deadline::Deadline;
use layers::run::Start;
use layers::scenario::{Recording, SessionPlayer, named};
use layers::server::Which;
use layers::server::haproxy::{Haproxy, Serve};
use layers::server::process::Woken;
use layers::version::Version;
use layers_trace::appctx::{State, is_registration};
use layers_trace::{Callback, Event, Field, Kind, Probe, Reader};
use rustix::process::Signal;

const PLAIN: &str = include_str!("../fixtures/haproxy/plain.cfg");

/// What one command leaves in the trace.
fn events_of(command: &str) -> Vec<Event> {
    let deadline = Deadline::after(Duration::from_secs(10));
    let server = Haproxy::find(None).unwrap();
    let serve = Serve {
        scenario: "test",
        configuration: PLAIN,
        arguments: &[],
        start: Start::Foreground,
        capacity: 1 << 16,
        keep: None,
    };
    let mut server = server.start(&serve).unwrap();
    assert_eq!(server.wait_ready(deadline), Woken::Happened, "{}", server.process.stderr());
    server.ask(1, command, deadline).unwrap();
    server.signal(Signal::TERM).unwrap();
    server.wait_for_end(deadline).unwrap();
    Reader::of(&server.trace().unwrap()).events().map(Result::unwrap).collect()
}

fn play(name: &str) -> Recording {
    let (server, scenario) = (Haproxy::find(None).unwrap(), named::find(name).unwrap());
    let player = SessionPlayer { keep_events: true, ..SessionPlayer::new(&server) };
    let recording = player.play(&scenario).unwrap();
    assert_eq!(recording.mishaps, [], "{name}: {}", recording.stderr);
    recording
}

#[test]
fn every_keyword_of_the_server_is_wrapped() {
    let events = events_of("show info");
    let of_server = |event: &&Event| is_registration(event) && event.c == 0 && event.handle < 1000;
    let count = events.iter().filter(of_server).count();
    assert!(count >= 125, "only {count}");
    // A command that is known is not answered with the list of commands.
    let named = |words: &[u8]| {
        events.iter().any(|event| event.text(Field::Keyword).is_some_and(|text| text.bytes == words))
    };
    for words in ["show tls-keys", "show stat", "show map", "show threads", "set ssl cert"] {
        assert!(named(words.as_bytes()), "{words}");
    }
}

/// The figures are those of Debian 12's release, found by hand; the instrument has found its own.
#[test]
fn the_layout_is_found() {
    if Haproxy::find(None).unwrap().version != Version(2, 6, 12) {
        return;
    }
    let events = events_of("show info");
    let found = events.iter().rfind(|event| event.probe() == Some(Probe::AppctxLayout)).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&found.text(Field::Json).unwrap().bytes).unwrap();
    let expected = serde_json::json!({
        "svcctx": 160, "storage": 168, "size": 88, "st0": 4, "st2": 152, "io_handler": 56,
    });
    assert_eq!(json, expected);
}

#[test]
fn every_bad_keyword_is_caught_by_its_rule() {
    let bad = named::of(Which::Haproxy).into_iter().filter(|scenario| !scenario.breaks.is_empty());
    for scenario in bad {
        let recording = play(&scenario.name);
        let broken = |id: &&str| recording.judgement.result(id).is_some_and(|result| result.broken > 0);
        assert!(scenario.breaks.iter().any(broken), "{} breaks {:?}", scenario.name, scenario.breaks);
        let others: Vec<_> = recording
            .judgement
            .findings()
            .filter(|finding| !scenario.breaks.contains(&finding.rule))
            .collect();
        assert!(others.is_empty(), "{}: {others:#?}", scenario.name);
    }
}

#[test]
fn a_command_leaves_its_calls() {
    let events = events_of("show info");
    let number = events
        .iter()
        .filter(|event| is_registration(event))
        .find(|event| event.text(Field::Keyword).is_some_and(|text| text.bytes == b"show info"))
        .unwrap()
        .handle;
    let calls: Vec<(Kind, Callback)> = events
        .iter()
        .filter(|event| State::of(event).is_some_and(|state| u32::from(state.number) == number))
        .map(|event| (event.kind, event.callback().unwrap()))
        .collect();
    let call = |callback| [(Kind::Enter, callback), (Kind::Exit, callback)];
    assert_eq!(calls, [call(Callback::Parse), call(Callback::IoHandler)].concat());
}
