//! Many threads, processes, images and runs write to one trace.

mod support;

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::Ordering::Relaxed;

use layers_trace::record::Record;
use layers_trace::writer::{Pool, record};
use layers_trace::{CallId, Callback, Event, Field, Kind, Reader, Writer};
use support::{events, path, trace};

const THREADS: u64 = 4;
const CALLS: u64 = 2_000;

/// Nested calls of one thread, each marked with the thread's and its own number.
fn record_calls(writer: &Writer, thread: u64) {
    for number in 0..CALLS {
        let enter = Record { a: number, b: thread, ..record(Kind::Enter, 1, Callback::Pread as u8) };
        let key = thread.to_le_bytes();
        let texts = [(Field::Key, &key[..])];
        let outer = writer.enter(enter, if number % 7 == 0 { &texts } else { &[] });
        let inner = writer.enter(Record { layer: 0, ..enter }, &[]);
        writer.exit(inner, Record { kind: Kind::Exit as u8, layer: 0, ..enter }, &[]);
        writer.exit(outer, Record { kind: Kind::Exit as u8, ..enter }, &[]);
    }
}

/// Every call of the thread is there, in its order, with its exit where it belongs.
fn check_calls(thread: u64, events: &[&Event]) {
    assert_eq!(events.len() as u64, 4 * CALLS);
    for (number, call) in events.as_chunks::<4>().0.iter().enumerate() {
        let [outer, inner, inner_exit, outer_exit] = call;
        assert!(call.iter().all(|event| event.a == number as u64 && event.tid == outer.tid));
        assert_eq!(call.iter().map(|event| event.layer).collect::<Vec<_>>(), [1, 0, 0, 1]);
        assert_eq!((inner_exit.call, outer_exit.call), (inner.position, outer.position));
        assert_eq!(inner_exit.kind, Kind::Exit);
        assert!(call.is_sorted_by_key(|event| event.time));
        let key = outer.text(Field::Key).map(|text| text.bytes.clone());
        assert_eq!(key, (number % 7 == 0).then(|| thread.to_le_bytes().to_vec()));
    }
}

#[test]
fn concurrent_writers_lose_nothing_and_keep_the_order_of_each_thread() {
    let (file, writer) = trace(THREADS * CALLS * 5);
    let other = Writer::attach(&path(&file)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let writer = if thread % 2 == 0 { &writer } else { &other };
            scope.spawn(move || record_calls(writer, thread));
        }
        // Meanwhile a reader sees whole events.
        while Reader::of(&writer).records() < THREADS * CALLS {
            for event in Reader::of(&writer).events() {
                event.unwrap();
            }
        }
    });
    let all = events(&writer);
    let mut threads: HashMap<u64, Vec<&Event>> = HashMap::new();
    for event in &all {
        threads.entry(event.b).or_default().push(event);
    }
    assert_eq!(threads.len() as u64, THREADS);
    for (thread, events) in threads {
        check_calls(thread, &events);
    }
    assert_eq!(Reader::of(&writer).lost(), 0);
}

#[test]
fn handles_and_filters_are_numbered_across_all_writers() {
    let (file, writer) = trace(1);
    let server = Writer::attach(&path(&file)).unwrap();
    assert_eq!([writer.mint_handle(), server.mint_handle(), writer.mint_handle()], [1, 2, 3]);
    assert_eq!([server.next_filter(), writer.next_filter()], [1, 2]);
}

#[test]
fn a_forked_child_records_under_its_own_ids() {
    let (_file, writer) = trace(10);
    let enter = record(Kind::Enter, 0, Callback::AfterFork as u8);
    let call = writer.enter(enter, &[]);
    // SAFETY: the child only records, which neither allocates nor locks, and leaves without running destructors.
    let child = unsafe { libc::fork() };
    if child == 0 {
        writer.exit(call, Record { kind: Kind::Exit as u8, ..enter }, &[]);
        // SAFETY: as above.
        unsafe { libc::_exit(0) };
    }
    let mut status = 1;
    // SAFETY: `status` is valid to write to.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    writer.note(record(Kind::Signal, 0, 0), &[]);
    assert_eq!(status, 0);
    let all = events(&writer);
    let ids: Vec<(u32, u32)> = all.iter().map(|event| (event.pid, event.tid)).collect();
    let child = child.cast_unsigned();
    assert_eq!(ids[0].0, std::process::id());
    assert_eq!(ids[1], (child, child));
    assert_eq!(ids[2], ids[0]);
    assert_eq!(all[1].call, all[0].position);
}

#[test]
fn two_writers_of_one_process_share_one_mapping() {
    let (file, writer) = trace(10);
    let first = Writer::attach(&path(&file)).unwrap();
    let base = writer.header().image_base.load(Relaxed);
    let second = Writer::attach(&path(&file)).unwrap();
    assert_eq!(writer.header().image_base.load(Relaxed), base);
    assert!(std::ptr::eq(first.header(), second.header()));
    assert_eq!(std::ptr::from_ref(first.header()).addr() as u64, base);
    drop(first);
    second.note(record(Kind::Run, 0, 0), &[]);
    assert_eq!(events(&writer).len(), 1);
}

#[test]
fn a_trace_used_again_hides_what_was_there_before() {
    let (file, writer) = trace(10);
    let earlier = Writer::attach(&path(&file)).unwrap();
    let old = [(Field::Message, &b"old"[..])];
    writer.note(record(Kind::Run, 0, 0), &old);
    writer.note(record(Kind::Run, 0, 0), &old);
    writer.mint_handle();
    writer.reset(2);
    assert_eq!((Reader::of(&writer).records(), Reader::of(&writer).run_id()), (0, 2));
    assert_eq!(writer.mint_handle(), 1);

    // One that still believes in the earlier run is not heard.
    earlier.note(record(Kind::Run, 0, 0), &[]);
    let later = Writer::attach(&path(&file)).unwrap();
    later.note(Record { a: 5, ..record(Kind::Signal, 0, 0) }, &[]);
    let mut read = Reader::of(&writer).events();
    assert_eq!(read.next().map(|event| event.unwrap().a), Some(5));
    assert_eq!((read.next(), read.unpublished()), (None, 1));
}

#[test]
fn a_trace_made_in_a_used_file_begins_empty() {
    let (file, writer) = trace(10);
    writer.note(record(Kind::Run, 0, 0), &[]);
    drop(writer);
    let again = Writer::create(&file, 5, 3).unwrap();
    assert_eq!((again.cursor(), again.capacity(), Reader::of(&again).run_id()), (0, 5, 3));
}

#[test]
fn a_pool_gives_back_what_is_large_enough_as_new() {
    let pool = Pool::new();
    let (file, writer) = pool.take(10, 1, || Ok(trace(10))).unwrap();
    writer.note(record(Kind::Run, 0, 0), &[]);
    pool.give(file, writer);
    let (_, larger) = pool.take(11, 2, || Ok(trace(20))).unwrap();
    assert_eq!(larger.capacity(), 20, "the small one is left where it is");
    let (_, used) = pool.take(10, 3, || panic!("there is one")).unwrap();
    assert_eq!((used.capacity(), used.cursor(), Reader::of(&used).run_id()), (10, 0, 3));
    pool.take(1, 4, || Err(std::io::Error::other("none"))).expect_err("the pool is empty");
}

#[test]
fn what_is_no_trace_is_not_attached_to() {
    use std::io::Write;
    let (mut file, writer) = trace(10);
    drop(writer);
    let attach = |file: &File| Writer::attach(&path(file)).unwrap_err().to_string();
    file.set_len(4096 + 9 * 64).unwrap();
    assert_eq!(attach(&file), "the trace is shorter than its capacity says");
    file.write_all(b"something else").unwrap();
    assert_eq!(attach(&file), "not a trace of this version");
    file.set_len(4095).unwrap();
    assert_eq!(attach(&file), "the trace is shorter than its header");
}

#[test]
fn a_file_and_the_memory_it_was_copied_from_read_alike() {
    use std::os::unix::fs::FileExt;
    let (file, writer) = trace(10);
    let call = writer.enter(record(Kind::Enter, 2, Callback::Config as u8), &[(Field::Key, b"size")]);
    writer.exit(call, record(Kind::Exit, 2, Callback::Config as u8), &[]);
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let read: Vec<Event> = Reader::new(&bytes).unwrap().events().map(Result::unwrap).collect();
    assert_eq!(read, events(&writer));
    assert_eq!(CallId(read[1].call), call);
    let reader = Reader::new(&bytes).unwrap();
    assert_eq!(reader.wall_clock(read[0].time), Reader::of(&writer).wall_clock(read[0].time));
}
