//! Own keywords that break a rule, each one: the rules must notice.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Own;
use super::context::Work;
use super::good::{nothing, once, parse, reserve, succeed};
use crate::keywords::{IoHandler, IoRelease};
use crate::server::{Appctx, function};

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

    fail_released(work) {
        // SAFETY: our own function, in the slot that the server has filled.
        unsafe { call_release(&work) };
        1
    }
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

/// The second round sees another `svcctx` than the first has left: [`crate::keywords`] changes it in between.
unsafe extern "C" fn wait_once(appctx: Appctx) -> c_int {
    // SAFETY: what the server has just passed.
    let Some(work) = (unsafe { Work::on(appctx) }) else { return 1 };
    if work.round() > 1 {
        return 1;
    }
    work.entry.meddle.store(true, Ordering::Relaxed);
    work.wake();
    0
}

unsafe extern "C" fn use_null(appctx: Appctx) {
    // SAFETY: what the server has just passed; the crash is on purpose.
    unsafe {
        if let Some(svcctx) = Work::on(appctx).and_then(|work| work.svcctx()) {
            std::ptr::with_exposed_provenance_mut::<u8>(svcctx).write_volatile(1);
        }
    }
}
