//! Who writes: the kernel's ids of this thread and process.

use std::cell::Cell;
use std::sync::Once;

/// The caller's thread and process id, asked once a thread and again after a fork.
#[derive(Clone, Copy)]
pub(crate) struct Ids {
    pub(crate) tid: u32,
    pub(crate) pid: u32,
}

thread_local! {
    // Without a destructor, so that it can be read for as long as the thread runs.
    static IDS: Cell<Option<Ids>> = const { Cell::new(None) };
}

#[inline]
pub(crate) fn ids() -> Ids {
    IDS.with(Cell::get).unwrap_or_else(ask)
}

#[cold]
fn ask() -> Ids {
    watch_forks();
    // SAFETY: no arguments, cannot fail.
    let (tid, pid) = unsafe { (libc::gettid(), libc::getpid()) };
    let ids = Ids { tid: tid.cast_unsigned(), pid: pid.cast_unsigned() };
    IDS.set(Some(ids));
    ids
}

fn watch_forks() {
    static ONCE: Once = Once::new();
    /// The thread that forked is the child's only one.
    extern "C" fn in_child() {
        IDS.set(None);
    }
    ONCE.call_once(|| {
        // SAFETY: the handler writes one thread-local; the C library forgets it when this image is unloaded.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}
