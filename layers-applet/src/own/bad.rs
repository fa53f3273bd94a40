//! Own keywords that break a rule, each one: the rules must notice.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use layers_trace::Probe;

use super::context::Work;
use super::good::{check_own, free_own, nothing, once, parse, reserve, succeed};
use super::interference::Interference;
use super::keyword::{Own, parse_of};
use crate::server::{Appctx, function};
use crate::slots::{IoHandler, IoRelease};

pub(super) const ALL: &[Own] = &[
    Own {
        name: c"bad-print",
        usage: c"layers bad-print                        : an error printed in the middle of a handler",
        parse: Some(reserve),
        io_handler: Some(print),
        io_release: Some(nothing),
    },
    Own {
        name: c"bad-linked",
        usage: c"layers bad-linked                       : a list element in the storage area, linked for ever",
        parse: Some(link),
        io_handler: Some(once),
        io_release: Some(nothing),
    },
    Own {
        name: c"bad-release-twice",
        usage: c"layers bad-release-twice                : a handler that calls its own release, as the server does",
        parse: Some(reserve),
        io_handler: Some(release_itself),
        io_release: Some(nothing),
    },
    Own {
        name: c"bad-after-release",
        usage: c"layers bad-after-release                : a handler that goes on after its release",
        parse: Some(reserve),
        io_handler: Some(go_on),
        io_release: Some(nothing),
    },
    Own {
        name: c"bad-release-after-failure",
        usage: c"layers bad-release-after-failure        : a parse that fails, and calls the release before it does",
        parse: Some(fail_released),
        io_handler: Some(once),
        io_release: Some(nothing),
    },
    Own {
        name: c"bad-context",
        usage: c"layers bad-context                      : svcctx is another one behind the handler's back",
        parse: Some(reserve),
        io_handler: Some(wait_once),
        io_release: Some(nothing),
    },
    Own {
        name: c"bad-context-first",
        usage: c"layers bad-context-first                : svcctx is another one when the handler is called first",
        parse: Some(reserve_and_meddle),
        io_handler: Some(once),
        io_release: None,
    },
    Own {
        name: c"bad-context-release",
        usage: c"layers bad-context-release              : svcctx is another one when it is released",
        parse: Some(reserve),
        io_handler: Some(meddle_at_end),
        io_release: Some(nothing),
    },
    Own {
        name: c"bad-bytes",
        usage: c"layers bad-bytes                        : somebody writes to the storage area between two calls",
        parse: Some(reserve),
        io_handler: Some(written_to),
        io_release: None,
    },
    Own {
        name: c"bad-lost-release",
        usage: c"layers bad-lost-release                 : the server forgets the release while the command waits",
        parse: Some(reserve),
        io_handler: Some(lose_release),
        io_release: Some(nothing),
    },
    Own {
        name: c"bad-parse-again",
        usage: c"layers bad-parse-again                  : a command that begins with what another has left",
        parse: Some(parse_again),
        io_handler: Some(once),
        io_release: None,
    },
    Own {
        name: c"bad-reserve",
        usage: c"layers bad-reserve                      : svcctx is not where reserving should have put it",
        parse: Some(reserve_elsewhere),
        io_handler: Some(once),
        io_release: None,
    },
    Own {
        name: c"bad-survivor",
        usage: c"layers bad-survivor                     : a server that should have stopped goes on",
        parse: Some(survive),
        io_handler: Some(once),
        io_release: None,
    },
    Own {
        name: c"bad-own-memory",
        usage: c"layers bad-own-memory                   : somebody writes to what the keyword has allocated",
        parse: Some(allocate_and_scribble),
        io_handler: Some(check_own),
        io_release: Some(free_own),
    },
    Own {
        name: c"bad-print-context",
        usage: c"layers bad-print-context                : svcctx is not where printing should have put it",
        parse: Some(print_elsewhere),
        io_handler: None,
        io_release: None,
    },
    Own {
        name: c"bad-legacy",
        usage: c"layers bad-legacy                       : the old fields do not hold what was printed",
        parse: Some(misplace_legacy),
        io_handler: None,
        io_release: None,
    },
    Own {
        name: c"bad-release-null",
        usage: c"layers bad-release-null                 : a release that takes svcctx for granted: the server crashes",
        parse: Some(succeed),
        io_handler: Some(once),
        io_release: Some(use_null),
    },
];

/// A list head outside any appctx.
static HEAD: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

parse! {
    link(work) {
        work.reserve(64);
        let (Some((storage, _)), [next, previous]) = (work.storage(), &HEAD) else { return 1 };
        let (head, element) = (HEAD.as_ptr().addr(), storage.addr());
        next.store(element, Ordering::Relaxed);
        previous.store(element, Ordering::Relaxed);
        // SAFETY: the first two words of the storage area.
        unsafe { storage.cast::<[usize; 2]>().write([head, head]) };
        0
    }

    reserve_and_meddle(work) {
        work.reserve(16);
        work.ask_for(Interference::Svcctx);
        0
    }

    reserve_elsewhere(work) {
        work.reserve(16);
        work.set_svcctx(work.appctx.addr());
        work.look_at_reserved(16);
        0
    }

    survive(work) {
        work.probe(Probe::ReserveTooMuch, true, u64::MAX);
        0
    }

    allocate_and_scribble(work) {
        work.allocate();
        work.scribble();
        0
    }

    print_elsewhere(work) {
        work.print_unseen();
        let printed = work.svcctx();
        work.set_svcctx(work.appctx.addr());
        work.look_at_print_context();
        work.set_svcctx(printed.unwrap_or_default());
        1
    }

    misplace_legacy(work) {
        work.print_unseen();
        work.set_legacy(c"layers: not what was printed\n");
        work.look_at_legacy();
        1
    }

    fail_released(work) {
        // SAFETY: our own function, in the slot that the server has filled.
        unsafe { call_release(&work) };
        1
    }
}

/// The first call leaves its context as it is, and makes a second one.
unsafe extern "C" fn parse_again(
    words: *mut *mut c_char,
    payload: *mut c_char,
    appctx: Appctx,
    private: *mut c_void,
) -> c_int {
    // SAFETY: what the server has just passed.
    let Some(work) = (unsafe { Work::on(appctx) }) else { return 1 };
    static AGAIN: AtomicBool = AtomicBool::new(false);
    if AGAIN.swap(true, Ordering::Relaxed) {
        return 0;
    }
    work.reserve(16);
    work.dirty();
    if let Some(parse) = parse_of(c"bad-parse-again") {
        // SAFETY: the trampoline of this function, with the server's arguments.
        unsafe { parse(words, payload, appctx, private) };
    }
    AGAIN.store(false, Ordering::Relaxed);
    0
}

/// # Safety
///
/// `work` is on what the server has just passed.
unsafe fn call_release(work: &Work) {
    let Some(offset) = work.instrument.layout.io_handler() else { return };
    // SAFETY: a field of the appctx; the function in it has this type.
    let release = unsafe { function::<IoRelease>(work.appctx.byte_add(offset + 8).cast::<usize>().read()) };
    if let Some(release) = release {
        // SAFETY: the appctx that it is for.
        unsafe { release(work.appctx) };
    }
}

unsafe extern "C" fn print(appctx: Appctx) -> c_int {
    // SAFETY: what the server has just passed.
    if let Some(work) = unsafe { Work::on(appctx) } {
        work.print();
    }
    0
}

unsafe extern "C" fn release_itself(appctx: Appctx) -> c_int {
    // SAFETY: what the server has just passed.
    if let Some(work) = unsafe { Work::on(appctx) } {
        // SAFETY: as above.
        unsafe { call_release(&work) };
    }
    1
}

unsafe extern "C" fn go_on(appctx: Appctx) -> c_int {
    // SAFETY: what the server has just passed.
    let Some(work) = (unsafe { Work::on(appctx) }) else { return 1 };
    if work.round() > 1 {
        return 1;
    }
    // SAFETY: as above.
    unsafe { call_release(&work) };
    let Some(offset) = work.instrument.layout.io_handler() else { return 1 };
    // SAFETY: a field of the appctx; the function in it has this type, and is called a second time only.
    unsafe {
        if let Some(again) = function::<IoHandler>(appctx.byte_add(offset).cast::<usize>().read()) {
            again(appctx);
        }
    }
    1
}

/// Has something done to the appctx between its first round and its second, which is its last.
macro_rules! meddled_with {
    ($($name:ident: $meddling:expr;)*) => {
        $(unsafe extern "C" fn $name(appctx: Appctx) -> c_int {
            // SAFETY: what the server has just passed.
            let Some(work) = (unsafe { Work::on(appctx) }) else { return 1 };
            if work.round() > 1 {
                return 1;
            }
            work.ask_for($meddling);
            work.wake();
            0
        })*
    };
}

meddled_with! {
    wait_once: Interference::Svcctx;
    written_to: Interference::Storage;
}

/// Waits, and is never released.
unsafe extern "C" fn lose_release(appctx: Appctx) -> c_int {
    // SAFETY: what the server has just passed.
    if let Some(work) = unsafe { Work::on(appctx) } {
        work.ask_for(Interference::Release);
    }
    0
}

unsafe extern "C" fn meddle_at_end(appctx: Appctx) -> c_int {
    // SAFETY: what the server has just passed.
    if let Some(work) = unsafe { Work::on(appctx) } {
        work.ask_for(Interference::Svcctx);
    }
    1
}

unsafe extern "C" fn use_null(appctx: Appctx) {
    // SAFETY: what the server has just passed; the crash is on purpose.
    unsafe {
        if let Some(svcctx) = Work::on(appctx).and_then(|work| work.svcctx()) {
            std::ptr::with_exposed_provenance_mut::<u8>(svcctx).write_volatile(1);
        }
    }
}
