//! What one recorded event costs, clock included: the time of an iteration is the time of an event.
//!
//! Budgets: `same_mapping` 35 ns, `recycled_in_a_new_mapping` 65 ns, `first_touch` 90 ns (medians), on a machine
//! that reads `clock` in 25 ns. Compare with `clock`, of the same run: what a machine is slow at, it is slow at there.

#![allow(clippy::expect_used, reason = "a benchmark that cannot make its trace fails")]

use std::hint::black_box;
use std::path::PathBuf;

use divan::Bencher;
use layers_trace::record::Record;
use layers_trace::writer::{monotonic, record};
use layers_trace::{Callback, Kind, Writer};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{MemfdFlags, memfd_create};

fn main() {
    divan::main();
}

/// Events of one benchmark. A page holds 64 of them, so that page faults count in their true share.
const SAMPLES: u32 = 16;
const EVENTS_A_SAMPLE: u32 = 1280;
/// Room for more events than that, so that the command line may ask for them.
const CAPACITY: u64 = 1 << 22;

/// A trace as the harness makes it and a server then finds it.
struct Trace {
    memory: OwnedFd,
    harness: Writer,
}

impl Trace {
    fn new() -> Trace {
        let memory = memfd_create("trace", MemfdFlags::CLOEXEC).expect("memfd_create");
        let file = memory.try_clone().expect("dup").into();
        let harness = Writer::create(&file, CAPACITY, 1).expect("a new trace");
        Trace { memory, harness }
    }

    fn attach(&self) -> Writer {
        let path = PathBuf::from(format!("/proc/self/fd/{}", self.memory.as_raw_fd()));
        Writer::attach(&path).expect("the trace just made")
    }

    /// Touches as much of it as the benchmark will, and makes it new.
    fn use_once(&self, writer: &Writer) {
        for _ in 0..SAMPLES * EVENTS_A_SAMPLE {
            event(writer);
        }
        self.harness.reset(2);
    }
}

/// As a trampoline records the enter of a `pread`.
fn event(writer: &Writer) {
    let enter = Record {
        handle: black_box(7),
        context: black_box(0x1000),
        a: black_box(4096),
        b: black_box(0x2000),
        c: black_box(512),
        ..record(Kind::Enter, 1, Callback::Pread as u8)
    };
    black_box(writer.enter(enter, &[]));
}

#[divan::bench(sample_count = SAMPLES, sample_size = EVENTS_A_SAMPLE)]
fn same_mapping(bencher: Bencher<'_, '_>) {
    let trace = Trace::new();
    trace.use_once(&trace.harness);
    bencher.bench_local(|| event(&trace.harness));
    assert_eq!(trace.harness.cursor(), u64::from(SAMPLES * EVENTS_A_SAMPLE), "all of it was warm");
}

#[divan::bench(sample_count = SAMPLES, sample_size = EVENTS_A_SAMPLE)]
fn recycled_in_a_new_mapping(bencher: Bencher<'_, '_>) {
    let trace = Trace::new();
    trace.use_once(&trace.harness);
    let server = trace.attach();
    bencher.bench_local(|| event(&server));
    assert_eq!(trace.harness.cursor(), u64::from(SAMPLES * EVENTS_A_SAMPLE), "all of it was recycled");
}

#[divan::bench(sample_count = SAMPLES, sample_size = EVENTS_A_SAMPLE)]
fn first_touch(bencher: Bencher<'_, '_>) {
    let server = Trace::new().attach();
    bencher.bench_local(|| event(&server));
}

/// One clock_gettime, which is what a program would spend that only looks at the clock.
#[divan::bench]
fn clock() -> u64 {
    monotonic()
}

/// The digest of a buffer, bytes a second: of a request's usual size, and of one that no cache holds.
#[divan::bench(args = [4096, 65536, 64 << 20])]
fn digest(bencher: Bencher<'_, '_>, length: usize) {
    let bytes: Vec<u8> = (0..length).map(|at| at as u8 | 1).collect();
    let count = divan::counter::BytesCount::new(length);
    bencher.counter(count).bench_local(|| layers_trace::digest::digest(black_box(&bytes)));
}

/// The same, where all bytes are zero.
#[divan::bench(args = [4096, 65536, 64 << 20])]
fn digest_of_zeroes(bencher: Bencher<'_, '_>, length: usize) {
    let bytes = vec![0; length];
    let count = divan::counter::BytesCount::new(length);
    bencher.counter(count).bench_local(|| layers_trace::digest::digest(black_box(&bytes)));
}
