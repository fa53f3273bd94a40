//! A trace that wraps: whatever its reader does, what is recorded is whole, and what is missing is counted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use layers_trace::record::Record;
use layers_trace::writer::record;
use layers_trace::{CallId, Callback, Event, Field, Kind, Probe, ReadError, Reader, Writer};
use proptest::prelude::*;
use rustix::fs::{MemfdFlags, memfd_create};
use support::path;

const DATA: u8 = Callback::Pread as u8;
const OPEN: u8 = Callback::Open as u8;

/// A trace that wraps, as its reader has it and as a server does.
fn ring(capacity: u64) -> (File, Writer, Writer) {
    let file = File::from(memfd_create("trace", MemfdFlags::CLOEXEC).unwrap());
    let reads = Writer::create_ring(&file, capacity, 1).unwrap();
    let writes = Writer::attach(&path(&file)).unwrap();
    (file, reads, writes)
}

fn call(writer: &Writer, callback: u8, inside: impl FnOnce()) {
    let call = writer.enter(record(Kind::Enter, 0, callback), &[]);
    inside();
    writer.exit(call, record(Kind::Exit, 0, callback), &[]);
}

/// All that there is to be read from this position on, which is read from then on.
fn read(reads: &Writer, next: &mut u64) -> Vec<Event> {
    let mut events = Reader::of(reads).events_from(*next).waiting();
    let all: Vec<Event> = events.by_ref().map(Result::unwrap).collect();
    *next = events.position();
    reads.has_read(*next);
    all
}

#[test]
fn a_reader_that_keeps_up_sees_every_round() {
    let (_file, reads, writes) = ring(100);
    assert_eq!(writes.capacity(), 64);
    let mut next = 0;
    for number in 0..1000_u64 {
        let name = [(Field::Export, &b"x"[..])];
        writes.note(
            Record { a: number, ..record(Kind::Signal, 0, 0) },
            if number % 3 == 0 { &name } else { &[] },
        );
        let events = read(&reads, &mut next);
        assert_eq!(events.iter().map(|event| event.a).collect::<Vec<_>>(), [number]);
    }
    let reader = Reader::of(&reads);
    assert_eq!((reader.left_out(), reader.stopped(), reader.lost(), next), (None, None, 0, 1334));
}

#[test]
fn where_the_reader_is_left_behind_whole_data_calls_are_left_out_and_nothing_else() {
    let (_file, reads, writes) = ring(64);
    for _ in 0..30 {
        call(&writes, DATA, || {
            writes.note(record(Kind::Probe, 0, Probe::Lent as u8), &[]);
            call(&writes, DATA, || ());
        });
    }
    call(&writes, OPEN, || call(&writes, DATA, || ()));
    let mut next = 0;
    let events = read(&reads, &mut next);
    let opens: Vec<&Event> = events.iter().filter(|event| event.number == OPEN).collect();
    assert_eq!(opens.len(), 2, "what opens is there in any case");
    let rest: Vec<Kind> = events.iter().map(|event| event.kind).collect();
    let whole = [Kind::Enter, Kind::Probe, Kind::Enter, Kind::Exit, Kind::Exit];
    let (data, open) = rest.split_at(rest.len() - 4);
    assert!(data.chunks(5).all(|chunk| chunk == whole), "{data:?}");
    assert_eq!(open, [Kind::Enter, Kind::Enter, Kind::Exit, Kind::Exit], "and so is what is inside it");
    let recorded = data.len() as u64 / 5;
    assert_eq!(Reader::of(&reads).left_out(), Some((2 * (30 - recorded), data.len() as u64)));
    // There is room again.
    call(&writes, DATA, || ());
    assert_eq!(read(&reads, &mut next).len(), 2);
    assert_eq!(Reader::of(&reads).stopped(), None);
}

#[test]
fn what_opens_inside_a_call_that_is_left_out_is_there() {
    let (_file, reads, writes) = ring(64);
    (0..40).for_each(|_| call(&writes, DATA, || ()));
    call(&writes, DATA, || call(&writes, OPEN, || call(&writes, DATA, || ())));
    let events = read(&reads, &mut 0);
    let last: Vec<u8> = events.iter().rev().take(4).map(|event| event.number).collect();
    assert_eq!(last, [OPEN, DATA, DATA, OPEN]);
}

#[test]
fn where_nobody_reads_nothing_is_recorded_in_the_end_and_what_was_is_whole() {
    let (_file, reads, writes) = ring(64);
    for number in 0..1000_u64 {
        let call = writes.enter(Record { a: number, ..record(Kind::Enter, 0, OPEN) }, &[]);
        writes.exit(call, Record { a: number, ..record(Kind::Exit, 0, OPEN) }, &[]);
    }
    let mut next = 0;
    let events = read(&reads, &mut next);
    assert!(events.iter().enumerate().all(|(index, event)| event.a == index as u64 / 2));
    assert_eq!(Reader::of(&reads).stopped(), Some(events.len() as u64));
    assert!(writes.is_full() && events.len() >= 56, "{}", events.len());
    assert_eq!(writes.enter(record(Kind::Enter, 0, OPEN), &[]), CallId::LOST);
    assert_eq!(read(&reads, &mut next), []);
}

#[test]
fn what_wraps_is_no_trace_to_be_judged_again() {
    use std::os::unix::fs::FileExt;
    let (file, _reads, _writes) = ring(64);
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(Reader::new(&bytes).map(|_| ()), Err(ReadError::Wraps));
}

/// What threads record while another one reads, which is slower than they are.
#[test]
fn every_call_that_is_there_is_there_with_all_of_its_inside() {
    const THREADS: u64 = 4;
    let (_file, reads, writes) = ring(1 << 10);
    let (done, mut events, mut next) = (AtomicBool::new(false), Vec::new(), 0);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let writes = &writes;
                scope.spawn(move || {
                    for number in 0..20_000_u64 {
                        let data = Record { a: number, b: thread, ..record(Kind::Enter, 1, DATA) };
                        let outer = writes.enter(data, &[]);
                        let inner = writes.enter(Record { layer: 0, ..data }, &[]);
                        writes.exit(inner, Record { kind: Kind::Exit as u8, layer: 0, ..data }, &[]);
                        writes.exit(outer, Record { kind: Kind::Exit as u8, ..data }, &[]);
                    }
                })
            })
            .collect();
        let done = &done;
        scope.spawn(move || {
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            done.store(true, Relaxed);
        });
        while !done.load(Relaxed) {
            events.extend(read(&reads, &mut next));
        }
        events.extend(read(&reads, &mut next));
    });
    let left_out = Reader::of(&reads).left_out().map_or(0, |(calls, _)| calls);
    assert_eq!(Reader::of(&reads).stopped(), None);
    assert_eq!(events.len() as u64 / 2 + left_out, THREADS * 20_000 * 2);
    for thread in 0..THREADS {
        let own: Vec<&Event> = events.iter().filter(|event| event.b == thread).collect();
        for chunk in own.chunks(4) {
            let [outer, inner, inner_exit, outer_exit] = chunk else { panic!("{chunk:?}") };
            assert!(chunk.iter().all(|event| event.a == outer.a));
            assert_eq!([outer.layer, inner.layer, inner_exit.layer, outer_exit.layer], [1, 0, 0, 1]);
            assert_eq!((inner_exit.call, outer_exit.call), (inner.position, outer.position));
        }
    }
}

proptest! {
    /// A reader that reads when it likes misses nothing but what is counted.
    #[test]
    fn whatever_the_reader_does_nothing_is_missing_in_silence(
        steps in prop::collection::vec((any::<bool>(), 0..6u8, 0..3usize), 0..200),
    ) {
        let (_file, reads, writes) = ring(32);
        let (mut next, mut seen, mut begun) = (0, Vec::new(), 0);
        for (data, calls, reading) in steps {
            for _ in 0..calls {
                begun += 1;
                call(&writes, if data { DATA } else { OPEN }, || ());
            }
            if reading == 0 {
                seen.extend(read(&reads, &mut next));
            }
        }
        seen.extend(read(&reads, &mut next));
        let reader = Reader::of(&reads);
        let entered = seen.iter().filter(|event| event.kind == Kind::Enter).count() as u64;
        let left_out = reader.left_out().map_or(0, |(calls, _)| calls);
        // The exit of a call may be what did not fit.
        let cut = u64::from(reader.stopped().is_some());
        prop_assert!((begun..=begun + cut).contains(&(entered + left_out)), "{begun} {entered} {left_out} {cut}");
    }
}
