//! Own keywords whose faults show themselves to clients alone: in what is answered, in what is left behind, and to whom.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::good::{nothing, once};
use super::keyword::Own;
use crate::server::{Appctx, function};
use crate::slots::{IoHandler, IoRelease};
use crate::symbols::symbol;

pub(super) const ALL: &[Own] = &[
    Own {
        name: c"long",
        usage: c"layers long                             : many lines",
        parse: Some(begin_lines),
        io_handler: Some(next_lines),
        io_release: Some(end_lines),
    },
    Own {
        name: c"bad-short",
        usage: c"layers bad-short                        : many lines, of which the rest is lost when there is no room",
        parse: Some(begin_lines),
        io_handler: Some(first_lines),
        io_release: Some(end_lines),
    },
    Own {
        name: c"bad-refused",
        usage: c"layers bad-refused [WORD]               : never ends again once it has had an argument",
        parse: Some(refuse),
        io_handler: Some(once_if_good),
        io_release: Some(nothing),
    },
    Own {
        name: c"bad-leak",
        usage: c"layers bad-leak                         : keeps memory, each time",
        parse: Some(leak),
        io_handler: Some(once),
        io_release: None,
    },
    Own {
        name: c"clear",
        usage: c"layers clear                            : is done at any level",
        parse: Some(clear),
        io_handler: None,
        io_release: None,
    },
];

/// Lines of an answer: more than a buffer of 2 KiB holds, and what lies between it and the client.
const LINES: usize = 1400;
const RING: usize = 1 << 16;
/// Bytes that a command keeps.
const KEPT: usize = 4096;

/// A text as the server's rings take it.
#[repr(C)]
struct Text {
    start: *const u8,
    length: usize,
}

type Write = unsafe extern "C" fn(*mut c_void, usize, *const Text, usize, *const Text, usize) -> isize;
type Attach = unsafe extern "C" fn(*mut c_void, Appctx, c_uint) -> c_int;

/// The server's function of this name.
fn named<F: Copy>(name: &CStr) -> Option<F> {
    // SAFETY: HAProxy's functions of the names in this file have these types in every version since 2.2.
    unsafe { function(symbol(name)?.addr()) }
}

/// A ring of the server's with many lines in it, which the server can dump.
fn ring() -> Option<*mut c_void> {
    static RING_OF_LINES: OnceLock<usize> = OnceLock::new();
    let made = RING_OF_LINES.get_or_init(|| {
        let make = || {
            let new: unsafe extern "C" fn(usize) -> *mut c_void = named(c"ring_new")?;
            let write: Write = named(c"ring_write")?;
            // SAFETY: the server's function.
            let ring = unsafe { new(RING) };
            if ring.is_null() {
                return None;
            }
            for number in 0..LINES {
                let line = format!("line {number}");
                let text = Text { start: line.as_ptr(), length: line.len() };
                // SAFETY: the server's function with a ring of its own and one text.
                unsafe { write(ring, usize::MAX, std::ptr::null(), 0, &raw const text, 1) };
            }
            Some(ring.expose_provenance())
        };
        make().unwrap_or(0)
    });
    (*made != 0).then(|| std::ptr::with_exposed_provenance_mut(*made))
}

unsafe extern "C" fn begin_lines(
    _: *mut *mut c_char,
    _: *mut c_char,
    appctx: Appctx,
    _: *mut c_void,
) -> c_int {
    let (Some(ring), Some(attach)) = (ring(), named::<Attach>(c"ring_attach_cli")) else { return 1 };
    // SAFETY: the server's function with a ring and an appctx of its own.
    unsafe { attach(ring, appctx, 0) }
}

unsafe extern "C" fn next_lines(appctx: Appctx) -> c_int {
    // SAFETY: the server's function with its own appctx.
    named::<IoHandler>(c"cli_io_handler_show_ring").map_or(1, |next| unsafe { next(appctx) })
}

unsafe extern "C" fn first_lines(appctx: Appctx) -> c_int {
    // SAFETY: as the server promises.
    unsafe { next_lines(appctx) };
    1
}

unsafe extern "C" fn end_lines(appctx: Appctx) {
    if let Some(release) = named::<IoRelease>(c"cli_io_release_show_ring") {
        // SAFETY: the server's function with its own appctx.
        unsafe { release(appctx) };
    }
}

/// An argument was refused.
static REFUSED: AtomicBool = AtomicBool::new(false);

unsafe extern "C" fn refuse(words: *mut *mut c_char, _: *mut c_char, _: Appctx, _: *mut c_void) -> c_int {
    // SAFETY: the server passes the words of the command, with empty ones behind them.
    let has_argument = unsafe { words.add(2).read().as_ref() }.is_some_and(|first| *first != 0);
    REFUSED.fetch_or(has_argument, Ordering::Relaxed);
    c_int::from(has_argument)
}

unsafe extern "C" fn once_if_good(_: Appctx) -> c_int {
    c_int::from(!REFUSED.load(Ordering::Relaxed))
}

unsafe extern "C" fn leak(_: *mut *mut c_char, _: *mut c_char, _: Appctx, _: *mut c_void) -> c_int {
    // SAFETY: nobody frees it, on purpose.
    let memory = unsafe { libc::malloc(KEPT) };
    // SAFETY: as many bytes as were allocated, or none.
    unsafe { memory.cast::<u8>().write_bytes(1, if memory.is_null() { 0 } else { KEPT }) };
    std::hint::black_box(memory);
    0
}

unsafe extern "C" fn clear(_: *mut *mut c_char, _: *mut c_char, _: Appctx, _: *mut c_void) -> c_int {
    1
}
