//! A trace that is full says so, and shows whole events only.

mod support;

use layers_trace::record::Record;
use layers_trace::writer::record;
use layers_trace::{CallId, Callback, Field, Kind, Reader};
use proptest::prelude::*;
use support::trace;

proptest! {
    #[test]
    fn an_event_is_there_whole_or_counted_as_lost(
        capacity in 0..60u64,
        lengths in prop::collection::vec(0..5usize, 0..60),
    ) {
        let (_file, writer) = trace(capacity);
        let mut claimed = 0;
        let mut fitting = Vec::new();
        for (index, length) in lengths.iter().enumerate() {
            let text = vec![b't'; 56 * length];
            let texts = [(Field::Value, text.as_slice())];
            let texts = if *length == 0 { &[][..] } else { &texts };
            let call = writer.enter(Record { a: index as u64, ..record(Kind::Enter, 0, 0) }, texts);
            let fits = claimed + 1 + *length as u64 <= capacity;
            claimed += 1 + *length as u64;
            prop_assert_eq!(call != CallId::LOST, fits);
            if fits {
                fitting.push((index as u64, text));
            }
        }
        let reader = Reader::of(&writer);
        prop_assert_eq!(reader.lost(), claimed.saturating_sub(capacity));
        prop_assert_eq!(reader.records(), claimed.min(capacity));
        let read: Vec<_> = reader.events().map(Result::unwrap).collect();
        let read: Vec<_> =
            read.into_iter().map(|e| (e.a, e.texts.first().map_or(Vec::new(), |t| t.bytes.clone()))).collect();
        prop_assert_eq!(read, fitting);
    }
}

#[test]
fn the_exit_of_a_lost_enter_is_lost_too() {
    let (_file, writer) = trace(2);
    let first = writer.enter(record(Kind::Enter, 0, Callback::Open as u8), &[]);
    let name = [(Field::Export, &b"x"[..])];
    let second = writer.enter(record(Kind::Enter, 1, Callback::Open as u8), &name);
    assert_eq!((first, second), (CallId(0), CallId::LOST));
    writer.exit(second, record(Kind::Exit, 1, Callback::Open as u8), &[]);
    writer.exit(first, record(Kind::Exit, 0, Callback::Open as u8), &[]);
    let reader = Reader::of(&writer);
    assert_eq!(reader.events().count(), 1);
    assert_eq!(reader.lost(), 3);
}

#[test]
fn a_trace_without_room_counts_everything() {
    let (_file, writer) = trace(0);
    writer.note(record(Kind::Run, 0, 0), &[]);
    assert_eq!((Reader::of(&writer).lost(), Reader::of(&writer).events().count()), (1, 0));
}
