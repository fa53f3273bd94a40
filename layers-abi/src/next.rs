//! Calling the layer below: `struct nbdkit_next_ops` of any version. What is called can be recorded.

use std::ffi::c_int;

use layers_trace::Callback;

use crate::arguments::{
    Buffer, Count, DescriptionResult, ErrorPointer, Extents, Flags, Maximum, Minimum, Next, Offset, Outcome,
    Preferred,
};
use crate::call::Call;
use crate::layer::Layer;
use crate::layout::FilterLayout;
use crate::record_call;

macro_rules! next_ops {
    ($($variant:ident $field:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
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
                /// skipped), or no such operation in this version. `log` records it, as a layer's.
                ///
                /// # Safety
                ///
                /// `next` and the other arguments are what nbdkit-filter(3) asks for.
                #[allow(clippy::too_many_arguments, reason = "the header's own, and the log")]
                pub unsafe fn $field(&self, log: Option<&Layer>, next: Next $(, $argument: $kind)*) -> $result {
                    // SAFETY: the layout has an operation of this type at this offset.
                    let operation = unsafe {
                        operation::<unsafe extern "C" fn(Next $(, $kind)*) -> $result>(next, self.$field)
                    };
                    match (operation, log) {
                        (None, _) => Outcome::FAILED,
                        // SAFETY: as the caller promises.
                        (Some(operation), None) => unsafe { operation(next $(, $argument)*) },
                        (Some(operation), Some(layer)) => {
                            record_call!(Call::asking(layer, Callback::$variant), operation, (next $(, $argument)*))
                        }
                    }
                }
            )*
        }
    };
}

next_ops! {
    Prepare prepare() -> c_int;
    Finalize finalize() -> c_int;
    GetSize get_size() -> i64;
    ExportDescription export_description() -> DescriptionResult;
    BlockSize block_size(minimum: Minimum, preferred: Preferred, maximum: Maximum) -> c_int;
    CanWrite can_write() -> c_int;
    CanFlush can_flush() -> c_int;
    IsRotational is_rotational() -> c_int;
    CanTrim can_trim() -> c_int;
    CanZero can_zero() -> c_int;
    CanFastZero can_fast_zero() -> c_int;
    CanExtents can_extents() -> c_int;
    CanFua can_fua() -> c_int;
    CanMultiConn can_multi_conn() -> c_int;
    CanCache can_cache() -> c_int;
    Pread pread(buffer: Buffer, count: Count, offset: Offset, flags: Flags, err: ErrorPointer) -> c_int;
    Pwrite pwrite(buffer: Buffer, count: Count, offset: Offset, flags: Flags, err: ErrorPointer) -> c_int;
    Flush flush(flags: Flags, err: ErrorPointer) -> c_int;
    Trim trim(count: Count, offset: Offset, flags: Flags, err: ErrorPointer) -> c_int;
    Zero zero(count: Count, offset: Offset, flags: Flags, err: ErrorPointer) -> c_int;
    Extents extents(count: Count, offset: Offset, flags: Flags, extents: Extents, err: ErrorPointer) -> c_int;
    Cache cache(count: Count, offset: Offset, flags: Flags, err: ErrorPointer) -> c_int;
}

/// # Safety
///
/// `next` is NULL or points to a `struct nbdkit_next_ops` with a function pointer of type `F` at `offset`.
unsafe fn operation<F: Copy>(next: Next, offset: Option<usize>) -> Option<F> {
    let offset = offset.filter(|_| !next.0.is_null())?;
    // SAFETY: as the caller promises; NULL is `None`.
    unsafe { next.0.byte_add(offset).cast::<Option<F>>().read() }
}
