//! Questions about a handle: answered as the behaviour says, or by the layer below, or, where nothing is open below, for
//! a disk of zeroes.

use std::ffi::c_int;

use layers_abi::arguments::{DescriptionResult, Handle, Maximum, Minimum, Next, Outcome, Preferred};
use layers_abi::constants::NATIVE;
use layers_trace::Callback;

use super::asking::is_alone;
use super::shaped::shaped;
use super::state::on;

/// Bytes of the disk that a filter serves which opens nothing below.
const OWN_SIZE: i64 = 1 << 20;
macro_rules! questions {
    ($($variant:ident $field:ident $alone:expr;)*) => {
        $(
            /// The fixed answer, or that of the layer below.
            pub(super) unsafe extern "C" fn $field<const LAYER: usize>(next: Next, handle: Handle) -> c_int {
                // SAFETY: the server's own arguments.
                let here = unsafe { on::<LAYER>(Callback::$variant, next, handle) };
                shaped::<LAYER, _>(here, |reference, next| {
                    match reference.shape.answer_on(here.turn, Callback::$variant) {
                        Some(fixed) => c_int::try_from(fixed).unwrap_or(-1),
                        None if is_alone(reference, next) => $alone,
                        // SAFETY: the server's own `next`.
                        None => unsafe { reference.below.$field(reference.log(), next) },
                    }
                })
            }
        )*
    };
}

questions! {
    CanWrite can_write 1;
    CanFlush can_flush 1;
    IsRotational is_rotational 0;
    CanTrim can_trim 1;
    CanZero can_zero NATIVE;
    CanFastZero can_fast_zero 1;
    CanExtents can_extents 1;
    CanFua can_fua NATIVE;
    CanMultiConn can_multi_conn 1;
    CanCache can_cache NATIVE;
}

pub(super) unsafe extern "C" fn get_size<const LAYER: usize>(next: Next, handle: Handle) -> i64 {
    // SAFETY: the server's own arguments.
    shaped::<LAYER, _>(unsafe { on::<LAYER>(Callback::GetSize, next, handle) }, |reference, next| {
        match reference.shape.answer(Callback::GetSize) {
            Some(fixed) => fixed,
            None if is_alone(reference, next) => OWN_SIZE,
            // SAFETY: the server's own `next`.
            None => unsafe { reference.below.get_size(reference.log(), next) },
        }
    })
}

pub(super) unsafe extern "C" fn export_description<const LAYER: usize>(
    next: Next,
    handle: Handle,
) -> DescriptionResult {
    // SAFETY: the server's own arguments.
    shaped::<LAYER, _>(
        unsafe { on::<LAYER>(Callback::ExportDescription, next, handle) },
        |reference, next| {
            match reference.shape.description() {
                Some(fixed) => DescriptionResult(fixed),
                None if is_alone(reference, next) => DescriptionResult::FAILED,
                // SAFETY: the server's own `next`.
                None => unsafe { reference.below.export_description(reference.log(), next) },
            }
        },
    )
}

pub(super) unsafe extern "C" fn block_size<const LAYER: usize>(
    next: Next,
    handle: Handle,
    minimum: Minimum,
    preferred: Preferred,
    maximum: Maximum,
) -> c_int {
    // SAFETY: the server's own arguments.
    shaped::<LAYER, _>(unsafe { on::<LAYER>(Callback::BlockSize, next, handle) }, |reference, next| {
        let alone = is_alone(reference, next).then_some([0; 3]);
        let Some(sizes) = reference.shape.block_size.or(alone) else {
            // SAFETY: the server's own `next` and variables.
            return unsafe { reference.below.block_size(reference.log(), next, minimum, preferred, maximum) };
        };
        for (to, size) in [minimum.0, preferred.0, maximum.0].into_iter().zip(sizes) {
            // SAFETY: the server's three variables.
            unsafe { *to = size };
        }
        0
    })
}
