//! The seeds of the fuzzer are traces that the reader takes; after a change of the format they are made anew with
//! `LAYERS_BLESS=1 cargo test -p layers-trace --test fuzz_seeds`.

use std::path::Path;

use layers_trace::reader::write_trace;
use layers_trace::{Callback, Event, Field, Kind, Operation, Probe, Reader, Text};

fn event(position: u32, kind: Kind, number: u8, call: u32, texts: &[(Field, &[u8])]) -> Event {
    let text = |(field, bytes): &(Field, &[u8])| Text { field: *field, bytes: bytes.to_vec(), cut: false };
    let texts = texts.iter().map(text).collect();
    let (layer, tid, pid, handle, time, context) = (1, 100, 100, 1, 1_000 + u64::from(position), 0x7f00);
    let (a, b, c, d) = (0, 0, 512, 0);
    Event { position, kind, layer, number, tid, pid, call, handle, time, context, a, b, c, d, texts }
}

/// A call inside a call, and one that never returned.
fn calls() -> Vec<Event> {
    vec![
        event(0, Kind::Enter, Callback::Open as u8, 0, &[(Field::Export, b"")]),
        event(2, Kind::Enter, Callback::Prepare as u8, 2, &[]),
        event(3, Kind::Exit, Callback::Prepare as u8, 2, &[]),
        event(4, Kind::Exit, Callback::Open as u8, 0, &[]),
        event(5, Kind::Enter, Callback::Pread as u8, 5, &[]),
    ]
}

/// Every kind of record, with several texts, one of them in two records, and a gap.
fn kinds() -> Vec<Event> {
    let long = [b'n'; 60];
    vec![
        event(0, Kind::Run, 0, 0, &[(Field::Json, br#"{"filters":1}"#)]),
        event(2, Kind::Layer, 0, 0, &[(Field::Name, &long), (Field::Target, b"/a.so")]),
        event(6, Kind::Enter, Callback::Config as u8, 6, &[(Field::Key, b"k"), (Field::Value, b"\xff")]),
        event(9, Kind::Exit, Callback::Config as u8, 6, &[]),
        event(11, Kind::Probe, Probe::ConfigStrings as u8, 0, &[]),
        event(12, Kind::Request, Operation::Read as u8, 12, &[]),
        event(13, Kind::Reply, Operation::Read as u8, 12, &[(Field::Message, b"EIO")]),
        event(15, Kind::Signal, 0, 0, &[]),
        event(16, Kind::End, 0, 0, &[]),
    ]
}

#[test]
fn the_seeds_of_the_fuzzer_are_good_traces() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/reader");
    for (name, events) in [("empty", vec![]), ("calls", calls()), ("kinds", kinds())] {
        let made = write_trace(&events, 7);
        if std::env::var_os("LAYERS_BLESS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(name), &made).unwrap();
        }
        let seed = std::fs::read(folder.join(name)).unwrap();
        assert!(seed == made, "{name} is of an earlier format");
        let read: Result<Vec<Event>, _> = Reader::new(&seed).unwrap().events().collect();
        assert_eq!(read, Ok(events));
    }
}
