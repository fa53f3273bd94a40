//! A command of the user's, in which every server is watched that it starts: the directory for its traces, its environment,
//! and its end.
//!
//! The command is a child like any other of a shell: in the group, on the terminal and with the streams of this process.
//! What it has left running is left alone.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use layers_trace::handover::{DIRECTORY_VARIABLE, LIBRARY, TRACES};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use super::directory::{Names, RunDirectory};
use super::{descent, instruments, interrupt, process};

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
}

impl Place {
    /// A directory that the user names, which stays.
    pub(crate) fn named(path: &Path) -> Result<Place, PlaceError> {
        let unwritable = |source| PlaceError::Unwritable { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(unwritable)?;
        // Servers may have other working directories.
        let path = path.canonicalize().map_err(unwritable)?;
        if path.join(TRACES).exists() {
            return Err(PlaceError::Used(path));
        }
        fill(&path).map_err(unwritable)?;
        Ok(Place { path, private: None })
    }

    /// A directory among the temporary files, which goes with this value.
    pub(crate) fn private() -> Result<Place, PlaceError> {
        let run_id = descent::new_run_id();
        let unwritable = |source| PlaceError::Unwritable { path: std::env::temp_dir(), source };
        let directory = interrupt::directory(run_id, Names::Text).map_err(unwritable)?;
        let path = directory.path().to_owned();
        let place = Place { path, private: Some((run_id, directory)) };
        // Programs of other users load what is in it, but nobody else sees what that is.
        let opened = std::fs::set_permissions(place.path(), Permissions::from_mode(0o711));
        opened.and_then(|()| fill(place.path())).map_err(unwritable)?;
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
    pub(crate) fn start(&self, program: &OsStr, arguments: &[OsString]) -> io::Result<Running> {
        let mut command = Command::new(program);
        command.args(arguments);
        command.env(DIRECTORY_VARIABLE.to_string_lossy().as_ref(), &self.path);
        command.env("LD_PRELOAD", preloaded(&self.path, std::env::var_os("LD_PRELOAD")));
        process::with_our_signals(&mut command);
        let notices = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&notices, self.path.join(TRACES), WatchFlags::CLOSE_WRITE)?;
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        interrupt::hand_on(Some(pid));
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Running { child, pid, pidfd, notices })
    }
}

/// The command while it runs.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pid: Pid,
    pidfd: OwnedFd,
    notices: OwnedFd,
}

impl Running {
    /// Waits until a server may have ended, or the command has; false for the latter.
    pub(crate) fn wait_for_a_server(&mut self) -> io::Result<bool> {
        loop {
            let mut watched = [
                PollFd::from_borrowed_fd(self.pidfd.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.notices.as_fd(), PollFlags::IN),
            ];
            match poll(&mut watched, None) {
                Err(Errno::INTR) => continue,
                other => drop(other?),
            }
            let [command, notices] = watched.map(|one| one.revents().contains(PollFlags::IN));
            if command {
                return Ok(false);
            }
            if notices {
                let mut buffer = [0_u8; 4096];
                while rustix::io::read(&self.notices, &mut buffer).is_ok_and(|bytes| bytes > 0) {}
                return Ok(true);
            }
        }
    }

    /// Tells the command to end.
    pub(crate) fn terminate(&self) {
        let _ = rustix::process::kill_process(self.pid, Signal::TERM);
    }

    /// Waits for the end of the command.
    pub(crate) fn wait(mut self) -> io::Result<ExitStatus> {
        let ended = process::wait_unreaped(self.pid);
        // In this order: once it is reaped, its number may be anybody's.
        interrupt::hand_on(None);
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

/// Puts the instruments there, and makes room for the traces of servers of any user.
fn fill(path: &Path) -> io::Result<()> {
    instruments::write_to(path)?;
    let traces = path.join(TRACES);
    std::fs::DirBuilder::new().mode(0o700).create(&traces)?;
    std::fs::set_permissions(traces, Permissions::from_mode(0o1733))
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

/// Waits until that is so.
pub(crate) fn wait_until_over(trace: &File) {
    use rustix::fs::{FlockOperation, flock};
    while let Err(rustix::io::Errno::INTR) = flock(trace, FlockOperation::LockExclusive) {}
    // It may be looked at again.
    let _ = flock(trace, FlockOperation::Unlock);
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
