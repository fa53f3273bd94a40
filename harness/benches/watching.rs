//! What `layers watch` costs: requests a second of a stack at eight events a request, and milliseconds a start, each in turns with
//! the same command unwatched; and the memory in which many events are judged while they are made.
//!
//! `LAYERS_EVENTS` says how many events: 10^7 unless it does.

#![allow(clippy::expect_used, reason = "a benchmark without a server or a client fails")]

mod side_by_side;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use side_by_side::{SideBySide, verdict};

const ROUNDS: usize = 20;
/// Bytes of a read, and how many reads are made. The smallest show what an event costs where client and server have nothing else to
/// do; the largest are those of a copy (nbdcopy(1) asks for 256 KiB at a time).
const READS: [(u64, u64); 3] = [(4 << 10, 60_000), (64 << 10, 40_000), (256 << 10, 15_000)];
const STARTS: u32 = 20;
/// Of a request: three filters that have a `.pread` and a plugin, each called and returning.
const EVENTS_A_REQUEST: u64 = 8;
/// MiB that a server may take, with what judges it.
const MEMORY: u64 = 64;

fn main() {
    println!("{ROUNDS} rounds in turns: reads, 16 in flight; {STARTS} starts");
    // First: what is kept of the requests is written to the disk for a while.
    let rounds = SideBySide::measure(ROUNDS, || starts(Some(&[])), || starts(None));
    let each = |all: Duration| all.as_secs_f64() * 1000.0 / f64::from(STARTS);
    let (watched, alone) = (each(rounds.one()), each(rounds.other()));
    println!("  a start: {watched:.2} ms watched, {alone:.2} ms unwatched");
    let more = watched - alone;
    verdict("milliseconds more for a start", format!("{more:.2}"), "<= 3", more <= 3.0);
    for reads in READS {
        let keeping = || {
            let kept = tempfile::tempdir().expect("a directory for traces");
            let dir = kept.path().join("traces").display().to_string();
            requests(Some(&["--dir", &dir]), reads)
        };
        let rounds = SideBySide::measure(ROUNDS, keeping, || requests(None, reads));
        throughput("judged afterwards (--dir)", reads, &rounds);
        let rounds = SideBySide::measure(ROUNDS, || requests(Some(&[]), reads), || requests(None, reads));
        throughput("judged meanwhile", reads, &rounds);
    }
    many_events();
}

fn throughput(what: &str, (size, number): (u64, u64), rounds: &SideBySide) {
    let rate = |time: Duration| number as f64 / time.as_secs_f64();
    let kib = size >> 10;
    println!("  {kib} KiB, {what}: {:.0} reads/s; unwatched {:.0}", rate(rounds.one()), rate(rounds.other()));
    let ratio = 1.0 / rounds.ratio();
    let what = format!("throughput, reads of {kib} KiB, {what}");
    verdict(&what, format!("{ratio:.3}"), ">= 0.95", ratio >= 0.95);
}

/// The command in a shell, watched with these options, or as it is.
fn command(options: Option<&[&str]>, script: &str) -> Command {
    let mut command = match options {
        Some(options) => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_layers"));
            command.args(["watch", "--exit-with-command", "--report", "human=/dev/null"]);
            command.args(options).args(["--", "sh", "-c"]);
            command
        }
        None => {
            let mut command = Command::new("sh");
            command.arg("-c");
            command
        }
    };
    command.arg(script).stdin(Stdio::null());
    command
}

fn printed(command: &mut Command) -> String {
    let output = command.output().expect("a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn script((size, number): (u64, u64)) -> String {
    let filters = "--filter=offset ".repeat(3);
    format!("nbdkit -U - {filters} memory 16M --run 'qemu-img bench -f raw -c {number} -d 16 -s {size} $uri'")
}

/// Time that the requests take, as the client says.
fn requests(options: Option<&[&str]>, reads: (u64, u64)) -> Duration {
    let printed = printed(&mut command(options, &script(reads)));
    let seconds = printed.split("Run completed in ").nth(1).and_then(|rest| rest.split(' ').next());
    let seconds = seconds.and_then(|seconds| seconds.parse().ok()).expect("qemu-img says how long it took");
    Duration::from_secs_f64(seconds)
}

/// Time that the starts take, as the script says.
fn starts(options: Option<&[&str]>) -> Duration {
    let script = format!(
        "s=$(date +%s%N); for i in $(seq {STARTS}); do nbdkit -U - null 1M --run true; done; \
         e=$(date +%s%N); echo $((e - s))"
    );
    let nanoseconds = printed(&mut command(options, &script)).trim().parse();
    Duration::from_nanos(nanoseconds.expect("date gives nanoseconds"))
}

/// As many as a service makes in a day, as fast as it goes.
fn many_events() {
    let events = std::env::var("LAYERS_EVENTS").ok().and_then(|events| events.parse().ok());
    let requests = events.unwrap_or(10_000_000) / EVENTS_A_REQUEST;
    let report = tempfile::NamedTempFile::new().expect("a file for the report");
    let to = format!("ndjson={}", report.path().display());
    let mut watched = command(Some(&["--report", &to]), &script((4 << 10, requests)));
    let mut child = watched.stdout(Stdio::null()).spawn().expect("a shell");
    let status = Path::new("/proc").join(child.id().to_string()).join("status");
    let (mut peak, mut anonymous) = (0, 0);
    while child.try_wait().expect("it is a child").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let kib = |field: &str| -> u64 {
            let rest = text.split(field).nth(1).unwrap_or_default();
            rest.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        (peak, anonymous) = (peak.max(kib("VmHWM:")), anonymous.max(kib("RssAnon:")));
        std::thread::sleep(Duration::from_millis(20));
    }
    let said = std::fs::read_to_string(report.path()).expect("a report");
    let server = said.lines().find(|line| line.starts_with("{\"type\":\"server\"")).unwrap_or_default();
    let told = |key: &str| server.split(&format!("\"{key}\":")).nth(1).unwrap_or_default().to_owned();
    let recorded = told("events");
    let recorded = recorded.split(',').next().unwrap_or_default();
    let whole = told("unclear").starts_with("null");
    println!(
        "  {recorded} events judged, {}; {} MiB of its own, {} MiB with its program and the trace",
        if whole { "none left out" } else { "some left out" },
        anonymous >> 10,
        peak >> 10
    );
    let reached = whole && peak >> 10 <= MEMORY;
    verdict("MiB at most, for many events", (peak >> 10).to_string(), "<= 64", reached);
}
