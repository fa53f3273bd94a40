//! The functions of nbdkit that the instruments link: only such as every server from 1.26 on has.
//!
//! Whatever came later is looked up with dlsym where it is needed.

use std::ffi::{c_char, c_int, c_uint};

use crate::pointers::{Backend, Context, Exports, Extents, Next};

/// `struct nbdkit_export`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the header's names")]
pub struct Export {
    pub name: *mut c_char,
    pub description: *mut c_char,
}

/// `struct nbdkit_extent`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the header's names, but for `type`")]
pub struct Extent {
    pub offset: u64,
    pub length: u64,
    pub kind: u32,
}

#[allow(missing_docs, reason = "nbdkit-plugin(3) and nbdkit-filter(3) document them")]
unsafe extern "C" {
    pub fn nbdkit_error(format: *const c_char, ...);
    pub fn nbdkit_set_error(err: c_int);
    pub fn nbdkit_parse_size(text: *const c_char) -> i64;
    pub fn nbdkit_export_name() -> *const c_char;
    pub fn nbdkit_is_tls() -> c_int;
    pub fn nbdkit_strdup_intern(text: *const c_char) -> *const c_char;
    pub fn nbdkit_add_export(exports: Exports, name: *const c_char, description: *const c_char) -> c_int;
    pub fn nbdkit_exports_count(exports: Exports) -> usize;
    pub fn nbdkit_get_export(exports: Exports, index: usize) -> Export;
    pub fn nbdkit_add_extent(extents: Extents, offset: u64, length: u64, kind: u32) -> c_int;
    pub fn nbdkit_extents_count(extents: Extents) -> usize;
    pub fn nbdkit_get_extent(extents: Extents, index: usize) -> Extent;
    pub fn nbdkit_context_get_backend(context: Context) -> Backend;
    pub fn nbdkit_shutdown();
    pub fn nbdkit_nanosleep(seconds: c_uint, nanoseconds: c_uint) -> c_int;
    pub fn nbdkit_next_context_open(
        backend: Backend,
        readonly: c_int,
        export_name: *const c_char,
        shared: c_int,
    ) -> Next;
    pub fn nbdkit_next_context_close(next: Next);
    pub fn nbdkit_context_set_next(context: Context, next: Next) -> Next;
}

/// What any layer may ask of the server beside its work.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the fields are named after the functions")]
pub struct Services {
    pub shutdown: unsafe extern "C" fn(),
    pub nanosleep: unsafe extern "C" fn(c_uint, c_uint) -> c_int,
}

impl Services {
    /// Those of the server that loaded this image.
    #[inline]
    pub fn of_server() -> Services {
        Services { shutdown: nbdkit_shutdown, nanosleep: nbdkit_nanosleep }
    }
}

/// How to look into the server's lists of exports and extents.
///
/// The functions are in nbdkit-filter.h only, but the server exports them to plugins just as well.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the fields are named after the functions")]
pub struct Lists {
    pub exports_count: unsafe extern "C" fn(Exports) -> usize,
    pub export: unsafe extern "C" fn(Exports, usize) -> Export,
    pub extents_count: unsafe extern "C" fn(Extents) -> usize,
    pub extent: unsafe extern "C" fn(Extents, usize) -> Extent,
}

impl Lists {
    /// Those of the server that loaded this image.
    #[inline]
    pub fn of_server() -> Lists {
        Lists {
            exports_count: nbdkit_exports_count,
            export: nbdkit_get_export,
            extents_count: nbdkit_extents_count,
            extent: nbdkit_get_extent,
        }
    }
}
