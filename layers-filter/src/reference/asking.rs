//! What the reference filter asks the layer below, beside what it passes on.

use std::ffi::c_void;

use layers_abi::arguments::Next;
use layers_behaviour::Skip;
use layers_trace::Callback;

use super::state::Reference;

/// There is nothing below because this filter opens nothing there.
pub(super) fn is_alone(reference: &Reference, next: Next) -> bool {
    next.0.is_null() && reference.shape.skips(Skip::Open)
}

macro_rules! asks {
    ($($variant:ident $field:ident;)*) => {
        /// Asks below what this filter answers itself. Otherwise nobody would, and the server insists on the question
        /// before the first request is passed on (nbdkit-filter(3), `.prepare`).
        ///
        /// # Safety
        ///
        /// `next` is of a context that is prepared.
        pub(super) unsafe fn ask_below(reference: &Reference, next: Next, turn: *mut c_void) -> bool {
            // SAFETY: as the caller promises.
            unsafe { ask(reference, next, |callback| reference.shape.answer_on(turn, callback).is_some()) }
        }

        /// Asks those of all questions that are `wanted`.
        ///
        /// # Safety
        ///
        /// As for `ask_below`.
        pub(super) unsafe fn ask(reference: &Reference, next: Next, wanted: impl Fn(Callback) -> bool) -> bool {
            let mut answered = true;
            if wanted(Callback::GetSize) {
                // SAFETY: as the caller promises.
                answered &= unsafe { reference.below.get_size(reference.log(), next) } != -1;
            }
            $(if wanted(Callback::$variant) {
                // SAFETY: as above.
                answered &= unsafe { reference.below.$field(reference.log(), next) } != -1;
            })*
            answered
        }
    };
}

asks! {
    CanWrite can_write;
    CanFlush can_flush;
    IsRotational is_rotational;
    CanTrim can_trim;
    CanZero can_zero;
    CanFastZero can_fast_zero;
    CanExtents can_extents;
    CanFua can_fua;
    CanMultiConn can_multi_conn;
    CanCache can_cache;
}
