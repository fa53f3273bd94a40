//! The calling thread's `errno`.

use std::cell::Cell;
use std::ffi::c_int;

thread_local! {
    static TOLD: Cell<c_int> = const { Cell::new(0) };
}

/// The plugin gives this to `nbdkit_set_error`, or, with 0, has not given anything yet in this call.
pub fn tell(error: c_int) {
    TOLD.set(error);
}

/// What the plugin has given to `nbdkit_set_error` in this call; 0 for nothing.
pub fn told() -> c_int {
    TOLD.get()
}

/// The current value.
pub fn get() -> c_int {
    // SAFETY: the location is valid for the calling thread.
    unsafe { *libc::__errno_location() }
}

/// Sets it.
pub fn set(value: c_int) {
    // SAFETY: as in `get`.
    unsafe { *libc::__errno_location() = value }
}
