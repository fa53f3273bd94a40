//! A command of the user's, in which every server is watched that it starts: the directory for its traces, its environment,
//! and its end.
//!
//! The command is a child like any other of a shell: in the group, on the terminal and with the streams of this process.
//! What it has left running is left alone.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use layers_trace::handover::{DIRECTORY_VARIABLE, LIBRARY, PLACES, TRACES};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::StatVfsMountFlags;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use super::directory::{Names, RunDirectory};
use super::interrupt::{self, Onward};
use super::{descent, instruments, process};
use crate::version::Which;

/// Where the traces of one run are, and what is loaded into its servers.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    /// It goes with this value.
    private: Option<(u64, RunDirectory)>,
}

/// Why there is no place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    /// Nothing can be written there.
    #[error("cannot keep traces in `{}`: {source}", path.display())]
    Unwritable {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There are traces already.
    #[error("`{}` has the traces of another run: name another directory, or remove it", .0.display())]
    Used(PathBuf),
    /// The dynamic linker takes a name in LD_PRELOAD apart at blanks and colons.
    #[error("nothing can be preloaded from `{}`, whose name has a blank or a colon: name another directory ({})", .0.display(), .1)]
    Unloadable(PathBuf, &'static str),
    /// Nothing there may be mapped to be executed.
    #[error("nothing can be loaded from `{}`, which is mounted noexec: name another directory ({})", .0.display(), .1)]
    NoExec(PathBuf, &'static str),
}

impl Place {
    /// A directory that the user names, which stays.
    pub(crate) fn named(path: &Path) -> Result<Place, PlaceError> {
        let unwritable = |source| PlaceError::Unwritable { path: path.to_owned(), source };
        // Before anything is made: what a link leads to is looked at when it is there.
        has_loadable_name(&std::path::absolute(path).map_err(unwritable)?, "--dir")?;
        std::fs::create_dir_all(path).map_err(unwritable)?;
        // Servers may have other working directories.
        let path = path.canonicalize().map_err(unwritable)?;
        is_loadable(&path, "--dir")?;
        if path.join(TRACES).exists() {
            return Err(PlaceError::Used(path));
        }
        fill(&path).map_err(unwritable)?;
        Ok(Place { path, private: None })
    }

    /// A directory among the temporary files, which goes with this value. The trace of a server has so many places, and is read
    /// while it is written.
    pub(crate) fn private(places: u64) -> Result<Place, PlaceError> {
        let run_id = descent::new_run_id();
        let unwritable = |source| PlaceError::Unwritable { path: std::env::temp_dir(), source };
        let directory = interrupt::directory(run_id, Names::Text).map_err(unwritable)?;
        let path = directory.path().to_owned();
        let place = Place { path, private: Some((run_id, directory)) };
        is_loadable(place.path(), "TMPDIR")?;
        // Programs of other users load what is in it, but nobody else sees what that is.
        let opened = std::fs::set_permissions(place.path(), Permissions::from_mode(0o711));
        let filled = opened.and_then(|()| fill(place.path()));
        let told = filled.and_then(|()| std::fs::write(place.path().join(PLACES), places.to_string()));
        told.map_err(unwritable)?;
        Ok(place)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// It goes with this value.
    pub(crate) fn is_private(&self) -> bool {
        self.private.is_some()
    }

    /// Starts the command. It hears of the signals that this process gets.
    pub(crate) fn start(&self, program: &OsStr, arguments: &[OsString]) -> io::Result<(Running, Notices)> {
        let mut command = Command::new(program);
        command.args(arguments);
        command.env(DIRECTORY_VARIABLE.to_string_lossy().as_ref(), &self.path);
        command.env("LD_PRELOAD", preloaded(&self.path, std::env::var_os("LD_PRELOAD")));
        process::with_our_signals(&mut command);
        let notices = Notices::of(&self.path.join(TRACES))?;
        interrupt::hand_on(Onward::Soon);
        let child = command.spawn().inspect_err(|_| interrupt::hand_on(Onward::Nowhere))?;
        let pid = Pid::from_child(&child);
        interrupt::hand_on(Onward::Child(pid));
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok((Running { child, pid, pidfd }, notices))
    }
}

/// Hears of traces that begin, and that somebody writes no longer.
#[derive(Debug)]
pub(crate) struct Notices(OwnedFd);

/// What a wait has ended by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The command has ended.
    Command,
    /// Something else, or nothing.
    Looked,
}

impl Notices {
    fn of(traces: &Path) -> io::Result<Notices> {
        let notices = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&notices, traces, WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE)?;
        Ok(Notices(notices))
    }

    /// Waits until something is heard, the command has ended (where it still runs), or so much time has passed. Tells the name of
    /// each file, and `None` where there may be files of which nothing was heard.
    pub(crate) fn wait(
        &self,
        command: Option<&Running>,
        pause: Option<Duration>,
        mut tell: impl FnMut(Option<OsString>),
    ) -> io::Result<Woken> {
        let own = PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN);
        let command = command.map(|running| PollFd::from_borrowed_fd(running.pidfd.as_fd(), PollFlags::IN));
        let mut watched: Vec<PollFd<'_>> = [Some(own), command].into_iter().flatten().collect();
        let pause = pause.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        match poll(&mut watched, pause.as_ref()) {
            Err(Errno::INTR) => return Ok(Woken::Looked),
            other => drop(other?),
        }
        let has_ended = watched.get(1).is_some_and(|one| one.revents().contains(PollFlags::IN));
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut heard = inotify::Reader::new(&self.0, &mut buffer);
        while let Ok(event) = heard.next() {
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                tell(None);
            } else if let Some(name) = event.file_name() {
                tell(Some(OsStr::from_bytes(name.to_bytes()).to_owned()));
            }
        }
        Ok(if has_ended { Woken::Command } else { Woken::Looked })
    }
}

/// The command while it runs.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pid: Pid,
    pidfd: OwnedFd,
}

impl Running {
    /// Tells the command to end.
    pub(crate) fn terminate(&self) {
        let _ = rustix::process::kill_process(self.pid, Signal::TERM);
    }

    /// Waits for the end of the command.
    pub(crate) fn wait(mut self) -> io::Result<ExitStatus> {
        let ended = process::wait_unreaped(self.pid);
        // In this order: once it is reaped, its number may be anybody's.
        interrupt::hand_on(Onward::Nowhere);
        let status = self.child.wait();
        ended.and(status)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((run_id, directory)) = self.private.take() {
            drop(directory);
            interrupt::ended(run_id);
        }
    }
}

/// Makes sure that the dynamic linker can load what lies there; `by` names the directory.
fn is_loadable(path: &Path, by: &'static str) -> Result<(), PlaceError> {
    has_loadable_name(path, by)?;
    let mounted = rustix::fs::statvfs(path);
    if mounted.is_ok_and(|mounted| mounted.f_flag.contains(StatVfsMountFlags::NOEXEC)) {
        return Err(PlaceError::NoExec(path.to_owned(), by));
    }
    Ok(())
}

fn has_loadable_name(path: &Path, by: &'static str) -> Result<(), PlaceError> {
    match path.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b' ' | b':')) {
        true => Err(PlaceError::Unloadable(path.to_owned(), by)),
        false => Ok(()),
    }
}

/// Puts the instruments there, and makes room for the traces of servers of any user.
fn fill(path: &Path) -> io::Result<()> {
    instruments::write_to(path)?;
    let traces = path.join(TRACES);
    std::fs::DirBuilder::new().mode(0o700).create(&traces)?;
    std::fs::set_permissions(traces, Permissions::from_mode(0o1733))
}

/// Processes that the command has started, as far as their environment says so and this process may read it.
fn processes(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let mut ours = DIRECTORY_VARIABLE.to_bytes().to_vec();
    ours.push(b'=');
    ours.extend(directory.as_os_str().as_bytes());
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    all.filter(move |process| {
        let environment = std::fs::read(process.join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == ours)
    })
}

/// Some process is left that may start servers.
pub(crate) fn is_anybody_left(directory: &Path) -> bool {
    processes(directory).next().is_some()
}

/// Programs with the name of a server into which the dynamic linker has not loaded anything of ours, by their process: of a server
/// that has forked the first.
pub(crate) fn unloaded(directory: &Path) -> Vec<(u32, PathBuf)> {
    let ours: Vec<PathBuf> = processes(directory).collect();
    let unloaded = ours.iter().filter_map(|process| {
        let program = std::fs::read_link(process.join("exe")).ok().filter(|program| is_server(program))?;
        let maps = std::fs::read_to_string(process.join("maps")).ok()?;
        (!maps.contains(LIBRARY)).then_some((number(process)?, program))
    });
    let all: Vec<(u32, PathBuf)> = unloaded.chain(hidden(&ours)).collect();
    let is_first = |(own, program): &&(u32, PathBuf)| {
        let above = parent(&process_of(*own)).as_deref().and_then(number);
        !all.iter().any(|(other, same)| Some(*other) == above && same == program)
    };
    all.iter().filter(is_first).cloned().collect()
}

fn process_of(number: u32) -> PathBuf {
    Path::new("/proc").join(number.to_string())
}

/// Programs with the name of a server that these processes have started, and into which this process may not look, because
/// they are setuid.
fn hidden(ours: &[PathBuf]) -> Vec<(u32, PathBuf)> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let hidden = all.filter_map(|process| {
        let name = std::fs::read_to_string(process.join("comm")).ok()?;
        let name = PathBuf::from(name.trim_end());
        let environment = || std::fs::read(process.join("environ"));
        let is_hidden =
            is_server(&name) && environment().is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
        (is_hidden && ours.contains(&parent(&process)?)).then_some((number(&process)?, name))
    });
    hidden.collect()
}

fn is_server(program: &Path) -> bool {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    [Which::Nbdkit, Which::Haproxy].iter().any(|which| name.starts_with(which.name()))
}

/// The number of a process, by its directory in /proc.
fn number(process: &Path) -> Option<u32> {
    process.file_name()?.to_str()?.parse().ok()
}

/// The directory of its parent.
fn parent(process: &Path) -> Option<PathBuf> {
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    let number = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim();
    Some(Path::new("/proc").join(number))
}

/// What was preloaded before comes before: some libraries insist on being the first.
fn preloaded(directory: &Path, before: Option<OsString>) -> OsString {
    let library = directory.join(LIBRARY).into_os_string();
    match before.filter(|before| !before.is_empty()) {
        None => library,
        Some(mut all) => {
            all.push(":");
            all.push(library);
            all
        }
    }
}

/// The status that a shell gives for this end.
pub(crate) fn status_code(status: ExitStatus) -> u8 {
    let of_signal = status.signal().map(|signal| 128 + signal);
    status.code().or(of_signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// No process of the server is left that writes to this trace.
pub(crate) fn is_over(trace: &File) -> bool {
    rustix::fs::flock(trace, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_preloaded_stays_before_ours() {
        let before = |text: &str| Some(OsString::from(text));
        assert_eq!(preloaded(Path::new("/d"), None), "/d/layers-watch.so");
        assert_eq!(preloaded(Path::new("/d"), before("")), "/d/layers-watch.so");
        assert_eq!(preloaded(Path::new("/d"), before("a.so:b.so")), "a.so:b.so:/d/layers-watch.so");
    }
}
