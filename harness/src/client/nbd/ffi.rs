//! The part of libnbd's C interface that the client uses (libnbd(3), 1.14).

#![allow(missing_docs, reason = "each function is documented in the manual page of its own name")]

use std::ffi::{c_char, c_int, c_uint, c_void};

#[repr(C)]
pub(super) struct Handle {
    _opaque: [u8; 0],
}

pub(super) type CompletionFn = extern "C" fn(user_data: *mut c_void, error: *mut c_int) -> c_int;
pub(super) type ListFn =
    extern "C" fn(user_data: *mut c_void, name: *const c_char, description: *const c_char) -> c_int;
pub(super) type ExtentFn = extern "C" fn(
    user_data: *mut c_void,
    metacontext: *const c_char,
    offset: u64,
    entries: *mut u32,
    count: usize,
    error: *mut c_int,
) -> c_int;

pub(super) type ChunkFn = extern "C" fn(
    user_data: *mut c_void,
    data: *const c_void,
    count: usize,
    offset: u64,
    status: c_uint,
    error: *mut c_int,
) -> c_int;

/// `nbd_completion_callback`, `nbd_list_callback` and `nbd_extent_callback` have this shape.
#[repr(C)]
pub(super) struct Closure<F> {
    pub(super) callback: Option<F>,
    pub(super) user_data: *mut c_void,
    pub(super) free: Option<extern "C" fn(*mut c_void)>,
}

impl<F> Closure<F> {
    pub(super) const NONE: Closure<F> =
        Closure { callback: None, user_data: std::ptr::null_mut(), free: None };
}

/// LIBNBD_TLS_REQUIRE.
pub(super) const TLS_REQUIRE: c_int = 2;
/// LIBNBD_AIO_DIRECTION_READ.
pub(super) const DIRECTION_READ: c_uint = 1;
/// LIBNBD_AIO_DIRECTION_WRITE.
pub(super) const DIRECTION_WRITE: c_uint = 2;

/// LIBNBD_READ_ERROR
pub(super) const READ_ERROR: c_uint = 3;

/// LIBNBD_SIZE_MINIMUM, PREFERRED and MAXIMUM.
pub(super) const SIZE_MINIMUM: c_int = 0;
/// The size at which requests are most efficient.
pub(super) const SIZE_PREFERRED: c_int = 1;
/// The largest request.
pub(super) const SIZE_MAXIMUM: c_int = 2;

unsafe extern "C" {
    pub(super) fn nbd_create() -> *mut Handle;
    pub(super) fn nbd_close(h: *mut Handle);
    pub(super) fn nbd_get_error() -> *const c_char;
    pub(super) fn nbd_get_errno() -> c_int;
    pub(super) fn nbd_set_export_name(h: *mut Handle, name: *const c_char) -> c_int;
    pub(super) fn nbd_set_request_block_size(h: *mut Handle, request: bool) -> c_int;
    pub(super) fn nbd_set_tls(h: *mut Handle, tls: c_int) -> c_int;
    pub(super) fn nbd_set_tls_username(h: *mut Handle, name: *const c_char) -> c_int;
    pub(super) fn nbd_set_tls_certificates(h: *mut Handle, folder: *const c_char) -> c_int;
    pub(super) fn nbd_set_tls_psk_file(h: *mut Handle, file: *const c_char) -> c_int;
    pub(super) fn nbd_set_full_info(h: *mut Handle, request: bool) -> c_int;
    pub(super) fn nbd_set_strict_mode(h: *mut Handle, flags: u32) -> c_int;
    pub(super) fn nbd_set_opt_mode(h: *mut Handle, enable: bool) -> c_int;
    pub(super) fn nbd_set_request_structured_replies(h: *mut Handle, request: bool) -> c_int;
    pub(super) fn nbd_add_meta_context(h: *mut Handle, name: *const c_char) -> c_int;
    pub(super) fn nbd_get_canonical_export_name(h: *mut Handle) -> *mut c_char;
    pub(super) fn nbd_get_export_description(h: *mut Handle) -> *mut c_char;
    pub(super) fn nbd_is_read_only(h: *mut Handle) -> c_int;
    pub(super) fn nbd_can_flush(h: *mut Handle) -> c_int;
    pub(super) fn nbd_can_fua(h: *mut Handle) -> c_int;
    pub(super) fn nbd_is_rotational(h: *mut Handle) -> c_int;
    pub(super) fn nbd_can_trim(h: *mut Handle) -> c_int;
    pub(super) fn nbd_can_zero(h: *mut Handle) -> c_int;
    pub(super) fn nbd_can_fast_zero(h: *mut Handle) -> c_int;
    pub(super) fn nbd_can_df(h: *mut Handle) -> c_int;
    pub(super) fn nbd_can_multi_conn(h: *mut Handle) -> c_int;
    pub(super) fn nbd_can_cache(h: *mut Handle) -> c_int;
    pub(super) fn nbd_can_meta_context(h: *mut Handle, name: *const c_char) -> c_int;
    pub(super) fn nbd_get_structured_replies_negotiated(h: *mut Handle) -> c_int;
    pub(super) fn nbd_get_block_size(h: *mut Handle, size_type: c_int) -> i64;
    pub(super) fn nbd_get_size(h: *mut Handle) -> i64;
    pub(super) fn nbd_aio_get_fd(h: *mut Handle) -> c_int;
    pub(super) fn nbd_aio_get_direction(h: *mut Handle) -> c_uint;
    pub(super) fn nbd_aio_notify_read(h: *mut Handle) -> c_int;
    pub(super) fn nbd_aio_notify_write(h: *mut Handle) -> c_int;
    pub(super) fn nbd_aio_connect_unix(h: *mut Handle, socket: *const c_char) -> c_int;
    pub(super) fn nbd_aio_connect_socket(h: *mut Handle, socket: c_int) -> c_int;
    pub(super) fn nbd_aio_opt_go(h: *mut Handle, done: Closure<CompletionFn>) -> c_int;
    pub(super) fn nbd_aio_opt_info(h: *mut Handle, done: Closure<CompletionFn>) -> c_int;
    pub(super) fn nbd_aio_opt_list(
        h: *mut Handle,
        list: Closure<ListFn>,
        done: Closure<CompletionFn>,
    ) -> c_int;
    pub(super) fn nbd_aio_opt_abort(h: *mut Handle) -> c_int;
    pub(super) fn nbd_aio_pread_structured(
        h: *mut Handle,
        buffer: *mut c_void,
        count: usize,
        offset: u64,
        chunk: Closure<ChunkFn>,
        done: Closure<CompletionFn>,
        flags: u32,
    ) -> i64;
    pub(super) fn nbd_aio_pwrite(
        h: *mut Handle,
        buffer: *const c_void,
        count: usize,
        offset: u64,
        done: Closure<CompletionFn>,
        flags: u32,
    ) -> i64;
    pub(super) fn nbd_aio_flush(h: *mut Handle, done: Closure<CompletionFn>, flags: u32) -> i64;
    pub(super) fn nbd_aio_trim(
        h: *mut Handle,
        count: u64,
        offset: u64,
        done: Closure<CompletionFn>,
        flags: u32,
    ) -> i64;
    pub(super) fn nbd_aio_zero(
        h: *mut Handle,
        count: u64,
        offset: u64,
        done: Closure<CompletionFn>,
        flags: u32,
    ) -> i64;
    pub(super) fn nbd_aio_cache(
        h: *mut Handle,
        count: u64,
        offset: u64,
        done: Closure<CompletionFn>,
        flags: u32,
    ) -> i64;
    pub(super) fn nbd_aio_block_status(
        h: *mut Handle,
        count: u64,
        offset: u64,
        extent: Closure<ExtentFn>,
        done: Closure<CompletionFn>,
        flags: u32,
    ) -> i64;
    pub(super) fn nbd_aio_disconnect(h: *mut Handle, flags: u32) -> c_int;
    pub(super) fn nbd_aio_is_connecting(h: *mut Handle) -> c_int;
    pub(super) fn nbd_aio_is_negotiating(h: *mut Handle) -> c_int;
    pub(super) fn nbd_aio_is_ready(h: *mut Handle) -> c_int;
    pub(super) fn nbd_aio_is_dead(h: *mut Handle) -> c_int;
    pub(super) fn nbd_aio_is_closed(h: *mut Handle) -> c_int;
    pub(super) fn nbd_aio_command_completed(h: *mut Handle, cookie: u64) -> c_int;
    pub(super) fn free(pointer: *mut c_void);
}

const _: () = assert!(size_of::<c_uint>() == 4);

pub(super) type Question = unsafe extern "C" fn(*mut Handle) -> c_int;
