//! A trace in a file with holes, on a disk that fills up: whoever touches a hole then gets SIGBUS, and need not die of it.
//!
//! A page of memory that nobody else sees takes the place of the hole, and the thread goes on. What is recorded there is lost:
//! the reader finds those records claimed and never published.

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Mappings of traces that one image of a process can have at the same time; in one beyond that nothing is survived.
const MOST: usize = 256;
/// Bytes that are replaced at once: no page is smaller.
const PAGE: usize = 4096;

/// Where a trace lies in memory.
struct Range {
    start: AtomicUsize,
    length: AtomicUsize,
}

static RANGES: [Range; MOST] =
    [const { Range { start: AtomicUsize::new(0), length: AtomicUsize::new(0) } }; MOST];

/// Notes that a trace lies here, for as long as the process has it mapped.
pub(crate) fn note(start: *const u8, length: usize) {
    let start = start.addr();
    for range in &RANGES {
        if range.start.compare_exchange(0, start, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            range.length.store(length, Ordering::Release);
            return;
        }
    }
}

/// Forgets the trace that lies here: it is about to be unmapped.
pub(crate) fn forget(start: *const u8) {
    if let Some(range) = RANGES.iter().find(|range| range.start.load(Ordering::Acquire) == start.addr()) {
        range.length.store(0, Ordering::Release);
        range.start.store(0, Ordering::Release);
    }
}

/// Puts memory into the place of a hole in a trace that could not be filled, of which this SIGBUS tells. Returns false where it tells of
/// something else, or somebody has sent it. For a handler: it makes one system call.
///
/// # Safety
///
/// `info` is NULL, or what the kernel gives to a handler of SIGBUS.
pub(crate) unsafe fn survives(info: *const libc::siginfo_t) -> bool {
    // SAFETY: the caller promises a whole structure, which has an address for a signal of the kernel's own.
    let address = unsafe { info.as_ref().filter(|info| info.si_code > 0).map(|info| info.si_addr()) };
    let Some(address) = address.map(|address| address.addr()) else { return false };
    let is_in = |range: &&Range| {
        let (start, length) = (range.start.load(Ordering::Acquire), range.length.load(Ordering::Acquire));
        start != 0 && (start..start.saturating_add(length)).contains(&address)
    };
    if !RANGES.iter().any(|range| is_in(&range)) {
        return false;
    }
    let page = std::ptr::without_provenance_mut::<c_void>(address & !(PAGE - 1));
    // SAFETY: the page is one of a trace's, which is reached through atomics alone; what lay there could not be touched.
    let mapped = unsafe {
        libc::mmap(
            page,
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    mapped == page
}

/// From now on this process survives such a hole in any trace that it has mapped.
pub fn survive() -> std::io::Result<()> {
    // SAFETY: whole structures, of which zeroes are one; the handler makes one system call, or gives its place back.
    unsafe {
        let mut new = std::mem::zeroed::<libc::sigaction>();
        new.sa_sigaction = hole as *const c_void as usize;
        new.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK;
        match libc::sigaction(libc::SIGBUS, &raw const new, std::ptr::null_mut()) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
}

extern "C" fn hole(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel's own argument; signal(2) and raise(3) have no preconditions.
    unsafe {
        if !survives(info) {
            // What was not sent happens again when this returns, and ends the process.
            libc::signal(signal, libc::SIG_DFL);
            if info.as_ref().is_none_or(|info| info.si_code <= 0) {
                libc::raise(signal);
            }
        }
    }
}
