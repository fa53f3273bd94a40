//! Functions and variables of the executable, by name.

use std::ffi::{CStr, c_void};

/// A symbol of the executable, or of what it is linked with.
pub(crate) fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a C string; the flag asks for the global scope.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}
