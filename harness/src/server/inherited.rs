//! How this process was begun, where Rust's start changes it before `main`: a command of the user's begins the same way.
//!
//! Rust opens /dev/null in place of standard streams that are closed, and ignores SIGPIPE.

use std::sync::atomic::{AtomicBool, Ordering};

static CLOSED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];
static IGNORES_PIPE: AtomicBool = AtomicBool::new(false);

/// The dynamic linker calls it before Rust's start.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = note;

extern "C" fn note() {
    for (stream, closed) in (0..).zip(&CLOSED) {
        // SAFETY: it is asked for the flags of a descriptor, which may not be there.
        closed.store(unsafe { libc::fcntl(stream, libc::F_GETFD) } == -1, Ordering::Relaxed);
    }
    IGNORES_PIPE.store(super::interrupt::is_ignored(libc::SIGPIPE), Ordering::Relaxed);
}

/// Makes it so again; to be called between fork and exec.
pub(super) fn restore() {
    for (stream, closed) in (0..).zip(&CLOSED) {
        if closed.load(Ordering::Relaxed) {
            // SAFETY: what is there is /dev/null, of which nothing in this child knows.
            unsafe { libc::close(stream) };
        }
    }
    if IGNORES_PIPE.load(Ordering::Relaxed) {
        // SAFETY: no handler is set.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    }
}
