//! Own keywords that do nothing wrong.

use std::ffi::{c_char, c_int, c_void};

use layers_trace::Probe;

use super::allocated::allocated;
use super::context::Work;
use super::keyword::Own;
use crate::server::Appctx;

/// Bytes of a small context.
const SMALL: usize = 16;
/// Calls of a handler that has something to do more than once, and of one that has much to do.
const SOME: u32 = 3;
const MANY: u32 = 200;

pub(super) const ALL: &[Own] = &[
    Own {
        name: c"plain",
        usage: c"layers plain                            : a handler that runs once and has no context",
        parse: None,
        io_handler: Some(once),
        io_release: None,
    },
    Own {
        name: c"released",
        usage: c"layers released                         : no parse, no context, and a release",
        parse: None,
        io_handler: Some(once),
        io_release: Some(nothing),
    },
    Own {
        name: c"reserve",
        usage: c"layers reserve                          : a small context in the storage area",
        parse: Some(reserve),
        io_handler: Some(some_rounds),
        io_release: Some(nothing),
    },
    Own {
        name: c"reserve-again",
        usage: c"layers reserve-again                    : a context reserved in parse, and again in the handler",
        parse: Some(reserve),
        io_handler: Some(reserve_again),
        io_release: Some(nothing),
    },
    Own {
        name: c"reserve-most",
        usage: c"layers reserve-most                     : the largest context that fits",
        parse: Some(reserve_most),
        io_handler: Some(some_rounds),
        io_release: Some(nothing),
    },
    Own {
        name: c"reserve-late",
        usage: c"layers reserve-late                     : a context reserved in the handler only",
        parse: None,
        io_handler: Some(reserve_again),
        io_release: Some(nothing),
    },
    Own {
        name: c"reserve-too-much",
        usage: c"layers reserve-too-much                 : a context too large by one byte: the server stops",
        parse: Some(reserve_too_much),
        io_handler: Some(once),
        io_release: None,
    },
    Own {
        name: c"dirty",
        usage: c"layers dirty                            : writes over the storage area and st2",
        parse: Some(dirty),
        io_handler: Some(once),
        io_release: None,
    },
    Own {
        name: c"own-memory",
        usage: c"layers own-memory                       : a context that the keyword allocates",
        parse: Some(allocate),
        io_handler: Some(check_own),
        io_release: Some(free_own),
    },
    Own {
        name: c"own-memory-fails",
        usage: c"layers own-memory-fails                 : the allocation fails, the handler finds no context",
        parse: Some(fail_to_allocate),
        io_handler: Some(once),
        io_release: Some(free_own),
    },
    Own {
        name: c"print",
        usage: c"layers print                            : an error from parse",
        parse: Some(print),
        io_handler: Some(once),
        io_release: Some(nothing),
    },
    Own {
        name: c"print-after-own",
        usage: c"layers print-after-own                  : an error from parse, when svcctx points elsewhere",
        parse: Some(print_after_own),
        io_handler: None,
        io_release: None,
    },
    Own {
        name: c"legacy",
        usage: c"layers legacy                           : an error as code for HAProxy before 2.6 prints it",
        parse: Some(print_legacy),
        io_handler: None,
        io_release: None,
    },
    Own {
        name: c"failing",
        usage: c"layers failing                          : parse says that all is done; there is a handler and a release",
        parse: Some(fail),
        io_handler: Some(once),
        io_release: Some(nothing),
    },
    Own {
        name: c"no-handler",
        usage: c"layers no-handler                       : parse asks for a handler that is not there",
        parse: Some(succeed),
        io_handler: None,
        io_release: Some(nothing),
    },
    Own {
        name: c"rounds",
        usage: c"layers rounds                           : a handler that is called very often",
        parse: Some(reserve),
        io_handler: Some(many_rounds),
        io_release: Some(nothing),
    },
    Own {
        name: c"memory",
        usage: c"layers memory                           : records how much of malloc's memory is in use",
        parse: Some(memory_in_use),
        io_handler: None,
        io_release: None,
    },
    Own {
        name: c"wait",
        usage: c"layers wait                             : waits for the client to leave, with a reserved context",
        parse: Some(reserve),
        io_handler: Some(wait),
        io_release: Some(nothing),
    },
    Own {
        name: c"wait-own",
        usage: c"layers wait-own                         : waits for the client to leave, with a context of its own",
        parse: Some(allocate),
        io_handler: Some(wait),
        io_release: Some(free_own),
    },
    Own {
        name: c"wait-null",
        usage: c"layers wait-null                        : waits for the client to leave, without a context",
        parse: Some(fail_to_allocate),
        io_handler: Some(wait),
        io_release: Some(free_own),
    },
];

pub(super) unsafe extern "C" fn once(_: Appctx) -> c_int {
    1
}

pub(super) unsafe extern "C" fn nothing(_: Appctx) {}

unsafe extern "C" fn memory_in_use(
    _: *mut *mut c_char,
    _: *mut c_char,
    appctx: Appctx,
    _: *mut c_void,
) -> c_int {
    // SAFETY: what the server has just passed.
    if let Some(work) = unsafe { Work::on(appctx) } {
        let bytes = allocated();
        work.probe(Probe::Allocated, bytes.is_some(), bytes.unwrap_or(0));
    }
    1
}

/// The client is not told anything: the command ends when it leaves.
pub(super) unsafe extern "C" fn wait(_: Appctx) -> c_int {
    0
}

pub(super) unsafe extern "C" fn succeed(
    _: *mut *mut c_char,
    _: *mut c_char,
    _: Appctx,
    _: *mut c_void,
) -> c_int {
    0
}

unsafe extern "C" fn fail(_: *mut *mut c_char, _: *mut c_char, _: Appctx, _: *mut c_void) -> c_int {
    1
}

/// Defines a `parse` that does something with the work at hand.
macro_rules! parse {
    ($($name:ident($work:ident) $body:block)*) => {
        $(pub(super) unsafe extern "C" fn $name(_: *mut *mut c_char, _: *mut c_char, appctx: Appctx, _: *mut c_void) -> c_int {
            // SAFETY: what the server has just passed.
            let Some($work) = (unsafe { Work::on(appctx) }) else { return 1 };
            $body
        })*
    };
}

pub(super) use parse;

parse! {
    reserve(work) {
        work.reserve(SMALL);
        0
    }

    reserve_most(work) {
        // Where the server does not tell how much fits, nothing is asked for.
        let most = work.storage().map_or(0, |(_, size)| size);
        if most > 0 {
            work.reserve(most);
        }
        0
    }

    reserve_too_much(work) {
        if let Some((_, size)) = work.storage().filter(|(_, size)| *size > 0) {
            work.probe(Probe::ReserveTooMuch, true, size as u64 + 1);
            work.reserve(size + 1);
        }
        0
    }

    dirty(work) {
        work.reserve(SMALL);
        work.dirty();
        0
    }

    allocate(work) {
        work.allocate();
        0
    }

    fail_to_allocate(work) {
        work.probe(Probe::OwnMemoryFailed, work.svcctx().is_none_or(|svcctx| svcctx == 0), 0);
        0
    }

    print(work) {
        work.print()
    }

    print_legacy(work) {
        work.print_unseen();
        work.look_at_legacy();
        work.set_legacy(c"layers: printed the old way\n");
        1
    }

    print_after_own(work) {
        // Never followed: it only must not be what is there afterwards.
        work.set_svcctx(work.appctx.addr());
        work.print()
    }
}

/// Ends after so many rounds.
unsafe fn rounds(appctx: Appctx, most: u32) -> c_int {
    // SAFETY: what the server has just passed.
    let Some(work) = (unsafe { Work::on(appctx) }) else { return 1 };
    if work.round() >= most {
        return 1;
    }
    work.wake();
    0
}

unsafe extern "C" fn some_rounds(appctx: Appctx) -> c_int {
    // SAFETY: as the server promises.
    unsafe { rounds(appctx, SOME) }
}

unsafe extern "C" fn many_rounds(appctx: Appctx) -> c_int {
    // SAFETY: as the server promises.
    unsafe { rounds(appctx, MANY) }
}

unsafe extern "C" fn reserve_again(appctx: Appctx) -> c_int {
    // SAFETY: what the server has just passed.
    if let Some(work) = unsafe { Work::on(appctx) } {
        work.reserve(SMALL);
    }
    // SAFETY: as the server promises.
    unsafe { rounds(appctx, SOME) }
}

pub(super) unsafe extern "C" fn check_own(appctx: Appctx) -> c_int {
    // SAFETY: what the server has just passed.
    if let Some(work) = unsafe { Work::on(appctx) } {
        work.check_own();
    }
    // SAFETY: as the server promises.
    unsafe { rounds(appctx, SOME) }
}

pub(super) unsafe extern "C" fn free_own(appctx: Appctx) {
    // SAFETY: what the server has just passed.
    let Some(work) = (unsafe { Work::on(appctx) }) else { return };
    // Without an allocation there is nothing to look at, and NULL to be tolerated.
    if work.entry.memory.load(std::sync::atomic::Ordering::Relaxed) != 0 {
        work.check_own();
    }
    work.free_own();
}
