//! Data callbacks: passed on, or, where nothing is open below, served from a disk of zeroes.

use std::ffi::c_int;

use layers_abi::arguments::{Buffer, Count, ErrorPointer, Extents, Flags, Handle, Next, Offset};
use layers_abi::errno;
use layers_abi::server::nbdkit_add_extent;
use layers_trace::Callback;

use super::asking::{ask_below, is_alone};
use super::shaped::shaped;
use super::state::{CallContext, Reference, on};

/// NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO
const HOLE: u32 = 1 << 0 | 1 << 1;

/// A data callback says in `*err` why it failed, unless what has failed is the layer below, which has said so itself.
fn shaped_data<const LAYER: usize>(
    here: CallContext<'_>,
    err: ErrorPointer,
    alone: impl FnOnce() -> c_int,
    work: impl FnOnce(&'static Reference, Next) -> c_int,
) -> c_int {
    let (mut failed_below, turn) = (false, here.turn);
    let result = shaped::<LAYER, c_int>(here, |reference, next| {
        if is_alone(reference, next) {
            return alone();
        }
        if next.0.is_null() {
            errno::set(libc::EIO);
            return -1;
        }
        // SAFETY: `next` of a request is prepared.
        if reference.shape.ask_late && !unsafe { ask_below(reference, next, turn) } {
            errno::set(libc::EIO);
            return -1;
        }
        let result = work(reference, next);
        failed_below = result == -1;
        result
    });
    if result == -1 && !failed_below && !err.0.is_null() {
        let error = errno::get();
        // SAFETY: the caller's variable.
        unsafe { *err.0 = if error > 0 { error } else { libc::EIO } };
    }
    result
}

macro_rules! requests {
    ($($variant:ident $field:ident($($argument:ident: $kind:ty),*) $alone:expr;)*) => {$(
        pub(super) unsafe extern "C" fn $field<const LAYER: usize>(
            next: Next, handle: Handle, $($argument: $kind,)* err: ErrorPointer
        ) -> c_int {
            // SAFETY: the server's own arguments.
            let here = unsafe { on::<LAYER>(Callback::$variant, next, handle) };
            shaped_data::<LAYER>(here, err, || $alone, |reference, next| {
                // SAFETY: the server's own `next` and arguments.
                unsafe { reference.below.$field(reference.log(), next, $($argument,)* err) }
            })
        }
    )*};
}

requests! {
    Pread pread(buffer: Buffer, count: Count, offset: Offset, flags: Flags) zeroes(buffer, count);
    Pwrite pwrite(buffer: Buffer, count: Count, offset: Offset, flags: Flags) 0;
    Flush flush(flags: Flags) 0;
    Trim trim(count: Count, offset: Offset, flags: Flags) 0;
    Zero zero(count: Count, offset: Offset, flags: Flags) 0;
    Extents extents(count: Count, offset: Offset, flags: Flags, extents: Extents) hole(extents, count, offset);
    Cache cache(count: Count, offset: Offset, flags: Flags) 0;
}

fn zeroes(buffer: Buffer, count: Count) -> c_int {
    // SAFETY: the server's buffer of this many bytes.
    unsafe { buffer.0.cast::<u8>().write_bytes(0, count.0 as usize) };
    0
}

fn hole(extents: Extents, count: Count, offset: Offset) -> c_int {
    // SAFETY: the server's list.
    unsafe { nbdkit_add_extent(extents, offset.0, count.0.into(), HOLE) }
}
