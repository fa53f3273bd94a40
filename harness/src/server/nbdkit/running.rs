//! A server while it runs: waiting for it, signalling it, driving it, and leaving nothing of it behind.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use layers_trace::{Field, Writer};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::super::descent::{belongs_to, kill_escaped, kill_of_run, left_of_run};
use super::super::directory::RunDirectory;
use super::super::interrupt;
use super::super::observer::Observer;
use super::super::process::{Pause, Process, Woken, run_client};
use super::super::script_directories;
use super::super::tracing::Tracing;
use super::debugger::Attached;
use super::under::Under;
use crate::deadline::{Deadline, timespec};
use crate::foreign::bounded;
use crate::history::End;
use crate::run::Start;
use crate::run::credentials::Credentials;

/// A running nbdkit.
#[derive(Debug)]
pub struct Server {
    /// The process.
    pub process: Process,
    /// What the trace shows so far.
    pub observer: Observer,
    pub(super) socket: Option<PathBuf>,
    pub(super) credentials: Option<Credentials>,
    pub(super) client: Option<OwnedFd>,
    pub(super) address: Option<File>,
    pub(super) hold: Option<File>,
    pub(super) start: Start,
    pub(super) layers: u8,
    pub(super) run_id: u64,
    pub(super) directory: Option<RunDirectory>,
    /// A debugger that is at it.
    pub(super) attached: Option<Attached>,
    /// Last, so that everything else is gone when it is given back.
    pub(super) tracing: Tracing,
}

impl Server {
    /// The trace, for clients to write to.
    pub fn trace(&self) -> Option<Arc<Writer>> {
        self.tracing.writer().map(Arc::clone)
    }

    /// The unix socket that it listens on, where it does.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// The number of the run, which marks everything that the server starts.
    pub(crate) fn run_id(&self) -> u64 {
        self.run_id
    }

    /// What clients need for TLS.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// The client's end of the one connection of `-s`; once.
    pub fn take_client_end(&mut self) -> Option<OwnedFd> {
        self.client.take()
    }

    /// Why it does not start, in its own words: what an instrument said, else the last line that it printed.
    pub fn complaint(&self) -> String {
        let printed = self.process.stderr();
        let of_instrument =
            printed.lines().find_map(|line| line.split_once("layers: error: ").map(|(_, said)| said));
        of_instrument.or(last_complaint(&printed)).unwrap_or("it printed nothing").to_owned()
    }

    /// Returns what valgrind has written about it, where it runs below that.
    pub fn reports(&self) -> String {
        self.directory.as_ref().map(|directory| Under::reports(directory.path())).unwrap_or_default()
    }

    /// Runs a program that drives the server; see [`run_client`].
    pub fn run_client(&self, command: Command, deadline: Deadline) -> io::Result<Option<ExitStatus>> {
        run_client(command, self.run_id, deadline)
    }

    /// Returns the command lines of the processes of this run that are still there when the server itself has ended; waits
    /// a little for them to go by themselves.
    pub fn left_behind(&self, deadline: Deadline) -> Vec<String> {
        let mut pause = Pause::new(deadline);
        loop {
            let left = left_of_run(self.run_id, self.process.pid());
            if left.is_empty() || self.process.end().is_none() || !pause.take(&[]) {
                return left;
            }
        }
    }

    /// Has a debugger that is at it say where it hangs.
    pub(crate) fn say_where(&mut self) {
        if let Some(attached) = &mut self.attached {
            attached.interrupt();
        }
    }

    /// Kills the other processes of this run: what the server has started, such as the scripts of its plugin.
    pub fn kill_others(&self) {
        kill_of_run(self.run_id, self.process.pid());
    }

    /// Waits for something that the trace shows. A trace that is full shows nothing more: then it waits no longer, and
    /// whoever judges the trace finds that records are missing.
    pub fn wait_until(&mut self, deadline: Deadline, mut happened: impl FnMut(&Observer) -> bool) -> Woken {
        let Some(trace) = self.tracing.writer() else { return Woken::Dead };
        let (observer, process) = (&mut self.observer, &mut self.process);
        process.wait_until(deadline, || {
            observer.look(trace);
            happened(observer) || trace.is_full()
        })
    }

    /// Waits until clients are served: the outermost `after_fork` has returned. Where no layer has one, a server that
    /// listens is as ready as can be told from outside.
    ///
    /// A daemon's first process has usually gone by then; from here on the daemon is the process that is watched.
    pub fn wait_ready(&mut self, deadline: Deadline) -> Woken {
        let (layers, start, socket) = (self.layers, self.start, self.socket.clone());
        let ready = move |seen: &Observer| {
            let listens = || socket.as_deref().is_none_or(listens);
            seen.ready().is_some() || (seen.cannot_tell(layers) && listens())
        };
        let woken = match start {
            Start::Daemon => self.wait_for_daemon(deadline, ready),
            Start::Captive => self.wait_for_child(deadline, ready),
            _ => self.wait_until(deadline, ready),
        };
        if woken != Woken::Happened {
            return woken;
        }
        if let Some(address) = &self.address {
            match read_line(address, deadline) {
                Some(address) => self.socket = Some(PathBuf::from(address)),
                None => return Woken::Late,
            }
        }
        let pid = self.observer.ready();
        if let (Start::ExitWithParent, Some(pid)) = (start, pid)
            && self.process.follow(pid).is_err()
        {
            return Woken::Dead;
        }
        // Should the harness be killed, others remove them.
        self.note_scripts();
        woken
    }

    /// Notes what is left behind if the server is killed.
    fn note_scripts(&self) {
        let server = self.observer.ready().unwrap_or(self.process.pid());
        if let Some(directory) = self.directory.as_ref().filter(|_| self.process.end().is_none()) {
            script_directories::note(server, directory.path());
        }
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.note_scripts();
        self.process.kill();
    }

    /// Lets the first process go, finds the one that went into the background, and waits until it serves.
    fn wait_for_daemon(&mut self, deadline: Deadline, ready: impl Fn(&Observer) -> bool) -> Woken {
        match self.process.wait_for_end(deadline) {
            Some(End::Exited(0)) => {}
            Some(_) => return Woken::Dead,
            None => return Woken::Late,
        }
        // The daemon writes the file before after_fork runs, but perhaps after its parent has gone.
        let Some(file) = self.directory.as_ref().map(|directory| directory.path().join(PID_FILE)) else {
            return Woken::Dead;
        };
        let mut pause = Pause::new(deadline);
        let pid = loop {
            let text = bounded::found_text(&file).unwrap_or_default();
            if let Some(pid) = text.strip_suffix('\n').and_then(|pid| pid.parse().ok()) {
                break pid;
            }
            if !pause.take(&[]) {
                return Woken::Late;
            }
        };
        match self.process.follow(pid) {
            Ok(()) => self.wait_until(deadline, ready),
            Err(_) => Woken::Dead,
        }
    }

    /// The server is a child of the process that runs the command of `--run`, and that one has its exit status only
    /// where the server ends first: the command is held up until then.
    fn wait_for_child(&mut self, deadline: Deadline, ready: impl Fn(&Observer) -> bool) -> Woken {
        let woken = self.wait_until(deadline, |seen| ready(seen) || seen.failed().is_some());
        let Some(pid) = self.observer.failed() else { return woken };
        if !dies(pid, deadline) || self.release().is_err() {
            return Woken::Late;
        }
        match self.process.wait_for_end(deadline) {
            Some(_) => Woken::Dead,
            None => Woken::Late,
        }
    }

    /// Sends a signal, and writes so into the trace first.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.tracing.signal(signal);
        self.process.signal(signal)
    }

    /// Lets the command of `--run`, or the server's parent, come to its end. The kernel then sends the server the signal
    /// that the harness sends in other runs: the trace says so.
    pub fn release(&mut self) -> io::Result<()> {
        if self.start == Start::ExitWithParent {
            self.tracing.signal(Signal::TERM);
        }
        match &mut self.hold {
            Some(hold) => hold.write_all(b"\n"),
            None => Ok(()),
        }
    }

    /// Waits until the server is dead, and writes into the trace how it ended.
    pub fn wait_for_end(&mut self, deadline: Deadline) -> Option<End> {
        let end = self.process.wait_for_end(deadline)?;
        // Under `--run` the server is a child of the process that runs the command, and may outlive it.
        let child = self.observer.ready().filter(|_| self.start == Start::Captive);
        if child.is_some_and(|pid| !dies(pid, deadline)) {
            return None;
        }
        self.record_end(end);
        Some(end)
    }

    /// Writes the trace to the file in which it is to be kept, if there is one (see [`super::Serve::keep`]).
    pub fn save_trace(&self) -> io::Result<()> {
        self.tracing.save()
    }

    fn record_end(&mut self, end: End) {
        let output = if self.start == Start::DumpPlugin { self.process.stdout() } else { String::new() };
        let texts: &[(Field, &[u8])] = match self.start {
            Start::DumpPlugin => &[(Field::Message, output.as_bytes())],
            _ => &[],
        };
        self.tracing.end(end, texts);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that forks under `--run` is not the process that we started.
        self.kill();
        drop(self.attached.take());
        if let Some(pid) = self.observer.ready().filter(|pid| *pid != self.process.pid()) {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid.filter(|pid| belongs_to(*pid, self.run_id)) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        kill_escaped(self.run_id);
        drop(self.directory.take());
        interrupt::ended(self.run_id);
    }
}

/// Waits until this process, of whatever parent, is dead.
fn dies(pid: u32, deadline: Deadline) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(Ok(pidfd)) = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else { return true };
    let mut watched = [PollFd::new(&pidfd, PollFlags::IN)];
    poll(&mut watched, Some(&timespec(deadline.left()))).is_ok_and(|ready| ready > 0)
}

/// Somebody listens on this unix socket. (That it exists is not enough: it does from bind on, and refuses until listen.)
fn listens(socket: &Path) -> bool {
    listens_in(&std::fs::read("/proc/net/unix").unwrap_or_default(), socket)
}

/// The same, in this copy of /proc/net/unix. The kernel writes a path as it is, with its spaces and newlines, at the end
/// of the entry: the entry is found by its path.
fn listens_in(sockets: &[u8], socket: &Path) -> bool {
    const LISTENING: &[u8] = b"00010000";
    let tail = [b" ", socket.as_os_str().as_bytes(), b"\n"].concat();
    let ends = sockets.windows(tail.len()).enumerate().filter(|(_, window)| *window == tail);
    ends.filter_map(|(end, _)| sockets.get(..end)).any(|before| {
        let fields = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let fields: Vec<&[u8]> =
            fields.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).collect();
        // Seven stand before a path; with more, this is only the end of one.
        matches!(fields.as_slice(), [_, _, _, flags, _, _, _] if *flags == LISTENING)
    })
}

fn read_line(file: &File, deadline: Deadline) -> Option<String> {
    let mut line = Vec::new();
    loop {
        let mut watched = [PollFd::new(file, PollFlags::IN)];
        if poll(&mut watched, Some(&timespec(deadline.left()))).ok()? == 0 {
            return None;
        }
        let mut byte = [0];
        match rustix::io::read(file, &mut byte) {
            Ok(1) if byte == *b"\n" => return String::from_utf8(line).ok(),
            Ok(1) => line.extend(byte),
            _ => return None,
        }
    }
}

/// Without what the server advises after some errors, and without the descriptor by which it knows an instrument.
fn last_complaint(printed: &str) -> Option<&str> {
    let is_advice = |line: &str| line.starts_with("Try using: ") || line.starts_with("Use 'nbdkit --help'");
    let line = printed.lines().rfind(|line| !is_advice(line))?;
    let of_descriptor = line.strip_prefix("nbdkit: /proc/self/fd/").and_then(|rest| rest.split_once(": "));
    Some(of_descriptor.map_or(line, |(_, said)| said))
}

/// In the directory of a run: where a daemon writes its process id.
pub(super) const PID_FILE: &str = "pid";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_found_whatever_its_path() {
        let sockets: &[u8] = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 11 /tmp/a b/socket\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 12 /tmp/a\nb/socket\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 13 /tmp/\xff/socket\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 14 /tmp/\xfe/socket\n";
        let listens = |path: &[u8]| listens_in(sockets, Path::new(std::ffi::OsStr::from_bytes(path)));
        assert!(listens(b"/tmp/a b/socket") && listens(b"/tmp/a\nb/socket") && listens(b"/tmp/\xfe/socket"));
        assert!(!listens(b"/tmp/\xff/socket"), "it is connected, and does not listen");
        assert!(!listens(b"b/socket"), "a path is known by the whole of it");
    }

    #[test]
    fn advice_of_the_server_is_no_complaint() {
        let printed = "nbdkit: /proc/self/fd/7: this plugin does not need command line configuration\n\
                       Try using: nbdkit --help /proc/self/fd/7\n";
        assert_eq!(last_complaint(printed), Some("this plugin does not need command line configuration"));
        assert_eq!(last_complaint("nbdkit: error: unknown\n"), Some("nbdkit: error: unknown"));
        assert_eq!(last_complaint(""), None);
    }
}
