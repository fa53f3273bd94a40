//! An HTTP service of the instrument's own: the exporter of metrics, but its `init` fails.
//!
//! A service is configured by a function that fills an applet into a rule of the configuration. What a rule looks like only
//! the server knows: its own exporter fills the rule, and the functions that stand there then are replaced by ours.

use std::ffi::{c_char, c_int, c_void};
use std::sync::OnceLock;

use crate::memory::{self, word};
use crate::server::{Appctx, function};
use crate::{Instrument, applets, symbol};

/// Fills a rule: arguments, position in them, proxy, rule, error.
type Fill =
    unsafe extern "C" fn(*mut *const c_char, *mut c_int, *mut c_void, *mut c_void, *mut *mut c_char) -> c_int;

/// Its name in `http-request use-service`.
const NAME: &std::ffi::CStr = c"layers-failing-init";
const EXPORTER: &[u8] = b"prometheus-exporter";
/// Bytes of a rule that are looked through.
const RULE: usize = 512;
/// What [`Fill`] returns when the configuration is wrong.
const WRONG: c_int = 1;

static NODE: OnceLock<usize> = OnceLock::new();

/// Adds the service to the server's, where it has any.
pub(crate) fn register(instrument: &Instrument) {
    let Some(add) = symbol(c"service_keywords_register") else { return };
    if !applets::add_failing(instrument, NAME.to_bytes()) {
        return;
    }
    // The node of a list, name and function, and an empty entry behind it.
    let mut list = [0; 16];
    [_, _, list[2], list[3]] = [0, 0, NAME.as_ptr().addr(), fill as *const () as usize];
    let list: &'static mut [usize; 16] = Box::leak(Box::new(list));
    let node = *NODE.get_or_init(|| list.as_mut_ptr().addr());
    // SAFETY: the server's function takes a list of services, which lives for ever.
    if let Some(add) = unsafe { function::<unsafe extern "C" fn(*mut c_void)>(add.addr()) } {
        // SAFETY: as above.
        unsafe { add(node as *mut c_void) };
    }
}

unsafe extern "C" fn fill(
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
        if let Some(ours) = word(address).and_then(applets::failing_for) {
            // SAFETY: a word of the rule that holds a function of the exporter's applet.
            unsafe { (address as *mut usize).write(ours) };
        }
    }
    result
}

/// The function that fills in the server's exporter, found on the ring that our own service is on.
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

/// It says that it cannot begin.
pub(crate) unsafe extern "C" fn fail(_: Appctx, _: *mut c_void, _: *mut c_void) -> c_int {
    -1
}

/// There is nothing to release; that it is called at all is for a rule to judge.
pub(crate) unsafe extern "C" fn release(_: Appctx) {}
