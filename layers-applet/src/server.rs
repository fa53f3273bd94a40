//! The server's own functions, by name: none is linked, and versions lack some.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use crate::symbols::symbol;

/// An appctx: the instrument knows its fields by [`crate::layout`] alone.
pub(crate) type Appctx = *mut c_void;

/// What the instrument calls.
pub(crate) struct Server {
    /// Runs a function once the configuration has been read.
    pub(crate) register_post_check: unsafe extern "C" fn(extern "C" fn() -> c_int),
    /// Adds a list of keywords.
    pub(crate) register_keywords: unsafe extern "C" fn(*mut c_void),
    /// Since 2.6.
    pub(crate) reserve: Option<unsafe extern "C" fn(Appctx, usize) -> *mut c_void>,
    /// Since 2.6, in a later release of it.
    pub(crate) reset: Option<unsafe extern "C" fn(Appctx) -> *mut c_void>,
    /// Prints an error through a print helper when the level is too low.
    pub(crate) has_level: Option<unsafe extern "C" fn(Appctx, c_int) -> c_int>,
    /// Wakes the applet that is its second argument.
    pub(crate) wake: Option<unsafe extern "C" fn(*mut c_void, Appctx, c_uint) -> *mut c_void>,
    /// As it says itself.
    pub(crate) version: String,
}

impl Server {
    /// `None` in any program but HAProxy.
    pub(crate) fn find() -> Option<Server> {
        let register_post_check = symbol(c"hap_register_post_check")?;
        let register_keywords = symbol(c"cli_register_kw")?;
        let version = symbol(c"haproxy_version")?;
        let optional = |name: &CStr| symbol(name).map_or(0, |found| found.addr());
        // SAFETY: HAProxy's functions of these names have these types in every version since 2.2, and
        // `haproxy_version` is an array of characters that ends with a NUL.
        unsafe {
            Some(Server {
                register_post_check: function(register_post_check.addr())?,
                register_keywords: function(register_keywords.addr())?,
                reserve: function(optional(c"applet_reserve_svcctx")),
                reset: function(optional(c"applet_reset_svcctx")),
                has_level: function(optional(c"cli_has_level")),
                wake: function(optional(c"hlua_applet_wakeup")),
                version: CStr::from_ptr(version.cast::<c_char>()).to_string_lossy().into_owned(),
            })
        }
    }

    /// The first two numbers of the version.
    pub(crate) fn release(&self) -> (u32, u32) {
        let mut numbers = self.version.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

/// The function at this address.
///
/// # Safety
///
/// There is one, of this type, or the address is 0.
pub(crate) unsafe fn function<F: Copy>(address: usize) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<usize>()) };
    // SAFETY: a function pointer, as the caller promises.
    (address != 0).then(|| unsafe { std::mem::transmute_copy::<usize, F>(&address) })
}
