//! What an own keyword or service can have done to its appctx between two calls.

use std::sync::atomic::Ordering;

use crate::appctx::Entry;
use crate::instrument::Instrument;
use crate::server::Appctx;

/// What an own keyword or service can have done to its appctx between two calls, as a server that breaks its promises would
/// do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Interference {
    /// `svcctx` becomes another pointer.
    Svcctx = 1,
    /// A byte of the storage area becomes another one.
    Storage = 2,
    /// The slot of `io_release` is cleared.
    Release = 3,
}

/// Does to the appctx what its command has asked for, once.
///
/// # Safety
///
/// `appctx` is one that the server has just passed to a callback.
pub(crate) unsafe fn meddle(instrument: &Instrument, appctx: Appctx, entry: &Entry) {
    let wanted = entry.meddle.swap(0, Ordering::Relaxed);
    let layout = &instrument.layout;
    // SAFETY: fields of the appctx, aligned for their types.
    let put = |offset: usize, value: usize| unsafe { appctx.byte_add(offset).cast::<usize>().write(value) };
    match (layout.context, layout.io_handler()) {
        (Some(context), _) if wanted == Interference::Svcctx as u32 => put(context.svcctx, appctx.addr()),
        (Some(context), _) if wanted == Interference::Storage as u32 => put(context.storage, wanted as usize),
        (_, Some(io_handler)) if wanted == Interference::Release as u32 => {
            put(io_handler + size_of::<usize>(), 0)
        }
        _ => {}
    }
}
