//! What the server calls: each callback recorded, then passed on to the target. One set for each layer.

use std::ffi::c_int;

use layers_abi::arguments::{
    Argument as _, Backend, Buffer, Context, Count, DescriptionResult, ErrorPointer, ExportName,
    ExportNameResult, Exports, Extents, Flags, Handle, IsTls, Key, Maximum, Minimum, Next, NextConfig,
    NextConfigComplete, NextDefaultExport, NextListExports, NextOpen, NextPreconnect, Offset, Outcome,
    Preferred, ReadOnly, ThreadModel, Value,
};
use layers_abi::call::Call;
use layers_abi::filter::FilterTable;
use layers_abi::handle_table::Notes;
use layers_abi::server::nbdkit_context_get_backend;
use layers_abi::{filter_callbacks, record_call};
use layers_trace::{Callback, Probe};

use crate::wrapped::wrapped;

macro_rules! trampolines {
    ($($variant:ident $field:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
        $(
            unsafe extern "C" fn $field<const LAYER: usize>($($argument: $kind),*) -> $result {
                let Some(wrapped) = wrapped(LAYER) else { return Outcome::FAILED };
                let Some(target) = wrapped.target.$field else { return Outcome::FAILED };
                record_call!(&wrapped.layer, Callback::$variant, target, ($($argument),*))
            }
        )*

        const fn table_of<const LAYER: usize>() -> FilterTable {
            FilterTable {
                $($field: Some($field::<LAYER>),)*
                open: Some(open::<LAYER>),
                close: Some(close::<LAYER>),
            }
        }
    };
}

filter_callbacks!(trampolines);

/// A trampoline for every callback of this layer.
pub(crate) fn table(layer: u8) -> FilterTable {
    for_layer!(layer, table_of, FilterTable::default())
}

unsafe extern "C" fn open<const LAYER: usize>(
    next: NextOpen,
    context: Context,
    readonly: ReadOnly,
    export_name: ExportName,
    is_tls: IsTls,
) -> Handle {
    let Some(wrapped) = wrapped(LAYER) else { return Handle::FAILED };
    let layer = &wrapped.layer;
    let mut call = Call::new(layer, Callback::Open);
    // SAFETY: the server's own arguments of this call.
    let backend = unsafe {
        context.enter(&mut call);
        readonly.enter(&mut call);
        export_name.enter(&mut call);
        is_tls.enter(&mut call);
        backend_of(context)
    };
    call.enter.b = backend as u64;
    call.start();
    let real = match wrapped.target.open {
        // SAFETY: the target's own callback with the server's arguments.
        Some(target) => unsafe { target(next, context, readonly, export_name, is_tls) },
        // SAFETY: as above; `next` takes what this layer was given.
        None => unsafe { default_open(next, context, readonly, export_name) },
    };
    call.returned(real);
    let shown = match real.is_failure() {
        true => real,
        false => {
            call.exit.handle = layer.writer.mint_handle();
            let known = !context.0.is_null();
            let notes = Notes { backend: known.then_some((context.0.addr(), backend)), ..Notes::default() };
            Handle(layer.boxes.put(layer.number, call.exit.handle, real.0, notes))
        }
    };
    call.finish();
    shown
}

/// What the server does for a filter without `open` (nbdkit-filter(3), `.open`): a handle that is not needed.
///
/// # Safety
///
/// The arguments are those of an `open`.
unsafe fn default_open(
    next: NextOpen,
    context: Context,
    readonly: ReadOnly,
    export_name: ExportName,
) -> Handle {
    let Some(next) = next.0 else { return Handle::FAILED };
    // SAFETY: as the caller promises.
    match unsafe { next(context, readonly, export_name) } {
        -1 => Handle::FAILED,
        // SAFETY: no preconditions. This is NBDKIT_HANDLE_NOT_NEEDED.
        _ => Handle(unsafe { libc::__errno_location() }.cast()),
    }
}

unsafe extern "C" fn close<const LAYER: usize>(handle: Handle) {
    let Some(wrapped) = wrapped(LAYER) else { return };
    let layer = &wrapped.layer;
    let mut call = Call::new(layer, Callback::Close);
    // SAFETY: the server's own argument.
    let real = unsafe { handle.enter(&mut call) };
    let notes = layer.boxes.take_notes(layer.number, handle.0);
    call.start_then(|call| {
        if let Some((context, backend)) = notes.as_ref().and_then(|notes| notes.backend) {
            let context = Context(std::ptr::without_provenance_mut(context));
            // SAFETY: the context is valid until this handle's close has returned.
            call.probe(Probe::ContextBackend, unsafe { backend_of(context) } == backend);
        }
    });
    if let Some(target) = wrapped.target.close {
        // SAFETY: the target's own callback with its own handle.
        unsafe { target(real) };
    }
    call.returned(());
    call.finish();
    if notes.is_some() {
        layer.boxes.release(handle.0);
    }
}

/// # Safety
///
/// `context` is NULL or a context of the server that is still valid.
unsafe fn backend_of(context: Context) -> usize {
    // SAFETY: as the caller promises.
    if context.0.is_null() { 0 } else { unsafe { nbdkit_context_get_backend(context) }.0.addr() }
}
