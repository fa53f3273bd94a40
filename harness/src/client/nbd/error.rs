//! What libnbd says of its last failure.

use std::ffi::{CStr, c_int};

use super::super::ClientError;
use super::ffi;
use crate::foreign::visible::visible;

pub(super) fn check(result: c_int) -> Result<(), ClientError> {
    if result < 0 { Err(last_error()) } else { Ok(()) }
}

pub(super) fn last_error() -> ClientError {
    // SAFETY: no preconditions; the error belongs to this thread.
    let errno = unsafe { ffi::nbd_get_errno() };
    ClientError::Refused { message: last_message(), errno: if errno == 0 { libc::EIO } else { errno } }
}

pub(super) fn last_message() -> String {
    // SAFETY: no preconditions; the string belongs to this thread and lives until its next call of libnbd.
    unsafe {
        let message = ffi::nbd_get_error();
        if message.is_null() {
            return "libnbd does not say why".to_owned();
        }
        visible(&CStr::from_ptr(message).to_string_lossy()).into_owned()
    }
}
