//! HAProxy, with the instrument in it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::time::Duration;

use layers::deadline::Deadline;
use layers::run::Start;
use layers::server::haproxy::{Haproxy, Serve};
use layers::server::process::Woken;
use layers_trace::appctx::{State, is_registration};
use layers_trace::{Callback, Event, Field, Kind, Reader};
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
