//! What the preloaded library of `layers watch` and the instruments tell each other inside one process.
//!
//! The library exports one [`Handover`] under [`SYMBOL`]. Nobody but the server's only thread uses it while the server
//! loads its modules, and the handler of a signal only reads [`Handover::signalled`]. This file needs nothing but the
//! core library: the preloaded one consists of it, too.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::sync::atomic::{AtomicPtr, AtomicU8};

/// Under this name the library exports its [`Handover`].
pub const SYMBOL: &CStr = c"layers_watch_handover";

/// Environment variable that names the directory of the run: the instruments are in it, and the traces go into it.
pub const DIRECTORY_VARIABLE: &CStr = c"LAYERS_WATCH";

/// In that directory: the instruments, by the functions that they stand in front of.
pub const PLUGIN: &CStr = c"layers-plugin.so";
/// The same for filters.
pub const FILTER: &CStr = c"layers-filter.so";
/// The same for HAProxy.
pub const APPLET: &CStr = c"layers-applet.so";
/// In that directory: where the traces are.
pub const TRACES: &str = "traces";
/// In that directory, where traces are read while they are written: how many records each has places for, in decimal digits.
pub const PLACES: &str = "places";
/// In that directory: the library itself.
pub const LIBRARY: &str = "layers-watch.so";

/// Bytes of the path of a trace, with its NUL.
pub const PATH_SIZE: usize = 4096;

/// The memory that both use.
#[derive(Debug)]
#[repr(C)]
pub struct Handover {
    /// The function of the module that the server is about to call, in front of which the instrument stands; NULL when
    /// the instrument has taken it.
    pub target: AtomicPtr<c_void>,
    /// Called in the handler of a signal that the server has a handler for, before that: a `fn(c_int)`, NULL for none.
    pub signalled: AtomicPtr<c_void>,
    /// Path of the trace of this process, a C string; empty while there is none.
    pub trace: [AtomicU8; PATH_SIZE],
}

/// The type of [`Handover::signalled`].
pub type Signalled = extern "C" fn(c_int);

impl Handover {
    /// Nothing has been said.
    pub const fn new() -> Handover {
        Handover {
            target: AtomicPtr::new(core::ptr::null_mut()),
            signalled: AtomicPtr::new(core::ptr::null_mut()),
            trace: [const { AtomicU8::new(0) }; PATH_SIZE],
        }
    }

    /// The one of this process, where the library is loaded.
    pub fn of_process() -> Option<&'static Handover> {
        // SAFETY: a C string; the flag asks for the global scope.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, SYMBOL.as_ptr()) };
        // SAFETY: NULL, or what the library exports under this name, which stays for as long as the process.
        unsafe { found.cast::<Handover>().as_ref() }
    }

    /// The name of the file in which an address lies, as the dynamic linker knows it.
    pub fn file_of(address: usize) -> Option<&'static CStr> {
        let mut info = core::mem::MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: dladdr writes the structure; zeroes are one.
        let info = unsafe {
            if libc::dladdr(address as *const c_void, info.as_mut_ptr()) == 0 {
                return None;
            }
            info.assume_init()
        };
        let name: *const c_char = info.dli_fname;
        // SAFETY: a C string that stays for as long as the file is loaded.
        (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) })
    }
}

impl Default for Handover {
    fn default() -> Handover {
        Handover::new()
    }
}
