//! What is left to do when the harness itself is killed, by a process of its own: the guard.
//!
//! A harness that is killed with SIGKILL cleans up nothing. Its servers are told by the kernel, but not what has left them: a
//! daemon, a child with a session of its own. The guard is forked before anything else runs, waits for the end of the
//! harness, kills every process of its runs, and removes their directories. It uses no time while it waits.

use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::pipe::{PipeFlags, pipe_with};

use super::{descent, directory};

/// What the harness says when it ends in good order: nothing is left to do.
const IN_ORDER: &[u8] = b".";
/// The guard's end of the pipe, when all else is closed.
const KEPT: i32 = 3;

/// A guard that waits. The harness says that it ends in good order by [`Guard::dismiss`]; any other end is one to clean up
/// after.
#[derive(Debug)]
pub struct Guard {
    pipe: Option<OwnedFd>,
}

impl Guard {
    /// Forks the guard; to be called while this process has one thread. Removes first what runs of dead harnesses have left.
    ///
    /// Where no process can be made there is no guard, and a harness that is killed leaves behind what it has started.
    pub fn post() -> Guard {
        directory::sweep();
        let Ok((read, write)) = pipe_with(PipeFlags::CLOEXEC) else { return Guard { pipe: None } };
        let (session, bases) = (descent::session(), directory::bases());
        // SAFETY: this process has one thread, so that the child may do whatever this process may.
        match unsafe { libc::fork() } {
            0 => {
                drop(write);
                keep_watch(read, session, &bases)
            }
            -1 => Guard { pipe: None },
            _ => Guard { pipe: Some(write) },
        }
    }

    /// Tells the guard that nothing is left to do.
    pub fn dismiss(self) {
        if let Some(pipe) = self.pipe {
            let _ = rustix::io::write(&pipe, IN_ORDER);
        }
    }
}

fn keep_watch(pipe: OwnedFd, session: u32, bases: &[PathBuf]) -> ! {
    let pipe = alone(pipe);
    let mut said = [0];
    let in_order = loop {
        match rustix::io::read(&pipe, &mut said) {
            Err(rustix::io::Errno::INTR) => {}
            told => break told.is_ok_and(|bytes| bytes > 0),
        }
    };
    if !in_order {
        descent::kill_of_session(session);
        directory::remove_of_session(session, bases);
        // What was being started at that moment has its mark by now.
        descent::kill_of_session(session);
    }
    // SAFETY: nothing of this process is to be cleaned up: all that it has is a copy of its parent's.
    unsafe { libc::_exit(0) }
}

/// Leaves the group, the terminal, the directory and the streams of the harness; keeps the pipe and nothing else.
fn alone(pipe: OwnedFd) -> OwnedFd {
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
    let null = std::fs::File::options().read(true).write(true).open("/dev/null");
    // SAFETY: these calls take no pointers but for the name, which is a C string. The descriptors are this process's own,
    // and nothing that uses one of those that are closed here ever runs in it.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"layers-guard".as_ptr());
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGPIPE, libc::SIGXCPU]
        {
            libc::signal(signal, libc::SIG_IGN);
        }
        if let Ok(null) = null {
            for stream in 0..3 {
                libc::dup2(null.as_raw_fd(), stream);
            }
            std::mem::forget(null);
        }
        if pipe.as_fd().as_raw_fd() != KEPT {
            libc::dup2(pipe.into_raw_fd(), KEPT);
        } else {
            std::mem::forget(pipe);
        }
        libc::syscall(libc::SYS_close_range, KEPT + 1, u32::MAX, 0);
        std::os::fd::FromRawFd::from_raw_fd(KEPT)
    }
}
