//! Calling the layer below: `struct nbdkit_next_ops` of any version.

use std::ffi::c_int;

use crate::arguments::{
    Buffer, Count, DescriptionResult, ErrorPointer, Extents, Flags, Maximum, Minimum, Next, Offset, Outcome,
    Preferred,
};
use crate::layout::FilterLayout;

macro_rules! next_ops {
    ($($field:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
        /// Offsets of the operations. The structure itself must not be copied: the server's is longer.
        #[derive(Clone, Copy, Debug)]
        pub struct NextOps {
            $($field: Option<usize>,)*
        }

        impl NextOps {
            /// Those of one version.
            pub fn new(layout: &FilterLayout) -> NextOps {
                NextOps { $($field: layout.next_ops.offset(stringify!($field)),)* }
            }

            $(
                /// The operation of this name in the layer below. It fails if there is no layer below (its open was
                /// skipped), or no such operation in this version.
                ///
                /// # Safety
                ///
                /// `next` and the other arguments are what nbdkit-filter(3) asks for.
                pub unsafe fn $field(&self, next: Next $(, $argument: $kind)*) -> $result {
                    // SAFETY: the layout has an operation of this type at this offset.
                    match unsafe { operation::<unsafe extern "C" fn(Next $(, $kind)*) -> $result>(next, self.$field) } {
                        // SAFETY: as the caller promises.
                        Some(operation) => unsafe { operation(next $(, $argument)*) },
                        None => Outcome::FAILED,
                    }
                }
            )*
        }
    };
}

next_ops! {
    get_size() -> i64;
    export_description() -> DescriptionResult;
    block_size(minimum: Minimum, preferred: Preferred, maximum: Maximum) -> c_int;
    can_write() -> c_int;
    can_flush() -> c_int;
    is_rotational() -> c_int;
    can_trim() -> c_int;
    can_zero() -> c_int;
    can_fast_zero() -> c_int;
    can_extents() -> c_int;
    can_fua() -> c_int;
    can_multi_conn() -> c_int;
    can_cache() -> c_int;
    pread(buffer: Buffer, count: Count, offset: Offset, flags: Flags, err: ErrorPointer) -> c_int;
    pwrite(buffer: Buffer, count: Count, offset: Offset, flags: Flags, err: ErrorPointer) -> c_int;
    flush(flags: Flags, err: ErrorPointer) -> c_int;
    trim(count: Count, offset: Offset, flags: Flags, err: ErrorPointer) -> c_int;
    zero(count: Count, offset: Offset, flags: Flags, err: ErrorPointer) -> c_int;
    extents(count: Count, offset: Offset, flags: Flags, extents: Extents, err: ErrorPointer) -> c_int;
    cache(count: Count, offset: Offset, flags: Flags, err: ErrorPointer) -> c_int;
}

/// # Safety
///
/// `next` is NULL or points to a `struct nbdkit_next_ops` with a function pointer of type `F` at `offset`.
unsafe fn operation<F: Copy>(next: Next, offset: Option<usize>) -> Option<F> {
    let offset = offset.filter(|_| !next.0.is_null())?;
    // SAFETY: as the caller promises; NULL is `None`.
    unsafe { next.0.byte_add(offset).cast::<Option<F>>().read() }
}
