//! Pointers that callbacks and functions of the server share.

use std::ffi::c_void;

use layers_trace::digest;

/// `void *buf`
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Buffer(pub *mut c_void);

impl Buffer {
    /// Returns the digest of this many bytes; none where the pointer is NULL.
    ///
    /// # Safety
    ///
    /// The buffer holds as many bytes, unless it is NULL.
    pub(crate) unsafe fn digest(self, count: u32) -> u64 {
        if self.0.is_null() {
            return digest::NONE;
        }
        // SAFETY: as the caller promises.
        digest::digest(unsafe { std::slice::from_raw_parts(self.0.cast_const().cast(), count as usize) })
    }
}

/// `struct nbdkit_extents *`
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Extents(pub *mut c_void);

/// `struct nbdkit_exports *`
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Exports(pub *mut c_void);

/// `nbdkit_backend *`
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Backend(pub *mut c_void);

/// `nbdkit_context *`
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Context(pub *mut c_void);

/// `nbdkit_next *`
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Next(pub *mut c_void);
