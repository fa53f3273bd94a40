//! What the server calls: each callback recorded, then passed on to the target.

use std::ffi::c_int;
use std::ptr::null;

use layers_abi::arguments::{
    Argument as _, Buffer, Count, DescriptionResult, ExportNameResult, Exports, Extents, Flags, Handle,
    IsTls, Key, Maximum, MayTrim, Minimum, Offset, Outcome, Preferred, ReadOnly, Value, text,
};
use layers_abi::call::Call;
use layers_abi::handle_table::Notes;
use layers_abi::lent_string::LentString;
use layers_abi::plugin::Plugin;
use layers_abi::server::{nbdkit_export_name, nbdkit_is_tls, nbdkit_strdup_intern};
use layers_abi::{plugin_callbacks, record_call};
use layers_trace::{Callback, Field, Probe};

use crate::wrapped::wrapped;
use crate::{allocated, connection};

macro_rules! trampolines {
    ($($variant:ident $field:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
        $(
            unsafe extern "C" fn $field($($argument: $kind),*) -> $result {
                let Some(wrapped) = wrapped() else { return Outcome::FAILED };
                let Some(target) = wrapped.target.$field else { return Outcome::FAILED };
                record_call!(&wrapped.layer, Callback::$variant, target, ($($argument),*))
            }
        )*

        /// A trampoline for every callback.
        pub(crate) const TABLE: Plugin = Plugin {
            $($field: Some($field),)*
            open: Some(open),
            close: Some(close),
            ..Plugin::EMPTY
        };
    };
}

plugin_callbacks!(trampolines);

unsafe extern "C" fn open(readonly: ReadOnly) -> Handle {
    let Some(wrapped) = wrapped() else { return Handle::FAILED };
    let Some(target) = wrapped.target.open else { return Handle::FAILED };
    let layer = &wrapped.layer;
    let mut call = Call::new(layer, Callback::Open);
    // SAFETY: the server's own argument.
    unsafe { readonly.enter(&mut call) };
    let mut export_name = null();
    if connection::is_likely() {
        // SAFETY: both may be called in open (nbdkit-plugin(3)); the name lasts until the handle is closed.
        unsafe {
            call.enter.c = nbdkit_is_tls().cast_unsigned();
            export_name = nbdkit_export_name();
        }
    }
    // SAFETY: NULL or a C string.
    call.texts.extend(unsafe { text(export_name) }.map(|name| (Field::Export, name)));
    call.start();
    // SAFETY: the target's own callback with the server's argument.
    let real = unsafe { target(readonly) };
    call.returned(real);
    let shown = match real.is_failure() {
        true => real,
        false => {
            call.exit.handle = layer.writer.mint_handle();
            // SAFETY: NULL or C strings; a string may be interned at any time.
            let notes = unsafe {
                Notes {
                    export_name: LentString::new(export_name),
                    interned: wrapped
                        .is_reference
                        .then(|| LentString::new(nbdkit_strdup_intern(c"interned in a connection".as_ptr())))
                        .flatten(),
                    backend: None,
                }
            };
            Handle(layer.boxes.put(layer.number, call.exit.handle, real.0, notes))
        }
    };
    call.finish();
    shown
}

unsafe extern "C" fn close(handle: Handle) {
    let Some(wrapped) = wrapped() else { return };
    let layer = &wrapped.layer;
    let mut call = Call::new(layer, Callback::Close);
    // SAFETY: the server's own argument.
    let real = unsafe { handle.enter(&mut call) };
    let notes = layer.boxes.take_notes(layer.number, handle.0);
    call.start_then(|call| {
        if let Some(kept) = notes.as_ref().and_then(|notes| notes.export_name.as_ref()) {
            // SAFETY: the name of the export may be asked for until close has returned.
            call.probe(Probe::ExportName, unsafe { kept.reads_like(nbdkit_export_name()) });
        }
        if let Some(kept) = notes.as_ref().and_then(|notes| notes.interned.as_ref()) {
            // SAFETY: the server promises the string until close has returned.
            call.probe(Probe::InternedInConnection, unsafe { kept.is_unchanged() });
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
    drop(notes);
    allocated::note(layer);
}
