//! Contexts that the filter manages itself (nbdkit-filter(3), "nbdkit_next").

use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr::null_mut;
use std::sync::{Mutex, PoisonError};

use layers_abi::arguments::{Backend, Context, ExportName, Next, ReadOnly};
use layers_abi::layer::Layer;
use layers_abi::server::{
    nbdkit_context_get_backend, nbdkit_context_set_next, nbdkit_next_context_close, nbdkit_next_context_open,
};
use layers_trace::record::Record;
use layers_trace::writer::record;
use layers_trace::{ContextFunction, Field, Kind};

use super::state::{HandleState, Reference};

impl HandleState {
    /// # Safety
    ///
    /// The last three arguments are those of an `open`.
    pub(super) unsafe fn new(
        turn: *mut c_void,
        context: Context,
        readonly: ReadOnly,
        export_name: ExportName,
    ) -> HandleState {
        let name = match export_name.0.is_null() {
            true => CString::default(),
            // SAFETY: as the caller promises.
            false => unsafe { CStr::from_ptr(export_name.0) }.to_owned(),
        };
        HandleState { turn, context, readonly, export_name: name, extra: Mutex::default() }
    }

    /// Opens another context of this connection.
    pub(super) fn open(&self, reference: &Reference) -> Option<Next> {
        // SAFETY: the context lives as long as the handle.
        let backend = unsafe { nbdkit_context_get_backend(self.context) };
        // SAFETY: called in a callback of this connection.
        unsafe { open(reference, backend, self.readonly.0, &self.export_name, false) }
    }

    /// Opens and prepares one.
    pub(super) fn open_prepared(&self, reference: &Reference) -> Option<Next> {
        // SAFETY: just opened.
        self.open(reference).filter(|next| unsafe { prepare(reference, *next) })
    }

    /// Keeps a context.
    pub(super) fn keep(&self, next: Next) {
        self.extra.lock().unwrap_or_else(PoisonError::into_inner).push_back(next);
    }

    /// Takes the oldest of those kept.
    pub(super) fn take(&self) -> Option<Next> {
        self.extra.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Those kept.
    pub(super) fn kept(&self) -> VecDeque<Next> {
        self.extra.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Finalizes and closes what the handle keeps.
pub(super) fn close_extra(reference: &Reference, held: &HandleState) -> bool {
    let mut well = true;
    while let Some(next) = held.take() {
        // SAFETY: opened and prepared by `Held::open_prepared`, and kept by nobody else.
        well &= unsafe { close(reference, next, true) };
    }
    well
}

/// Opens a context.
///
/// # Safety
///
/// `backend` is the filter's own; if not `shared`, a client is being served.
pub(super) unsafe fn open(
    reference: &Reference,
    backend: Backend,
    readonly: c_int,
    export_name: &CStr,
    shared: bool,
) -> Option<Next> {
    let ask = Record {
        context: backend.0.addr() as u64,
        c: u32::from(shared),
        d: readonly.cast_unsigned(),
        ..Record::default()
    };
    let next = logged(
        reference.log(),
        ContextFunction::Open,
        ask,
        &[(Field::Export, export_name.to_bytes())],
        || {
            // SAFETY: as the caller promises; the server copies the name.
            unsafe { nbdkit_next_context_open(backend, readonly, export_name.as_ptr(), c_int::from(shared)) }
        },
    );
    (!next.0.is_null()).then_some(next)
}

/// Prepares a context; if that fails, closes it.
///
/// # Safety
///
/// It has just been opened.
pub(super) unsafe fn prepare(reference: &Reference, next: Next) -> bool {
    // SAFETY: as the caller promises.
    let prepared = unsafe { reference.below.prepare(reference.log(), next) } == 0;
    if !prepared {
        // SAFETY: as above; it is not prepared.
        unsafe { close(reference, next, false) };
    }
    prepared
}

/// Finalizes a context, if it is prepared, and closes it. Whether it was finalized well.
///
/// # Safety
///
/// The context is this filter's to manage, and nobody uses it any more.
pub(super) unsafe fn close(reference: &Reference, next: Next, prepared: bool) -> bool {
    let log = reference.log();
    // SAFETY: as the caller promises.
    let well = !prepared || unsafe { reference.below.finalize(log, next) } == 0;
    let ask = Record { context: next.0.addr() as u64, ..Record::default() };
    logged(log, ContextFunction::Close, ask, &[], || {
        // SAFETY: as above.
        unsafe { nbdkit_next_context_close(next) };
        Next(null_mut())
    });
    well
}

/// Makes this the `next` of the handle, and gives back what was.
///
/// # Safety
///
/// `next` is NULL or a context that this filter has opened and nobody else manages.
pub(super) unsafe fn set_next(reference: &Reference, held: &HandleState, next: *mut c_void) -> Next {
    let (context, b) = (held.context.0.addr() as u64, next.addr() as u64);
    logged(reference.log(), ContextFunction::SetNext, Record { context, b, ..Record::default() }, &[], || {
        // SAFETY: the context lives as long as the handle.
        unsafe { nbdkit_context_set_next(held.context, Next(next)) }
    })
}

/// Makes this call, and records it where there is a log.
fn logged(
    log: Option<&Layer>,
    function: ContextFunction,
    ask: Record,
    texts: &[(Field, &[u8])],
    call: impl FnOnce() -> Next,
) -> Next {
    let Some(layer) = log else { return call() };
    let of = |kind| {
        let Record { kind, layer, callback, .. } = record(kind, layer.number, function as u8);
        Record { kind, layer, callback, ..ask }
    };
    let id = layer.writer.enter(of(Kind::Ask), texts);
    let next = call();
    let b = next.0.addr() as u64;
    layer.writer.exit(id, Record { a: u64::from(b != 0), b, ..of(Kind::Answer) }, &[]);
    next
}
