//! HTTP services of the instrument's own: copies of the exporter of metrics, which do something else in one of its calls.
//!
//! A service is configured by a function that fills an applet into a rule of the configuration. What a rule looks like only
//! the server knows: its own exporter fills the rule, and the functions that stand there then are replaced by ours.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::context::Work;
use super::interference::Interference;
use crate::appctx::{Entry, mark_given_back};
use crate::applets;
use crate::applets::{Act, Init, OWN, number_of_own, trampolines};
use crate::instrument::{Instrument, instrument};
use crate::memory::{self, word};
use crate::server::{Appctx, function};
use crate::symbols::symbol;

/// Fills a rule: arguments, position in them, proxy, rule, error.
type Fill =
    unsafe extern "C" fn(*mut *const c_char, *mut c_int, *mut c_void, *mut c_void, *mut *mut c_char) -> c_int;

const EXPORTER: &[u8] = b"prometheus-exporter";
/// Bytes of a rule that are looked through.
const RULE: usize = 512;
/// What [`Fill`] returns when the configuration is wrong.
const WRONG: c_int = 1;

/// A service: its name in `http-request use-service`, and what is done in place of the exporter's functions.
struct Service {
    name: &'static CStr,
    fill: Fill,
    init: Option<Init>,
    fct: Option<Act>,
    release: Option<Act>,
}

const SERVICES: [Service; OWN] = [
    // It says that it cannot begin.
    Service {
        name: c"layers-failing-init",
        fill: fill::<0>,
        init: Some(fail),
        fct: None,
        release: Some(nothing),
    },
    // The exporter, under a name of its own.
    Service { name: c"layers-service", fill: fill::<1>, init: None, fct: None, release: None },
    // Its svcctx is another one each time that it is called.
    Service {
        name: c"layers-bad-context",
        fill: fill::<2>,
        init: None,
        fct: Some(go_on_elsewhere),
        release: Some(release_elsewhere),
    },
    // It begins with a svcctx that is not NULL.
    Service {
        name: c"layers-bad-begin",
        fill: fill::<3>,
        init: Some(begin_again),
        fct: None,
        release: Some(nothing),
    },
    // It is called by another thread.
    Service {
        name: c"layers-bad-thread",
        fill: fill::<4>,
        init: Some(begin_elsewhere),
        fct: Some(nothing),
        release: Some(nothing),
    },
    // It is released though it could not begin.
    Service {
        name: c"layers-bad-release",
        fill: fill::<5>,
        init: Some(fail),
        fct: None,
        release: Some(nothing),
    },
    // It is called after its release.
    Service { name: c"layers-bad-late", fill: fill::<6>, init: None, fct: Some(unless_late), release: None },
    // It is released, and again when its memory seems to be somebody else's.
    Service {
        name: c"layers-bad-release-again",
        fill: fill::<7>,
        init: Some(fail),
        fct: None,
        release: Some(nothing),
    },
];
const BEGUN_AGAIN: usize = 3;
const ON_ANOTHER_THREAD: usize = 4;
const RELEASED_IN_VAIN: usize = 5;
const CALLED_LATE: usize = 6;
const RELEASED_AGAIN: usize = 7;

/// Words of a list of one: the node, name and function, and an empty entry behind them, however large an entry is.
const LIST: usize = 16;

static NODE: OnceLock<usize> = OnceLock::new();

/// Adds the services to the server's, where it has any.
pub(crate) fn register(instrument: &Instrument) {
    let (Some(add), Some(of_exporter)) = (symbol(c"service_keywords_register"), applets::exporter()) else {
        return;
    };
    // SAFETY: the server's function takes a list of services.
    let Some(add) = (unsafe { function::<unsafe extern "C" fn(*mut c_void)>(add.addr()) }) else { return };
    applets::OWN_SERVICES.get_or_init(|| applets::OwnServices { after_init, after_release });
    for (index, service) in SERVICES.iter().enumerate() {
        let [init, fct, release] = of_exporter;
        let functions = [
            service.init.map_or(init, |f| f as usize),
            service.fct.map_or(fct, |f| f as usize),
            service.release.map_or(release, |f| f as usize),
        ];
        applets::add_own(instrument, number_of_own(index), functions, service.name.to_bytes());
        let mut list = [0; LIST];
        [_, _, list[2], list[3]] = [0, 0, service.name.as_ptr().addr(), service.fill as *const () as usize];
        let list: &'static mut [usize; LIST] = Box::leak(Box::new(list));
        // SAFETY: a list that lives for ever.
        unsafe { add(list.as_mut_ptr().cast()) };
        NODE.get_or_init(|| list.as_ptr().addr());
    }
}

unsafe extern "C" fn fill<const INDEX: usize>(
    arguments: *mut *const c_char,
    position: *mut c_int,
    proxy: *mut c_void,
    rule: *mut c_void,
    error: *mut *mut c_char,
) -> c_int {
    let Some(exporter) = exporter() else { return WRONG };
    // SAFETY: the exporter's own function, of this type, with the server's arguments.
    let Some(of_exporter) = (unsafe { function::<Fill>(exporter) }) else { return WRONG };
    // SAFETY: as above.
    let result = unsafe { of_exporter(arguments, position, proxy, rule, error) };
    for offset in (0..RULE).step_by(8) {
        let address = rule.addr() + offset;
        if let Some(ours) = word(address).and_then(|there| applets::in_place_of(there, number_of_own(INDEX)))
        {
            // SAFETY: a word of the rule that holds a function of the exporter's applet.
            unsafe { (address as *mut usize).write(ours) };
        }
    }
    result
}

/// The function that fills in the server's exporter, found on the ring that our own services are on.
fn exporter() -> Option<usize> {
    let own = *NODE.get()?;
    let mut node = word(own)?;
    for _ in 0..64 {
        if node == own {
            return None;
        }
        let name = word(node + 16).and_then(|name| memory::text(name, 64));
        if name.as_deref() == Some(EXPORTER) {
            return word(node + 24);
        }
        node = word(node)?;
    }
    None
}

/// What `init` returns when it fails: before 2.6 -1 says that it has to be called again.
fn failed() -> c_int {
    if instrument().is_some_and(|instrument| instrument.server.release() < (2, 6)) { 0 } else { -1 }
}

unsafe extern "C" fn fail(_: Appctx, _: *mut c_void, _: *mut c_void) -> c_int {
    failed()
}

unsafe extern "C" fn nothing(_: Appctx) {}

/// Has `init` called again, by the server as it seems, with what the first call has reserved.
unsafe extern "C" fn begin_again(appctx: Appctx, second: *mut c_void, third: *mut c_void) -> c_int {
    static AGAIN: AtomicBool = AtomicBool::new(false);
    if AGAIN.swap(true, Ordering::Relaxed) {
        return failed();
    }
    // SAFETY: what the server has just passed.
    if let Some(work) = unsafe { Work::on(appctx) } {
        work.reserve(16);
    }
    if let Some((init, ..)) = trampolines(number_of_own(BEGUN_AGAIN)) {
        // SAFETY: the trampoline of this function, with the server's arguments.
        unsafe { init(appctx, second, third) };
    }
    AGAIN.store(false, Ordering::Relaxed);
    failed()
}

/// Has the applet's function, which does nothing, called by another thread.
unsafe extern "C" fn begin_elsewhere(appctx: Appctx, _: *mut c_void, _: *mut c_void) -> c_int {
    let address = appctx.addr();
    if let Some((_, fct, _)) = trampolines(number_of_own(ON_ANOTHER_THREAD)) {
        // SAFETY: this thread, which has the appctx, waits meanwhile.
        let _ = std::thread::spawn(move || unsafe { fct(address as Appctx) }).join();
    }
    failed()
}

/// The exporter's function with its own svcctx, and another one until the next call.
unsafe extern "C" fn go_on_elsewhere(appctx: Appctx) {
    // SAFETY: what the server has just passed.
    let Some(work) = (unsafe { Work::on(appctx) }) else { return };
    restore(&work);
    // SAFETY: as above.
    unsafe { of_exporter(1, appctx) };
    work.entry.memory.store(work.svcctx().unwrap_or_default(), Ordering::Relaxed);
    work.ask_for(Interference::Svcctx);
}

unsafe extern "C" fn release_elsewhere(appctx: Appctx) {
    // SAFETY: what the server has just passed.
    if let Some(work) = unsafe { Work::on(appctx) } {
        restore(&work);
    }
    // SAFETY: as above.
    unsafe { of_exporter(2, appctx) };
}

fn restore(work: &Work) {
    let memory = work.entry.memory.swap(0, Ordering::Relaxed);
    if memory != 0 {
        work.set_svcctx(memory);
    }
}

/// # Safety
///
/// `appctx` is what the server has just passed, and `index` that of `fct` or `release`.
unsafe fn of_exporter(index: usize, appctx: Appctx) {
    let address = applets::exporter().and_then(|functions| functions.get(index).copied()).unwrap_or_default();
    // SAFETY: the exporter's own function of this type, or none.
    if let Some(act) = unsafe { function::<Act>(address) } {
        // SAFETY: as the caller promises.
        unsafe { act(appctx) };
    }
}

static LATE: AtomicBool = AtomicBool::new(false);

/// The exporter's function, but for the call that comes too late.
unsafe extern "C" fn unless_late(appctx: Appctx) {
    if !LATE.load(Ordering::Relaxed) {
        // SAFETY: what the server has just passed.
        unsafe { of_exporter(1, appctx) };
    }
}

/// The `init` of the applet with this number has returned.
///
/// # Safety
///
/// `appctx` is what the server has passed to it, and `entry` is its entry.
unsafe fn after_init(number: usize, appctx: Appctx, entry: &Entry) {
    entry.meddle.store(0, Ordering::Relaxed);
    if number == number_of_own(RELEASED_IN_VAIN)
        && let Some((.., release)) = trampolines(number)
    {
        // SAFETY: the trampoline of a function that does nothing.
        unsafe { release(appctx) };
    }
    if number == number_of_own(RELEASED_AGAIN)
        && let Some((.., release)) = trampolines(number)
    {
        // SAFETY: as above.
        unsafe { release(appctx) };
        // SAFETY: the appctx is still there.
        unsafe { mark_given_back(appctx) };
        // SAFETY: as above.
        unsafe { release(appctx) };
    }
}

/// The `release` of the applet with this number has returned.
///
/// # Safety
///
/// `appctx` is what the server has passed to it.
unsafe fn after_release(number: usize, appctx: Appctx) {
    if number == number_of_own(CALLED_LATE)
        && let Some((_, fct, _)) = trampolines(number)
    {
        LATE.store(true, Ordering::Relaxed);
        // SAFETY: the trampoline of a function that does nothing now; the appctx is still there.
        unsafe { fct(appctx) };
        LATE.store(false, Ordering::Relaxed);
    }
}
