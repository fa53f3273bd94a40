//! What the reference filter keeps: for a layer, for a handle, and for one call.

use std::collections::VecDeque;
use std::ffi::{CString, c_void};
use std::ptr::null_mut;
use std::sync::atomic::AtomicPtr;
use std::sync::{Mutex, OnceLock};

use layers_abi::arguments::{Backend, Context, Handle, Next, ReadOnly};
use layers_abi::init::MOST_FILTERS;
use layers_abi::layer::Layer;
use layers_abi::next::NextOps;
use layers_abi::prepared::Shape;
use layers_trace::Callback;

use crate::wrapped::wrapped;

pub(super) struct Reference {
    /// Which layer.
    pub(super) number: usize,
    pub(super) shape: Shape,
    pub(super) below: NextOps,
    /// Handles are [`Held`]; not so where the server makes them up, because this filter has no `open`.
    pub(super) opens: bool,
    /// The `next` of the context that all connections share.
    pub(super) shared: AtomicPtr<c_void>,
}

impl Reference {
    /// Where to record what is called below, if it is to be recorded.
    pub(super) fn log(&self) -> Option<&'static Layer> {
        self.shape.log_below.then(|| wrapped(self.number)).flatten().map(|wrapped| &wrapped.layer)
    }
}

/// What a call was given, for deeds.
#[derive(Clone, Copy)]
pub(super) struct CallContext<'a> {
    pub(super) callback: Callback,
    /// By which the shape knows the handle.
    pub(super) turn: *mut c_void,
    pub(super) next: Next,
    pub(super) held: Option<&'a HandleState>,
    pub(super) backend: Backend,
}

impl CallContext<'_> {
    /// A call with neither `next` nor handle nor backend.
    pub(super) const fn in_callback(callback: Callback) -> CallContext<'static> {
        CallContext {
            callback,
            turn: null_mut(),
            next: Next(null_mut()),
            held: None,
            backend: Backend(null_mut()),
        }
    }

    pub(super) const fn with_backend(callback: Callback, backend: Backend) -> CallContext<'static> {
        CallContext { backend, ..CallContext::in_callback(callback) }
    }
}

/// A call on a handle of this layer.
///
/// # Safety
///
/// `handle` is what `open` of this filter has returned, and is not closed.
pub(super) unsafe fn on<'a, const LAYER: usize>(
    callback: Callback,
    next: Next,
    handle: Handle,
) -> CallContext<'a> {
    let opens = reference(LAYER).is_some_and(|reference| reference.opens);
    let pointer = if opens { handle.0.cast::<HandleState>().cast_const() } else { std::ptr::null() };
    // SAFETY: as the caller promises, or NULL.
    let held = unsafe { pointer.as_ref() };
    let turn = held.map_or(handle.0, |held| held.turn);
    CallContext { turn, next, held, ..CallContext::in_callback(callback) }
}

/// Layer n is at n - 1.
pub(super) static REFERENCES: [OnceLock<Reference>; MOST_FILTERS as usize] =
    [const { OnceLock::new() }; MOST_FILTERS as usize];

pub(super) fn reference(layer: usize) -> Option<&'static Reference> {
    REFERENCES.get(layer.checked_sub(1)?)?.get()
}

/// A handle of the reference filter: what it was opened with, and what it has opened since.
pub(super) struct HandleState {
    /// By which the shape knows it.
    pub(super) turn: *mut c_void,
    /// The filter's own.
    pub(super) context: Context,
    pub(super) readonly: ReadOnly,
    pub(super) export_name: CString,
    /// Further contexts below, prepared, oldest first.
    pub(super) extra: Mutex<VecDeque<Next>>,
}
