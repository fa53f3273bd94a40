//! HAProxy, with the instrument in it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod keywords;
mod loading;
mod masters;
mod reported;
mod sessions;
mod snapshots;
mod trees;
mod validate;
mod zoo;

use std::time::Duration;

use layers::deadline::Deadline;
use layers::run::Start;
use layers::scenario::{Recording, SessionPlayer, named};
use layers::server::haproxy::{Haproxy, Loading, ServeHaproxy};
use layers::server::process::Woken;
use layers::version::Version;
use layers_trace::appctx::{State, is_registration};
use layers_trace::{Callback, Event, Field, Kind, Probe, Reader};
use rustix::process::Signal;

pub(crate) const PLAIN: &str = include_str!("../../fixtures/haproxy/plain.cfg");

/// What one command leaves in the trace, and what the server answers.
pub(crate) fn asked(command: &str) -> (Vec<Event>, String) {
    let deadline = Deadline::after(Duration::from_secs(10));
    let server = Haproxy::find(None).unwrap();
    let serve = ServeHaproxy {
        scenario: "test",
        configuration: PLAIN,
        users: None,
        modules: &[],
        arguments: &[],
        start: Start::Foreground,
        load: Loading::Preload,
        capacity: 1 << 16,
        keep: None,
    };
    let mut server = server.start(&serve).unwrap();
    assert_eq!(server.wait_ready(deadline), Woken::Happened, "{}", server.process.stderr());
    let answer = server.ask(1, command, deadline).unwrap();
    server.signal(Signal::TERM).unwrap();
    server.wait_for_end(deadline).unwrap();
    (Reader::of(&server.trace().unwrap()).events().map(Result::unwrap).collect(), answer)
}

fn is_debians() -> bool {
    Haproxy::find(None).unwrap().version == Version(2, 6, 12)
}

pub(crate) fn play(name: &str) -> Recording {
    let (server, scenario) = (Haproxy::find(None).unwrap(), named::find(name).unwrap());
    let player = SessionPlayer { keep_events: true, ..SessionPlayer::new(&server) };
    let recording = player.play(&scenario).unwrap();
    assert_eq!(recording.mishaps, [], "{name}: {}", recording.stderr);
    recording
}

/// The figures are those of Debian 12's release, found by hand; the instrument has found its own.
#[test]
fn the_layout_is_found() {
    if !is_debians() {
        return;
    }
    let (events, _) = asked("show info");
    let found = events.iter().rfind(|event| event.probe() == Some(Probe::AppctxLayout)).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&found.text(Field::Json).unwrap().bytes).unwrap();
    let expected = serde_json::json!({
        "svcctx": 160, "storage": 168, "size": 88, "st0": 4, "st2": 152, "io_handler": 56,
    });
    assert_eq!(json, expected);
}

#[test]
fn a_command_leaves_its_calls() {
    let (events, _) = asked("show info");
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

#[test]
fn what_is_printed_the_old_way_arrives() {
    if is_debians() {
        let (_, answer) = asked("layers legacy");
        assert_eq!(answer.trim_end(), "layers: printed the old way");
    }
}
