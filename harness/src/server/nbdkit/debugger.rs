//! A server with gdb at it, from before its first instruction on.
//!
//! The server is a child of this process, as always, and gdb is attached to it: how it ends is seen as always. Until gdb is
//! there a shell waits in its place.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::super::process::Pause;
use super::path_search::find_program;
use crate::deadline::Deadline;

/// How gdb is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Debugger {
    /// It says where the server has crashed or hangs, in every thread, and goes.
    Backtrace,
    /// Somebody sits before it.
    Prompt,
}

/// How long gdb may take to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much longer a step may take: gdb reads symbols whenever something is loaded.
const MORE: Duration = Duration::from_secs(10);
/// Longer than anybody sits before it.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What the shell waits for, as the first of its arguments.
pub(super) const GATE: &str = r#"read x <"$1"; shift; exec "$@""#;

/// What gdb is told first: nothing of it asks, or fetches anything.
const BEGINNING: &[&str] = &["set pagination off", "set confirm off", "set debuginfod enabled off"];
/// What concerns the server alone, and the threads that come and go.
const QUIET: &[&str] = &[
    "set print thread-events off",
    "handle SIGTERM SIGPIPE SIGUSR1 SIGCHLD nostop noprint pass",
    "continue",
];

impl Debugger {
    /// Returns whether there is a gdb on the PATH.
    pub fn is_there() -> bool {
        find_program(Path::new("gdb")).is_ok()
    }

    /// What a step may take that may take so long without it.
    #[must_use]
    pub fn patience(self, timeout: Duration) -> Duration {
        match self {
            Debugger::Backtrace => timeout.saturating_add(MORE),
            Debugger::Prompt => DAY,
        }
    }

    /// Attaches it to the shell of this process id, and lets the shell become the server.
    pub(super) fn attach(self, pid: u32, gate: &mut File) -> io::Result<Attached> {
        let mut gdb = Command::new("gdb");
        gdb.args(["-q", "-nx", "-p", &pid.to_string()]);
        for command in BEGINNING {
            gdb.args(["-iex", command]);
        }
        for command in QUIET {
            gdb.args(["-ex", command]);
        }
        if self == Debugger::Backtrace {
            gdb.args(["-batch", "-ex", "thread apply all backtrace"]).stdin(Stdio::null());
        }
        let mut attached = Attached { gdb: gdb.spawn()?, server: pid, patience: self.patience(PATIENCE) };
        let mut pause = Pause::new(Deadline::after(PATIENCE));
        while !is_traced(pid) {
            if attached.gdb.try_wait()?.is_some() || !pause.take(&[]) {
                return Err(io::Error::other(
                    "gdb cannot be attached to the server (see /proc/sys/kernel/yama/ptrace_scope)",
                ));
            }
        }
        gate.write_all(b"\n")?;
        Ok(attached)
    }
}

/// A gdb that is at its server.
#[derive(Debug)]
pub(super) struct Attached {
    gdb: Child,
    server: u32,
    /// How long it may take to go when the server is dead.
    patience: Duration,
}

impl Attached {
    /// Has it say where a server is that hangs.
    pub(super) fn interrupt(&mut self) {
        let pid = i32::try_from(self.server).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| is_traced(self.server)) {
            let _ = kill_process(pid, Signal::INT);
            self.wait();
        }
    }

    fn wait(&mut self) {
        let mut pause = Pause::new(Deadline::after(self.patience));
        while matches!(self.gdb.try_wait(), Ok(None)) && pause.take(&[]) {}
    }
}

impl Drop for Attached {
    /// Its server is dead, and it is about to say so.
    fn drop(&mut self) {
        self.wait();
        let _ = self.gdb.kill();
        let _ = self.gdb.wait();
    }
}

fn is_traced(pid: u32) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
    let tracer = |line: &str| line.strip_prefix("TracerPid:").map(|pid| pid.trim() != "0");
    status.is_ok_and(|status| status.lines().find_map(tracer).unwrap_or(false))
}
