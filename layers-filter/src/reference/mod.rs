//! The reference filter: has every callback, passes everything on, and does what its behaviour says.

mod asking;
mod contexts;
mod questions;
mod requests;
mod shaped;
mod side_effects;
mod state;

use std::ffi::{CStr, c_int};
use std::ptr::null_mut;
use std::sync::atomic::AtomicPtr;

use layers_abi::arguments::{
    Backend, Context, ExportName, ExportNameResult, Exports, Handle, IsTls, Key, Next, NextConfig,
    NextConfigComplete, NextDefaultExport, NextListExports, NextOpen, NextPreconnect, Outcome, ReadOnly,
    ThreadModel, Value,
};
use layers_abi::constants::PARALLEL;
use layers_abi::filter::{FilterTable, FilterWords};
use layers_abi::layout::FilterLayout;
use layers_abi::next::NextOps;
use layers_abi::prepared::{Fate, Shape};
use layers_abi::server::nbdkit_add_export;
use layers_abi::{InitError, layer};
use layers_behaviour::Skip;
use layers_trace::Callback;

use asking::ask_below;
use questions::{
    block_size, can_cache, can_extents, can_fast_zero, can_flush, can_fua, can_multi_conn, can_trim,
    can_write, can_zero, export_description, get_size, is_rotational,
};
use requests::{cache, extents, flush, pread, pwrite, trim, zero};
use shaped::{fail, shaped};
use state::{CallContext, HandleState, REFERENCES, Reference, on, reference};

use crate::structure::empty;

/// The structure of the reference filter that is layer `number`.
pub(crate) fn filter(number: u8) -> Result<(FilterLayout, FilterWords), InitError> {
    let (layout, mut words) = empty(c"layers")?;
    let behaviour = layer::behaviour(number)?;
    let mut table = for_layer!(number, table_of, FilterTable::default());
    table.keep_known(&layout);
    for callback in &behaviour.absent {
        table.remove(*callback);
    }
    words.put(&table, &layout);
    if let Some(place) = usize::from(number).checked_sub(1).and_then(|index| REFERENCES.get(index)) {
        place.get_or_init(|| Reference {
            number: number.into(),
            shape: Shape::new(&behaviour),
            below: NextOps::new(&layout),
            opens: !behaviour.absent.contains(&Callback::Open),
            shared: AtomicPtr::default(),
        });
    }
    Ok((layout, words))
}

macro_rules! table {
    ($($variant:ident $field:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
        const fn table_of<const LAYER: usize>() -> FilterTable {
            FilterTable {
                $($field: Some($field::<LAYER>),)*
                open: Some(open::<LAYER>),
                close: Some(close::<LAYER>),
            }
        }
    };
}

layers_abi::filter_callbacks!(table);

/// Calls a function that the server passed for going on; NULL is a failure.
macro_rules! go_on {
    ($next:ident($($argument:expr),*)) => {
        match $next.0 {
            // SAFETY: the server's function with the arguments that it wants.
            Some(next) => unsafe { next($($argument),*) },
            None => Outcome::FAILED,
        }
    };
}

unsafe extern "C" fn load<const LAYER: usize>() {
    shaped::<LAYER, _>(CallContext::in_callback(Callback::Load), |_, _| ());
}

unsafe extern "C" fn unload<const LAYER: usize>() {
    shaped::<LAYER, _>(CallContext::in_callback(Callback::Unload), |_, _| ());
}

unsafe extern "C" fn config<const LAYER: usize>(
    next: NextConfig,
    nxdata: Backend,
    key: Key,
    value: Value,
) -> c_int {
    shaped::<LAYER, _>(CallContext::in_callback(Callback::Config), |reference, _| {
        // SAFETY: a key of the server is a C string.
        match reference.shape.swallows(unsafe { CStr::from_ptr(key.0) }) {
            true => 0,
            false => go_on!(next(nxdata, key, value)),
        }
    })
}

unsafe extern "C" fn config_complete<const LAYER: usize>(next: NextConfigComplete, nxdata: Backend) -> c_int {
    shaped::<LAYER, _>(CallContext::in_callback(Callback::ConfigComplete), |reference, _| {
        match reference.shape.skips(Skip::ConfigComplete) {
            true => 0,
            false => go_on!(next(nxdata)),
        }
    })
}

unsafe extern "C" fn thread_model<const LAYER: usize>() -> c_int {
    shaped::<LAYER, _>(CallContext::in_callback(Callback::ThreadModel), |reference, _| {
        match reference.shape.answer(Callback::ThreadModel) {
            Some(fixed) => c_int::try_from(fixed).unwrap_or(-1),
            None => PARALLEL,
        }
    })
}

unsafe extern "C" fn thread_model_over<const LAYER: usize>(_next_model: ThreadModel) -> c_int {
    // SAFETY: no preconditions.
    unsafe { thread_model::<LAYER>() }
}

unsafe extern "C" fn dump_plugin<const LAYER: usize>() {
    shaped::<LAYER, _>(CallContext::in_callback(Callback::DumpPlugin), |_, _| {
        // SAFETY: a C string, through the server's own stdout so that it comes in order.
        unsafe { libc::puts(c"layers_reference_filter=1".as_ptr()) };
    });
}

unsafe extern "C" fn get_ready<const LAYER: usize>(_model: ThreadModel) -> c_int {
    shaped::<LAYER, _>(CallContext::in_callback(Callback::GetReady), |_, _| 0)
}

unsafe extern "C" fn after_fork<const LAYER: usize>(backend: Backend) -> c_int {
    shaped::<LAYER, _>(CallContext::with_backend(Callback::AfterFork, backend), |_, _| 0)
}

unsafe extern "C" fn cleanup<const LAYER: usize>(backend: Backend) {
    shaped::<LAYER, _>(CallContext::with_backend(Callback::Cleanup, backend), |_, _| ());
}

unsafe extern "C" fn preconnect<const LAYER: usize>(
    next: NextPreconnect,
    nxdata: Backend,
    readonly: ReadOnly,
) -> c_int {
    shaped::<LAYER, _>(CallContext::with_backend(Callback::Preconnect, nxdata), |_, _| {
        go_on!(next(nxdata, readonly))
    })
}

/// What the layer below lists, and then the exports of its own.
unsafe extern "C" fn list_exports<const LAYER: usize>(
    next: NextListExports,
    nxdata: Backend,
    readonly: ReadOnly,
    _is_tls: IsTls,
    exports: Exports,
) -> c_int {
    shaped::<LAYER, _>(CallContext::with_backend(Callback::ListExports, nxdata), |reference, _| {
        let result: c_int = go_on!(next(nxdata, readonly, exports));
        let own = reference.shape.exports.iter().flatten();
        let all = own.into_iter().all(|(name, description)| {
            // SAFETY: the server's list and C strings, which it copies.
            unsafe { nbdkit_add_export(exports, name.as_ptr(), description.as_ptr()) == 0 }
        });
        if all { result } else { -1 }
    })
}

unsafe extern "C" fn default_export<const LAYER: usize>(
    next: NextDefaultExport,
    nxdata: Backend,
    readonly: ReadOnly,
    _is_tls: IsTls,
) -> ExportNameResult {
    shaped::<LAYER, _>(CallContext::with_backend(Callback::DefaultExport, nxdata), |reference, _| {
        match reference.shape.default_export() {
            Some(fixed) => ExportNameResult(fixed),
            None => go_on!(next(nxdata, readonly)),
        }
    })
}

/// What the handle holds is for deeds, which are done once the layer below is open.
unsafe extern "C" fn open<const LAYER: usize>(
    next: NextOpen,
    context: Context,
    readonly: ReadOnly,
    export_name: ExportName,
    _is_tls: IsTls,
) -> Handle {
    let Some(reference) = reference(LAYER) else { return Handle::FAILED };
    let begun = reference.shape.begin(Callback::Open);
    if let Fate::Fails(error) = begun.fate {
        return fail(Callback::Open, error);
    }
    let readonly = if reference.shape.opens_readonly { ReadOnly(1) } else { readonly };
    if !reference.shape.skips(Skip::Open) {
        let below: c_int = go_on!(next(context, readonly, export_name));
        if below == -1 {
            return Handle::FAILED;
        }
    }
    // SAFETY: the server's own arguments.
    let held =
        Box::new(unsafe { HandleState::new(reference.shape.handle(), context, readonly, export_name) });
    let mut here = CallContext { held: Some(&held), ..CallContext::in_callback(Callback::Open) };
    let done = side_effects::all(reference, begun.nth, &mut here);
    match begun.fate {
        Fate::FailsAfterNext(error) => {
            contexts::close_extra(reference, &held);
            fail(Callback::Open, error)
        }
        _ if !done => {
            contexts::close_extra(reference, &held);
            Handle::FAILED
        }
        _ => Handle(Box::into_raw(held).cast()),
    }
}

unsafe extern "C" fn close<const LAYER: usize>(handle: Handle) {
    // SAFETY: the server's own argument.
    let here = unsafe { on::<LAYER>(Callback::Close, Next(null_mut()), handle) };
    shaped::<LAYER, _>(here, |reference, _| {
        if let Some(held) = here.held {
            contexts::close_extra(reference, held);
            // SAFETY: boxed in `open`, and nobody gets the handle after this.
            drop(unsafe { Box::from_raw(handle.0.cast::<HandleState>()) });
        }
    });
}

unsafe extern "C" fn prepare<const LAYER: usize>(next: Next, handle: Handle, _readonly: ReadOnly) -> c_int {
    // SAFETY: the server's own arguments.
    let here = unsafe { on::<LAYER>(Callback::Prepare, next, handle) };
    shaped::<LAYER, _>(here, |reference, next| {
        let later = next.0.is_null() || reference.shape.ask_late;
        // SAFETY: the server's own `next`, in prepare.
        if later || unsafe { ask_below(reference, next, here.turn) } { 0 } else { -1 }
    })
}

unsafe extern "C" fn finalize<const LAYER: usize>(next: Next, handle: Handle) -> c_int {
    // SAFETY: the server's own arguments.
    shaped::<LAYER, _>(unsafe { on::<LAYER>(Callback::Finalize, next, handle) }, |_, _| 0)
}
