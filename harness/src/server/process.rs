//! One child process in a process group of its own.
//!
//! It is watched through a pidfd, reaped by its pid alone, and killed with its whole group when the [`Process`] is
//! dropped, whichever way that comes about.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd, retry_on_intr};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, pidfd_open, waitid,
};

use super::descent;
use crate::deadline::{Deadline, timespec};
use crate::foreign::visible::visible;
use crate::history::End;

/// Descriptors that a server inherits get numbers from here on: below lie its own, those of systemd (3 …), and
/// whatever a shell redirects.
const FIRST_PASSED: RawFd = 200;

/// Where a server looks for sockets that listen already (systemd's SD_LISTEN_FDS_START).
const FIRST_LISTENER: RawFd = 3;

/// Shortest and longest pause between two looks at something that changes without waking anybody.
const SHORTEST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(4);

/// How often what a run has left is looked at while its client works.
const LONGEST_LOOK: Duration = Duration::from_millis(20);

/// Pauses that begin at 100 µs and grow to 4 ms; what is watched ends one at once.
#[derive(Debug)]
pub(super) struct Pause {
    deadline: Deadline,
    next: Duration,
}

impl Pause {
    pub(super) fn new(deadline: Deadline) -> Pause {
        Pause { deadline, next: SHORTEST_PAUSE }
    }

    /// The next one; false, at once, when the deadline has passed.
    pub(super) fn take(&mut self, watched: &[PollFd<'_>]) -> bool {
        let left = self.deadline.left();
        if left.is_zero() {
            return false;
        }
        descent::reap_many();
        // An early return only means an early look.
        let _ = poll(&mut watched.to_vec(), Some(&timespec(self.next.min(left))));
        // What was waited for is seen late by an eighth of the wait, at most.
        self.next = (self.next + self.next / 8).min(LONGEST_PAUSE);
        true
    }
}

/// The same file under a descriptor number that no server uses for anything.
pub fn above_standard(file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    match fcntl_dupfd_cloexec(file, FIRST_PASSED) {
        // There is no such number where a process may have fewer files open.
        Err(Errno::INVAL) => Err(Errno::MFILE.into()),
        other => Ok(other?),
    }
}

/// What to run.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Program.
    pub program: &'a Path,
    /// Arguments.
    pub arguments: Vec<OsString>,
    /// Added to the environment.
    pub environment: Vec<(String, OsString)>,
    /// Descriptors that the child keeps, under their own numbers.
    pub pass: Vec<BorrowedFd<'a>>,
    /// Standard input and output, both; else the null device and a captured file.
    pub socket: Option<OwnedFd>,
    /// A listening socket, which the child gets as its descriptor 3: the first one that systemd would pass on.
    pub listener: Option<OwnedFd>,
    /// Run on this one CPU only.
    pub cpu: Option<usize>,
    /// The run that it belongs to, and whatever it starts.
    pub run_id: Option<u64>,
    /// A debugger may be attached to it that is no ancestor of it.
    pub may_be_traced: bool,
}

impl<'a> Launch<'a> {
    /// This program, without arguments, as a part of this run.
    pub fn of(program: &'a Path, run_id: u64) -> Launch<'a> {
        Launch {
            program,
            arguments: Vec::new(),
            environment: vec![(layers_behaviour::RUN_VARIABLE.into(), format!("{run_id:x}").into())],
            pass: Vec::new(),
            socket: None,
            listener: None,
            cpu: None,
            run_id: Some(run_id),
            may_be_traced: false,
        }
    }
}

/// A running or finished child.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: OwnedFd,
    end: Option<End>,
    stdout: File,
    stderr: File,
    /// A process of another parent that belongs to the same case: a daemon, once it is known.
    daemon: Option<Daemon>,
    /// The first process, of which `daemon` is a descendant, has been reaped.
    first_reaped: bool,
}

#[derive(Debug)]
struct Daemon {
    pid: Pid,
    pidfd: OwnedFd,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// What was waited for is there.
    Happened,
    /// The process is dead.
    Dead,
    /// The deadline passed.
    Late,
}

impl Process {
    /// Starts it.
    pub fn start(launch: Launch<'_>) -> io::Result<Process> {
        let (stdout, stderr) = (capture("stdout")?, capture("stderr")?);
        let mut command = Command::new(launch.program);
        command.args(&launch.arguments).envs(launch.environment);
        in_own_group(&mut command, launch.run_id);
        command.stderr(stderr.try_clone()?);
        match launch.socket {
            Some(socket) => command.stdin(socket.try_clone()?).stdout(socket),
            None => command.stdin(Stdio::null()).stdout(stdout.try_clone()?),
        };
        let pass: Vec<RawFd> = launch.pass.iter().map(AsRawFd::as_raw_fd).collect();
        let (cpu, may_be_traced) = (launch.cpu, launch.may_be_traced);
        let listener = launch.listener.as_ref().map(AsRawFd::as_raw_fd);
        // SAFETY: between fork and exec the closure makes system calls only; the descriptors are open, as `launch`
        // borrows or owns them until the child runs. What the child had as descriptor 3 was its own copy, and would
        // have been closed by exec.
        unsafe {
            command.pre_exec(move || {
                for fd in &pass {
                    fcntl_setfd(BorrowedFd::borrow_raw(*fd), FdFlags::empty())?;
                }
                match listener {
                    Some(FIRST_LISTENER) => {
                        fcntl_setfd(BorrowedFd::borrow_raw(FIRST_LISTENER), FdFlags::empty())?;
                    }
                    Some(listener) if libc::dup2(listener, FIRST_LISTENER) < 0 => {
                        return Err(io::Error::last_os_error());
                    }
                    _ => {}
                }
                if may_be_traced {
                    libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY, 0, 0, 0);
                }
                if let Some(cpu) = cpu {
                    let mut one = rustix::thread::CpuSet::new();
                    one.set(cpu);
                    rustix::thread::sched_setaffinity(None, &one)?;
                }
                Ok(())
            });
        }
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                let _ = kill_process_group(pid, Signal::KILL);
                let mut child = child;
                let _ = child.wait();
                return Err(error.into());
            }
        };
        Ok(Process { pid, pidfd, end: None, stdout, stderr, daemon: None, first_reaped: false })
    }

    /// Process id, which is also that of its group.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Its process group.
    pub fn group(&self) -> Pid {
        self.pid
    }

    /// From now on the process to watch, to signal and to reap is this descendant: the first one has forked it, and
    /// has gone or is not the server. Its exit status can be had only when this process is a subreaper.
    pub fn follow(&mut self, pid: u32) -> io::Result<()> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("not a process id"))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        self.daemon = Some(Daemon { pid, pidfd });
        self.first_reaped = self.end.take().is_some();
        Ok(())
    }

    fn watched(&self) -> (Pid, BorrowedFd<'_>) {
        match &self.daemon {
            Some(daemon) => (daemon.pid, daemon.pidfd.as_fd()),
            None => (self.pid, self.pidfd.as_fd()),
        }
    }

    /// Sends a signal to the process (not to its group).
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if self.end.is_some() {
            return Err(io::Error::other("the process has ended"));
        }
        Ok(kill_process(self.watched().0, signal)?)
    }

    /// Waits until `happened`, the process is dead, or the deadline has passed.
    pub fn wait_until(&mut self, deadline: Deadline, mut happened: impl FnMut() -> bool) -> Woken {
        let mut pause = Pause::new(deadline);
        loop {
            if happened() {
                return Woken::Happened;
            }
            if self.end.is_some() || self.try_reap() {
                // What it wrote last may have come after our last look.
                return if happened() { Woken::Happened } else { Woken::Dead };
            }
            if !pause.take(&[PollFd::from_borrowed_fd(self.watched().1, PollFlags::IN)]) {
                return Woken::Late;
            }
        }
    }

    /// Waits until the process is dead.
    pub fn wait_for_end(&mut self, deadline: Deadline) -> Option<End> {
        loop {
            if self.end.is_some() || self.try_reap() {
                return self.end;
            }
            let left = deadline.left();
            if left.is_zero() {
                return None;
            }
            let mut watched = [PollFd::from_borrowed_fd(self.watched().1, PollFlags::IN)];
            // An early return only means an early look.
            let _ = poll(&mut watched, Some(&timespec(left)));
        }
    }

    /// True when the process is dead; its status is kept where it can be had.
    fn try_reap(&mut self) -> bool {
        let (pid, pidfd) = self.watched();
        let is_daemon = self.daemon.is_some();
        let status = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        match status {
            Ok(Some(status)) => {
                self.end = Some(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => End::Exited(code),
                    (None, signal) => End::Killed(signal.unwrap_or(0)),
                });
                true
            }
            Ok(None) => false,
            // Not our child: somebody else reaps it, and only its death can be seen.
            Err(_) if is_daemon => {
                let mut watched = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
                poll(&mut watched, Some(&timespec(Duration::ZERO))).is_ok_and(|ready| ready > 0)
            }
            Err(_) => true,
        }
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// It has written as much to standard output or standard error as there is room for.
    pub fn floods(&self) -> bool {
        [&self.stdout, &self.stderr].into_iter().any(|file| written(file) >= MOST_OUTPUT)
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        contents(&self.stdout)
    }

    /// What it has written to standard error so far, made safe to show.
    pub fn stderr(&self) -> String {
        visible(&contents(&self.stderr)).into_owned()
    }

    /// Kills the whole group, and the daemon if there is one, and reaps what is ours.
    pub fn kill(&mut self) {
        let _ = kill_process_group(self.pid, Signal::KILL);
        if let Some(daemon) = &self.daemon {
            let _ = kill_process(daemon.pid, Signal::KILL);
            // The first process may have outlived its fork, and is a zombie by now.
            if !std::mem::replace(&mut self.first_reaped, true) {
                let _ = waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED);
            }
        }
        if self.end.is_none() {
            // SIGKILL cannot be held up; the wait is for the kernel alone.
            let killed = self.wait_for_end(Deadline::after(Duration::from_secs(10)));
            self.end = self.end.or(killed);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Memory for what a child writes. It has room for so much and no more: what a child writes beyond fails there.
fn capture(name: &str) -> io::Result<File> {
    let file = File::from(memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.set_len(MOST_OUTPUT)?;
    fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK)?;
    Ok(file)
}

/// Bytes that the child has written: it shares the offset of our descriptor.
fn written(file: &File) -> u64 {
    rustix::fs::tell(file).unwrap_or(0)
}

fn contents(file: &File) -> String {
    let read = || -> io::Result<String> {
        let own = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let mut bytes = Vec::new();
        own.take(written(file)).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

/// Bytes of each of a server's outputs for which there is room.
const MOST_OUTPUT: u64 = 1 << 24;

/// Makes orphans of servers (daemons, escaped children) children of this process, so that they can be reaped and their
/// exit status read. The setting is process-wide: the `layers` command makes it, the library never does by itself.
pub fn become_subreaper() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    descent::orphans_come_here();
    Ok(())
}

/// Starts a program that drives the server, in a group of its own; what it prints goes to standard error.
///
/// Waits until it has ended; kills its group at the deadline, and then gives `None`.
pub fn run_client(
    mut command: Command,
    run_id: u64,
    deadline: Deadline,
) -> io::Result<Option<std::process::ExitStatus>> {
    command.stdout(io::stderr()).env(layers_behaviour::RUN_VARIABLE, format!("{run_id:x}"));
    in_own_group(&mut command, Some(run_id));
    let mut child = command.spawn()?;
    let pid = Pid::from_child(&child);
    super::interrupt::began(run_id, pid);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let mut watched = [PollFd::new(&pidfd, PollFlags::IN)];
    let ended = loop {
        let time = deadline.left().min(LONGEST_LOOK);
        match retry_on_intr(|| poll(&mut watched, Some(&timespec(time))))? {
            0 if deadline.passed() => break false,
            0 => descent::reap_many(),
            _ => break true,
        }
    };
    // Also what it may have left running in its group.
    let _ = kill_process_group(pid, Signal::KILL);
    let status = child.wait()?;
    Ok(ended.then_some(status))
}

/// Signals that a child begins with as a shell's child does, whatever this process has inherited: a server that ignores
/// the end of its children, or a client that cannot be interrupted, behaves otherwise than it does for its users.
const DEFAULTS: [i32; 10] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGCHLD,
    libc::SIGALRM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGXCPU,
    libc::SIGXFSZ,
];

/// Makes this process hear of the end of its children. A parent that ignores SIGCHLD hands that on, and then the kernel
/// reaps every child and nobody learns how it ended.
pub fn hear_of_children() {
    // SAFETY: the default action of this signal does nothing, and interrupts nobody.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// A child that has its signals and its standard streams as this process found them: what is blocked here is not blocked there.
pub(super) fn with_our_signals(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes async-signal-safe calls only.
    unsafe {
        command.pre_exec(|| {
            super::interrupt::unblock();
            // This process ignores it.
            libc::signal(libc::SIGXFSZ, libc::SIG_DFL);
            super::inherited::restore();
            Ok(())
        });
    }
}

/// Waits until this child is dead, and leaves it to be reaped.
pub(super) fn wait_unreaped(pid: Pid) -> io::Result<()> {
    loop {
        match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Err(Errno::INTR) => {}
            other => return Ok(other.map(drop)?),
        }
    }
}

/// A child that leads its own process group, has our signals unblocked, and dies should this process be killed in a way
/// that leaves it no time to clean up, or the thread that started it end.
///
/// It carries the mark of its run, and so does whatever it starts.
fn in_own_group(command: &mut Command, run_id: Option<u64>) {
    let parent = rustix::process::getpid();
    command.process_group(0);
    // SAFETY: between fork and exec the closure makes async-signal-safe calls only.
    unsafe {
        command.pre_exec(move || {
            super::interrupt::unblock();
            for signal in DEFAULTS {
                libc::signal(signal, libc::SIG_DFL);
            }
            descent::mark(run_id)?;
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // A parent that was killed before that call is told of by this one alone.
            match rustix::process::getppid() == Some(parent) {
                true => Ok(()),
                false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
            }
        });
    }
}
