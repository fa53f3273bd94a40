//! Judging a long trace by all rules: events a second of one core, and memory.
//!
//! The trace is a recorded run whose data phase is repeated. LAYERS_BENCH_EVENTS says how many events it has (20 million
//! unless told; each takes 64 bytes in the temporary directory while this runs).

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark without a server or a disk fails"
)]

mod side_by_side;

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use layers::rules;
use layers::scenario::{Player, named};
use layers::server::nbdkit::Nbdkit;
use layers_trace::reader::write_trace;
use layers_trace::record::Record;
use layers_trace::{Event, Kind, Operation, Reader};
use rustix::time::{ClockId, clock_gettime};
use side_by_side::verdict;

/// As `write_trace` sets it.
const EPOCH: u32 = 1;
const MIB: u64 = 1 << 20;

fn main() {
    let wanted =
        std::env::var("LAYERS_BENCH_EVENTS").map_or(20_000_000, |text| text.parse().expect("a number"));
    let server = Nbdkit::find(None).expect("nbdkit is installed");
    let player = Player { keep_events: true, ..Player::new(&server) };
    let recording = player.play(&named::find("classical").expect("a named scenario")).expect("nbdkit starts");

    let mut file = tempfile::tempfile().expect("a temporary file");
    write_long_trace(&mut file, recording.events, wanted);
    // SAFETY: nobody else has the file, so it neither changes nor shrinks.
    let bytes = unsafe { memmap2::MmapOptions::new().map_copy_read_only(&file) }.expect("a mapping");
    let reader = Reader::new(&bytes).expect("a trace");

    let (before, peak) = (status("RssAnon"), Peak::default());
    let (judgement, taken) = peak.while_doing(|| {
        let start = cpu_time();
        let judgement = rules::judge(&reader, rules::all());
        (judgement, cpu_time().saturating_sub(start))
    });
    assert_eq!(judgement.troubles, [], "the trace is whole");
    assert_eq!(judgement.findings().next(), None, "and good");

    let exercised = judgement.results.iter().filter(|result| result.exercised > 0).count();
    let rate = judgement.events as f64 / taken.as_secs_f64() / 1e6;
    let anonymous = peak.anonymous.load(Relaxed);
    println!(
        "{} events of {} layers, {} rules of which {exercised} are exercised, {taken:.2?} of one core",
        judgement.events,
        judgement.history.layers().len(),
        judgement.results.len()
    );
    verdict("judging by all rules", format!("{rate:.2} M events/s"), ">= 5 M/s", rate >= 5.0);
    let shown = format!("{:.1} MiB", anonymous as f64 / MIB as f64);
    verdict("peak of anonymous memory, whole process", shown, "<= 64 MiB", anonymous <= 64 * MIB);
    println!(
        "  of that before judging {:.1} MiB; peak of mapped file pages {:.1} MiB",
        before as f64 / MIB as f64,
        peak.file.load(Relaxed) as f64 / MIB as f64
    );
}

/// The run, with its data phase as often as it takes to have this many events.
fn write_long_trace(file: &mut File, events: Vec<Event>, wanted: u64) {
    let operation = |event: &Event| event.operation().filter(|_| event.kind == Kind::Request);
    let first = events.iter().position(|event| operation(event).is_some_and(Operation::is_data));
    let last = events.iter().position(|event| operation(event) == Some(Operation::Disconnect));
    let (first, last) = (first.expect("requests"), last.expect("a goodbye"));
    let (start, phase, end) = (&events[..first], &events[first..last], &events[last..]);
    let span = end[0].position - phase[0].position;
    let time = end[0].time - phase[0].time;
    let times = (wanted / phase.len() as u64).max(1);

    let mut to = BufWriter::with_capacity(1 << 20, file);
    to.write_all(&write_trace(start, 1)).expect("room on the disk");
    let mut copies = |events: &[Event], turn: u64| {
        for event in events {
            let mut moved = event.clone();
            moved.time += time * turn;
            if event.call >= phase[0].position {
                moved.call += span * turn as u32;
            }
            for record in moved.to_records(EPOCH) {
                to.write_all(&record).expect("room on the disk");
            }
        }
    };
    (0..times).for_each(|turn| copies(phase, turn));
    copies(end, times - 1);

    let file = to.into_inner().map_err(|error| error.into_error()).expect("room on the disk");
    let length = file.metadata().expect("its length").len();
    let records = (length - layers_trace::header::HEADER_SIZE as u64) / size_of::<Record>() as u64;
    for offset in [16, 128] {
        file.seek(SeekFrom::Start(offset)).expect("the header");
        file.write_all(&records.to_le_bytes()).expect("the header");
    }
}

/// Processor time of this thread.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("a time")
}

/// A line of /proc/self/status, in bytes.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line =
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("the kernel tells");
    line.trim().split(' ').next().and_then(|number| number.parse::<u64>().ok()).expect("a number") * 1024
}

/// The most memory of each kind that was seen.
#[derive(Default)]
struct Peak {
    anonymous: AtomicU64,
    file: AtomicU64,
}

impl Peak {
    fn look(&self) {
        self.anonymous.fetch_max(status("RssAnon"), Relaxed);
        self.file.fetch_max(status("RssFile"), Relaxed);
    }

    /// Looks every few milliseconds.
    fn while_doing<T>(&self, work: impl FnOnce() -> T) -> T {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    self.look();
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            let result = work();
            self.look();
            done.store(true, Relaxed);
            result
        })
    }
}
