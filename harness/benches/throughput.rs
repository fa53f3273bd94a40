//! What tracing costs a busy server: requests a second through four traced layers (eight events a request) against
//! three filters that do nothing and no trace. The client is `qemu-img bench` with 16 requests in flight.

#![allow(clippy::expect_used, reason = "a benchmark without a server or a client fails")]

mod side_by_side;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use layers::deadline::Deadline;
use layers::run::{Run, Start};
use layers::server::nbdkit::{Conditions, Nbdkit, Serve};
use layers::server::process::Woken;
use layers::stack::Stack;
use side_by_side::{SideBySide, verdict};

const ROUNDS: usize = 20;
const REQUESTS: u32 = 60_000;
const IN_FLIGHT: u32 = 16;
/// Bytes of a request.
const SIZE: u32 = 4096;
/// Events of all requests, and room for those of start and end.
const CAPACITY: u64 = REQUESTS as u64 * 8 + 4096;

fn main() {
    let server = Nbdkit::find(None).expect("nbdkit is installed");
    println!(
        "nbdkit {}, {ROUNDS} rounds in turns of {REQUESTS} reads of {SIZE} bytes, {IN_FLIGHT} in flight",
        server.version
    );
    for plugin in ["memory", "null"] {
        let rounds = SideBySide::measure(ROUNDS, || traced(&server, false), || untraced(&server, plugin));
        let rate = |time: Duration| f64::from(REQUESTS) / time.as_secs_f64();
        println!("  three reference filters and plugin, traced  {:>8.0} requests/s", rate(rounds.one()));
        println!(
            "  three times nofilter over {plugin:<8} untraced  {:>8.0} requests/s",
            rate(rounds.other())
        );
        let ratio = 1.0 / rounds.ratio();
        let what = format!("traced against untraced, over {plugin} (median of the rounds' ratios)");
        verdict(&what, format!("{ratio:.3}"), ">= 0.95", ratio >= 0.95);
    }
    let rounds = SideBySide::measure(ROUNDS, || traced(&server, true), || traced(&server, false));
    let ratio = 1.0 / rounds.ratio();
    println!("  traced with digests of every buffer, as `conform` does, against traced without: {ratio:.3}");
}

/// The reference layers under full trace, with or without digests of what they read.
fn traced(nbdkit: &Nbdkit, digests: bool) -> Duration {
    let deadline = Deadline::after(Duration::from_secs(60));
    let stack = Stack::reference(3);
    let described = nbdkit.describe("throughput", &stack, Start::Foreground, false);
    let run = Run { digests, ..described };
    let serve = Serve {
        stack: &stack,
        run,
        capacity: CAPACITY,
        keep: None,
        cpu: None,
        command: None,
        conditions: Conditions::default(),
    };
    let mut server = nbdkit.start(&serve).expect("nbdkit starts");
    assert_eq!(server.wait_ready(deadline), Woken::Happened);
    let taken = requests(server.socket().expect("it listens"));
    let trace = server.trace().expect("a trace");
    assert!(
        trace.cursor() > u64::from(REQUESTS) * 8 && trace.cursor() <= trace.capacity(),
        "all of it was recorded"
    );
    taken
}

/// The server by itself.
fn untraced(nbdkit: &Nbdkit, plugin: &str) -> Duration {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let (socket, pid) = (directory.path().join("socket"), directory.path().join("pid"));
    let filters = ["--filter=nofilter"; 3];
    let mut command = Command::new(&nbdkit.path);
    command.args(["-f", "--exit-with-parent", "-U"]).arg(&socket).arg("-P").arg(&pid);
    command.args(filters).args([plugin, "1M"]);
    let _server = Killed(command.stdin(Stdio::null()).spawn().expect("nbdkit starts"));
    while !pid.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    requests(&socket)
}

/// Time that the requests take, as the client says.
fn requests(socket: &Path) -> Duration {
    let mut client = Command::new("qemu-img");
    client.arg("bench").args(["-f", "raw", "-c", &REQUESTS.to_string(), "-d", &IN_FLIGHT.to_string()]);
    client.args(["-s", &SIZE.to_string()]).arg(format!("nbd+unix:///?socket={}", socket.display()));
    let output = client.output().expect("qemu-img is installed: `ci/setup test` does it");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let seconds = printed.split("Run completed in ").nth(1).and_then(|rest| rest.split(' ').next());
    let seconds = seconds.and_then(|seconds| seconds.parse().ok()).expect("qemu-img says how long it took");
    Duration::from_secs_f64(seconds)
}

/// Ended with the benchmark, however that ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
