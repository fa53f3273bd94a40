//! Traces as the harness and a server have them, and events drawn at random.

#![allow(dead_code, reason = "each test uses some of it")]
#![allow(clippy::expect_used, reason = "a test that cannot make its trace fails")]

use std::fs::File;
use std::path::PathBuf;

use layers_trace::event::Kind;
use layers_trace::{Callback, Event, Field, Operation, Probe, Reader, Text, Writer};
use proptest::prelude::*;
use rustix::fd::AsRawFd;
use rustix::fs::{MemfdFlags, memfd_create};

/// A trace in memory, with the harness's writer.
pub(crate) fn trace(capacity: u64) -> (File, Writer) {
    let file = File::from(memfd_create("trace", MemfdFlags::CLOEXEC).expect("memfd_create"));
    let writer = Writer::create(&file, capacity, 1).expect("a new trace");
    (file, writer)
}

/// The path by which a server is told of it.
pub(crate) fn path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The whole trace, none of whose events may be damaged or unpublished.
pub(crate) fn events(writer: &Writer) -> Vec<Event> {
    let mut events = Reader::of(writer).events();
    let read: Vec<Event> = events.by_ref().map(|event| event.expect("a good event")).collect();
    assert_eq!(events.unpublished(), 0);
    read
}

pub(crate) fn field() -> impl Strategy<Value = Field> {
    (1..=8u8).prop_map(|number| Field::from_number(number).expect("a field"))
}

/// Texts that fit into one event, the empty one and one that is not UTF-8 among them.
pub(crate) fn texts() -> impl Strategy<Value = Vec<Text>> {
    let text = (field(), prop::collection::vec(any::<u8>(), 0..200), any::<bool>());
    prop::collection::vec(text.prop_map(|(field, bytes, cut)| Text { field, bytes, cut }), 0..4)
}

/// A good trace: each event where the one before ends, and each exit after its enter.
pub(crate) fn good_trace() -> impl Strategy<Value = Vec<Event>> {
    let event = (1..=9u8, any::<u8>(), any::<u8>(), any::<[u64; 4]>(), any::<[u32; 6]>(), texts());
    prop::collection::vec(event, 0..20).prop_map(|drawn| {
        let mut position = 0;
        let mut good = Vec::new();
        for (kind, layer, number, [time, context, a, b], [tid, pid, call, handle, c, d], texts) in drawn {
            let kind = Kind::from_number(kind).expect("a kind");
            let number = match kind {
                Kind::Enter | Kind::Exit => number % Callback::ALL.len() as u8,
                Kind::Request | Kind::Reply => 1 + number % Operation::HalfClose as u8,
                Kind::Probe => 1 + number % Probe::ContextBackend as u8,
                _ => number,
            };
            let call = match kind {
                Kind::Enter | Kind::Request => position,
                Kind::Exit | Kind::Reply => call.checked_rem(position).unwrap_or(u32::MAX),
                _ => call,
            };
            let event = Event {
                position,
                kind,
                layer,
                number,
                tid,
                pid,
                call,
                handle,
                time,
                context,
                a,
                b,
                c,
                d,
                texts,
            };
            position += event.to_records(1).len() as u32;
            good.push(event);
        }
        good
    })
}
