//! What `layers conform` says of a server that is broken, how long it takes for that, and how it ends before its time.
//!
//! The server is the installed nbdkit with a library preloaded that breaks it (fixtures/broken.c).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

fn layers(arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("layers"));
    command.args(["conform", "nbdkit"]).args(arguments).stdin(Stdio::null());
    command
}

/// An nbdkit that is broken in this way; its directory goes with it.
struct Broken(tempfile::TempDir);

impl Broken {
    fn new(how: &str) -> Broken {
        let directory = tempfile::tempdir().unwrap();
        let library = directory.path().join("broken.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fixtures/broken.c");
        let built =
            Command::new("cc").args(["-Wall", "-fPIC", "-shared", "-o"]).arg(&library).arg(source).status();
        assert!(built.unwrap().success());
        let script = format!("#!/bin/sh\nLD_PRELOAD={} BROKEN={how} exec nbdkit \"$@\"\n", library.display());
        let broken = Broken(directory);
        std::fs::write(broken.path(), script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(broken.path(), mode).unwrap();
        broken
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("nbdkit")
    }

    fn conform(&self, arguments: &[&str]) -> Output {
        layers(arguments).arg("--server").arg(self.path()).output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Scenarios in which clients come and go, read and write: each takes some milliseconds on a server that works.
const MANY: &[&str] = &["--jobs", "2", "--only", "answers/*", "--only", "depth/*", "--only", "overlap/*"];

/// Ten minutes and more, were each hang waited for in full. It takes a quarter of a minute where nothing else runs.
const SOON: Duration = Duration::from_secs(120);

/// Runs whose time is taken do not compete with each other.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[track_caller]
fn is_short(report: &str) {
    let quoted = |line: &str| line.trim_start().starts_with("reproduce: ") || line.contains(" | ");
    let counted: Vec<&str> = report.lines().filter(|line| !quoted(line)).collect();
    assert!(counted.len() <= 200, "{} lines", counted.len());
    for line in counted {
        assert!(line.chars().count() <= 200, "{line}");
    }
}

#[test]
fn a_server_without_closes_is_judged_soon_and_told_once() {
    let _alone = alone();
    let (server, began) = (Broken::new("close"), Instant::now());
    let output = server.conform(MANY);
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    is_short(&report);
    let findings: Vec<&str> = report.split("\nfindings:\n").nth(1).unwrap().lines().collect();
    // Four rules say so in every scenario, and one is the first: the others stand under it.
    let everywhere = |line: &&&str| line.starts_with("  FAIL ") && line.contains(" in 94 scenarios");
    assert_eq!(findings.iter().filter(everywhere).count(), 1, "{report}");
    assert!(findings.iter().any(|line| line.contains("close.exactly-once in 94")), "{report}");
    assert!(findings.iter().any(|line| line.trim_start().starts_with("hang in ")), "{report}");
    assert!(report.contains("not waited for, after the server had hung in the same way: "), "{report}");
}

#[test]
fn a_server_that_hangs_in_its_replies_is_judged_soon() {
    let _alone = alone();
    let (server, began) = (Broken::new("reply"), Instant::now());
    let output = server.conform(MANY);
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    is_short(&report);
    assert!(report.contains("the server hangs: the client waits in vain: "), "{report}");
    assert!(!report.contains("ERROR"), "{report}");
}

#[test]
fn our_own_filters_are_not_blamed_for_a_server_without_cleanup() {
    let output = Broken::new("cleanup").conform(&["--only", "contexts/*"]);
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(report.contains("FAIL   lifecycle.cleanup.once"), "{report}");
    assert!(!report.contains("ERROR") && !report.contains("that is the harness's own"), "{report}");
}

#[test]
fn the_command_that_reproduces_a_finding_does() {
    let server = Broken::new("close");
    let output =
        server.conform(&["--only", "classical", "--timeout", "2", "--level", "must", "--no-baseline"]);
    let report = text(&output.stdout);
    let line = report.lines().find_map(|line| line.trim().strip_prefix("reproduce: ")).unwrap();
    for option in ["--timeout 2", "--level must", "--no-baseline", "--only classical", "--server /"] {
        assert!(line.contains(option), "{line}");
    }
    let command = assert_cmd::cargo::cargo_bin("layers");
    let path = std::env::join_paths(
        std::iter::once(command.parent().unwrap().to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let again = Command::new("sh").args(["-c", line]).env("PATH", path.unwrap()).output().unwrap();
    assert_eq!(again.status.code(), Some(1), "{line}");
    assert!(text(&again.stdout).contains("FAIL   close.exactly-once in classical"), "{line}");
}

#[test]
fn a_run_ends_when_its_time_is_over() {
    let _alone = alone();
    let (server, began) = (Broken::new("close"), Instant::now());
    let output = server.conform(&["--time", "3", "--timeout", "1"]);
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "what was found counts: {report}");
    assert!(report.contains("not played: --time 3 was over"), "{report}");
    assert!(began.elapsed() < SOON / 2, "{:?}", began.elapsed());
    // Nothing was found, and not everything was played.
    let output = layers(&["--time", "1", "--level", "pedantic"]).output().unwrap();
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(7), "{report}");
    let last = report.lines().last().unwrap();
    assert!(last.starts_with("exit 7: inconclusive: "), "{last}");
    assert!(last.contains(" were not played: --time 1 was over"), "{last}");
}

#[test]
fn a_run_that_is_told_to_stop_tells_what_it_has_found() {
    let _alone = alone();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let server = Broken::new("close");
        let mut run = layers(&["--timeout", "1", "--jobs", "2"]);
        run.arg("--server").arg(server.path()).stdout(Stdio::piped());
        let mut run = run.spawn().unwrap();
        let mut output = BufReader::new(run.stdout.take().unwrap());
        let mut report = String::new();
        // Findings are told as they come.
        while !report.contains("  FAIL   close.exactly-once in ") {
            assert!(output.read_line(&mut report).unwrap() > 0, "{report}");
        }
        // timeout(1) sends it twice, and so do people.
        for _ in 0..3 {
            kill_process(Pid::from_child(&run), signal).unwrap();
        }
        output.read_to_string(&mut report).unwrap();
        assert_eq!(run.wait().unwrap().code(), Some(code), "{report}");
        let (_, findings) = report.split_once("\nfindings:\n").unwrap();
        assert!(findings.contains(" close.exactly-once in "), "{report}");
        assert!(report.contains(" were not played: "), "{report}");
        assert!(report.lines().last().unwrap().starts_with(&format!("exit {code}: ")), "{report}");
    }
}

#[test]
fn a_report_in_a_file_leaves_the_last_line_for_the_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.txt");
    let report = format!("human={}", file.display());
    let output = layers(&["--only", "classical", "--report", &report]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stdout);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("exit 0: "), "{said}");
    assert!(std::fs::read_to_string(&file).unwrap().ends_with(&said));
}
