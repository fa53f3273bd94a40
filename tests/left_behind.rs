//! Nothing is left alive or on disk, however a run ends.
//!
//! Each test gives the command a temporary directory of its own and looks into it afterwards; processes are told by the
//! directory in their arguments.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use layers::deadline::Deadline;
use layers::server::process::hear_of_children;

fn layers(directory: &tempfile::TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("layers"));
    command.args(arguments).env("TMPDIR", directory.path());
    calm(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Has it begin as in a terminal, whatever these tests have inherited: of `nohup` and `&` come signals that are ignored.
fn calm(command: &mut Command) {
    hear_of_children();
    let calm = || {
        (1..32).for_each(|signal| {
            // SAFETY: between fork and exec; the call is async-signal-safe.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        });
        let mut none = std::mem::MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set before it is read, and both calls are async-signal-safe.
        unsafe {
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
        }
        Ok(())
    };
    // SAFETY: the closure makes async-signal-safe calls only.
    unsafe { command.pre_exec(calm) };
}

/// Command lines of all processes that name this directory.
fn alive(directory: &tempfile::TempDir) -> Vec<String> {
    let mark = directory.path().display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(&mark)).collect()
}

/// A killed process is gone a moment after the kill.
#[track_caller]
fn assert_nothing_left(directory: &tempfile::TempDir) {
    let deadline = Deadline::after(Duration::from_secs(10));
    while !alive(directory).is_empty() && !deadline.passed() {
        std::thread::yield_now();
    }
    assert_eq!(alive(directory), Vec::<String>::new());
    let files: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().flatten().map(|entry| entry.path()).collect();
    assert_eq!(files, Vec::<std::path::PathBuf>::new());
}

fn after(arguments: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    layers(&directory, arguments).status().unwrap();
    assert_nothing_left(&directory);
}

#[test]
fn nothing_is_left_after_a_full_run() {
    after(&["conform", "nbdkit"]);
}

/// `layers ... | true`: it ends as every program does that writes where nobody reads, without a word.
#[test]
fn nothing_is_left_when_nobody_reads_the_output() {
    for arguments in [&["rules"][..], &["validate", "--only", "read.repeats", "memory", "1M"]] {
        let directory = tempfile::tempdir().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = layers(&directory, arguments);
        let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.signal(), &*stderr), (Some(libc::SIGPIPE), ""), "{arguments:?}");
        assert_nothing_left(&directory);
    }
}

#[test]
fn nothing_is_left_after_a_run_with_nothing_to_judge_or_a_wrong_server() {
    after(&["conform", "nbdkit", "--only", "lifecycle.*", "--only", "inform/help"]);
    after(&["conform", "nbdkit", "--server", "/etc/passwd"]);
    after(&["conform", "nbdkit", "--server", "/bin/cat"]);
    after(&["rules", "no.such.rule"]);
}

#[test]
fn nothing_is_left_of_a_server_that_hangs() {
    // The client never ends by itself, and the whole run may take a second.
    after(&["trace", "--timeout", "1", "memory", "1M", "--", "sh", "-c", "read forever < /dev/zero"]);
}

#[test]
fn nothing_is_left_when_the_command_is_interrupted() {
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("driving");
        let client = format!("touch {}; read forever < /dev/zero", mark.display());
        let mut command =
            layers(&directory, &["trace", "memory", "1M", "--", "sh", "-c", &client]).spawn().unwrap();
        let deadline = Deadline::after(Duration::from_secs(30));
        while !mark.exists() {
            assert!(!deadline.passed(), "the client was not started");
            std::thread::yield_now();
        }
        rustix::process::kill_process(rustix::process::Pid::from_child(&command), signal).unwrap();
        let status = command.wait().unwrap();
        assert_eq!(status.signal(), Some(signal.as_raw()));
        std::fs::remove_file(mark).unwrap();
        assert_nothing_left(&directory);
    }
}

/// However many servers are starting, serving and ending at that moment.
#[test]
fn nothing_is_left_when_a_run_of_many_scenarios_is_interrupted() {
    for servers in 0..12_u32 {
        let directory = tempfile::tempdir().unwrap();
        let mut command = layers(&directory, &["conform", "nbdkit", "--jobs", "4"]).spawn().unwrap();
        let (deadline, mut seen) =
            (Deadline::after(Duration::from_secs(30)), std::collections::BTreeSet::new());
        while seen.len() <= 3 * servers as usize {
            assert!(!deadline.passed(), "no servers are started");
            seen.extend(std::fs::read_dir(directory.path()).unwrap().flatten().map(|entry| entry.path()));
        }
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&command),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        command.wait().unwrap();
        assert_nothing_left(&directory);
    }
}

/// Records claimed so far, out of the header of the trace that this harness has in memory.
fn claimed(harness: u32) -> u64 {
    let descriptors = std::fs::read_dir(format!("/proc/{harness}/fd")).unwrap().flatten();
    let is_trace = |path: &std::path::PathBuf| {
        std::fs::read_link(path).is_ok_and(|target| target.display().to_string().contains("memfd:trace"))
    };
    let trace = descriptors.map(|entry| entry.path()).find(is_trace);
    let mut cursor = [0; 8];
    let read = trace.and_then(|path| std::fs::File::open(path).ok()?.read_exact_at(&mut cursor, 128).ok());
    read.map_or(0, |()| u64::from_le_bytes(cursor))
}

/// Process ids of servers that listen in this directory.
fn servers(directory: &tempfile::TempDir) -> Vec<i32> {
    let mark = format!("-U\0{}", directory.path().display());
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let serves = |process: &std::fs::DirEntry| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&mark)
    };
    processes.filter(serves).filter_map(|process| process.file_name().to_str()?.parse().ok()).collect()
}

#[test]
fn a_server_killed_under_load_leaves_a_whole_trace_and_nothing_else() {
    let (directory, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let trace = kept.path().join("killed.trace");
    let save = trace.display().to_string();
    let load = ["--", "qemu-img", "bench", "-f", "raw", "-c", "1000000", "-d", "16", "-s", "512", "{uri}"];
    let arguments =
        [&["trace", "--save", &save, "--filter=delay", "memory", "1M", "delay-read=5ms"][..], &load].concat();
    let mut command = layers(&directory, &arguments).spawn().unwrap();
    let deadline = Deadline::after(Duration::from_secs(60));
    while claimed(command.id()) < 2_000 {
        assert!(!deadline.passed(), "the load does not arrive");
        std::thread::yield_now();
    }
    for server in servers(&directory) {
        let server = rustix::process::Pid::from_raw(server).unwrap();
        rustix::process::kill_process(server, rustix::process::Signal::KILL).unwrap();
    }
    assert_eq!(command.wait().unwrap().code(), Some(7), "a server was lost");
    assert_nothing_left(&directory);

    let check =
        Command::new(assert_cmd::cargo::cargo_bin("layers")).arg("check").arg(&trace).output().unwrap();
    let said = String::from_utf8(check.stdout).unwrap();
    assert_eq!(check.status.code(), Some(7), "{said}");
    assert!(said.contains("in flight at the end:") && said.contains("enter L1.pread"), "{said}");
    assert!(!said.contains("FAIL") && !said.contains("cannot be read"), "{said}");
}
