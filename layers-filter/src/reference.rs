//! The reference filter: has every callback, passes everything on, and does what its behaviour says.

use std::ffi::c_int;
use std::sync::OnceLock;

use layers_abi::arguments::{
    Backend, Buffer, Context, Count, DescriptionResult, ErrorPointer, ExportName, ExportNameResult, Exports,
    Extents, Flags, Handle, IsTls, Key, Maximum, Minimum, Next, NextConfig, NextConfigComplete,
    NextDefaultExport, NextListExports, NextOpen, NextPreconnect, Offset, Outcome, Preferred, ReadOnly,
    ThreadModel, Value,
};
use layers_abi::filter::{FilterTable, FilterWords};
use layers_abi::init::MOST_FILTERS;
use layers_abi::layout::FilterLayout;
use layers_abi::next::NextOps;
use layers_abi::server::{nbdkit_add_export, nbdkit_error};
use layers_abi::shape::{Fate, Shape};
use layers_abi::{InitError, errno, layer};
use layers_trace::Callback;

/// NBDKIT_THREAD_MODEL_PARALLEL
const PARALLEL: c_int = 3;

struct Reference {
    shape: Shape,
    below: NextOps,
}

/// Layer n is at n - 1.
static REFERENCES: [OnceLock<Reference>; MOST_FILTERS as usize] =
    [const { OnceLock::new() }; MOST_FILTERS as usize];

fn reference(layer: usize) -> Option<&'static Reference> {
    REFERENCES.get(layer.checked_sub(1)?)?.get()
}

/// The structure of the reference filter that is layer `number`.
pub(crate) fn filter(number: u8) -> Result<(FilterLayout, FilterWords), InitError> {
    let (layout, mut words) = crate::empty(c"layers")?;
    let behaviour = layer::behaviour(number)?;
    let mut table = for_layer!(number, table_of, FilterTable::default());
    table.keep_known(&layout);
    for callback in &behaviour.absent {
        table.remove(*callback);
    }
    words.put(&table, &layout);
    if let Some(place) = usize::from(number).checked_sub(1).and_then(|index| REFERENCES.get(index)) {
        place.get_or_init(|| Reference { shape: Shape::new(&behaviour), below: NextOps::new(&layout) });
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

/// One call: counted, slept in, failed if the behaviour says so, else what `work` does.
fn shaped<const LAYER: usize, R: Outcome>(
    callback: Callback,
    work: impl FnOnce(&'static Reference) -> R,
) -> R {
    let Some(reference) = reference(LAYER) else { return R::FAILED };
    let fate = reference.shape.begin(callback);
    let result = match fate {
        Fate::Natural | Fate::FailsAfterNext(_) => work(reference),
        Fate::Fails(_) => R::FAILED,
    };
    match fate {
        Fate::Fails(error) => fail(callback, error),
        Fate::FailsAfterNext(error) if !result.is_failure() => fail(callback, error),
        Fate::FailsAfterNext(_) | Fate::Natural => result,
    }
}

fn fail<R: Outcome>(callback: Callback, error: c_int) -> R {
    let name = callback.name();
    // SAFETY: a constant format; `%.*s` takes a length and that many bytes.
    unsafe {
        let format = c"layers: %.*s fails as its behaviour says".as_ptr();
        nbdkit_error(format, name.len() as c_int, name.as_ptr());
    }
    errno::set(error);
    R::FAILED
}

/// The same for a data callback, which says why it failed in `*err`.
fn shaped_data<const LAYER: usize>(
    callback: Callback,
    next: Next,
    err: ErrorPointer,
    work: impl FnOnce(&'static Reference) -> c_int,
) -> c_int {
    let mut failed_below = false;
    let result = shaped::<LAYER, c_int>(callback, |reference| {
        if next.0.is_null() {
            errno::set(libc::ENXIO);
            return -1;
        }
        let result = work(reference);
        failed_below = result == -1;
        result
    });
    // What fails below has said so itself.
    if result == -1 && !failed_below && !err.0.is_null() {
        // SAFETY: the caller's variable.
        unsafe { *err.0 = errno::get() };
    }
    result
}

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

macro_rules! questions {
    ($($variant:ident $field:ident;)*) => {
        $(
            /// The fixed answer, or that of the layer below.
            unsafe extern "C" fn $field<const LAYER: usize>(next: Next, handle: Handle) -> c_int {
                shaped::<LAYER, _>(Callback::$variant, |reference| {
                    match reference.shape.answer_on(handle.0, Callback::$variant) {
                        Some(fixed) => c_int::try_from(fixed).unwrap_or(-1),
                        // SAFETY: the server's own `next`.
                        None => unsafe { reference.below.$field(next) },
                    }
                })
            }
        )*

        /// Asks below what this filter answers itself. Otherwise nobody would, and the server insists on the question
        /// before the first request is passed on (nbdkit-filter(3), `.prepare`).
        unsafe fn ask_below(reference: &Reference, next: Next, handle: Handle) -> bool {
            let mut answered = true;
            if reference.shape.answer(Callback::GetSize).is_some() {
                // SAFETY: the server's own `next`, in prepare.
                answered &= unsafe { reference.below.get_size(next) } != -1;
            }
            $(if reference.shape.answer_on(handle.0, Callback::$variant).is_some() {
                // SAFETY: as above.
                answered &= unsafe { reference.below.$field(next) } != -1;
            })*
            answered
        }
    };
}

questions! {
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

unsafe extern "C" fn load<const LAYER: usize>() {
    shaped::<LAYER, _>(Callback::Load, |_| ());
}

unsafe extern "C" fn unload<const LAYER: usize>() {
    shaped::<LAYER, _>(Callback::Unload, |_| ());
}

unsafe extern "C" fn config<const LAYER: usize>(
    next: NextConfig,
    nxdata: Backend,
    key: Key,
    value: Value,
) -> c_int {
    shaped::<LAYER, _>(Callback::Config, |_| go_on!(next(nxdata, key, value)))
}

unsafe extern "C" fn config_complete<const LAYER: usize>(next: NextConfigComplete, nxdata: Backend) -> c_int {
    shaped::<LAYER, _>(Callback::ConfigComplete, |_| go_on!(next(nxdata)))
}

unsafe extern "C" fn thread_model<const LAYER: usize>() -> c_int {
    shaped::<LAYER, _>(Callback::ThreadModel, |reference| {
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
    shaped::<LAYER, _>(Callback::DumpPlugin, |_| {
        // SAFETY: a C string, through the server's own stdout so that it comes in order.
        unsafe { libc::puts(c"layers_reference_filter=1".as_ptr()) };
    });
}

unsafe extern "C" fn get_ready<const LAYER: usize>(_model: ThreadModel) -> c_int {
    shaped::<LAYER, _>(Callback::GetReady, |_| 0)
}

unsafe extern "C" fn after_fork<const LAYER: usize>(_backend: Backend) -> c_int {
    shaped::<LAYER, _>(Callback::AfterFork, |_| 0)
}

unsafe extern "C" fn cleanup<const LAYER: usize>(_backend: Backend) {
    shaped::<LAYER, _>(Callback::Cleanup, |_| ());
}

unsafe extern "C" fn preconnect<const LAYER: usize>(
    next: NextPreconnect,
    nxdata: Backend,
    readonly: ReadOnly,
) -> c_int {
    shaped::<LAYER, _>(Callback::Preconnect, |_| go_on!(next(nxdata, readonly)))
}

/// What the layer below lists, and then the exports of its own.
unsafe extern "C" fn list_exports<const LAYER: usize>(
    next: NextListExports,
    nxdata: Backend,
    readonly: ReadOnly,
    _is_tls: IsTls,
    exports: Exports,
) -> c_int {
    shaped::<LAYER, _>(Callback::ListExports, |reference| {
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
    shaped::<LAYER, _>(Callback::DefaultExport, |reference| match reference.shape.default_export() {
        Some(fixed) => ExportNameResult(fixed),
        None => go_on!(next(nxdata, readonly)),
    })
}

/// The handle is of no use to this filter, but it is its own.
unsafe extern "C" fn open<const LAYER: usize>(
    next: NextOpen,
    context: Context,
    readonly: ReadOnly,
    export_name: ExportName,
    _is_tls: IsTls,
) -> Handle {
    shaped::<LAYER, _>(Callback::Open, |reference| {
        let readonly = if reference.shape.opens_readonly { ReadOnly(1) } else { readonly };
        let below: c_int = go_on!(next(context, readonly, export_name));
        if below == -1 { Handle::FAILED } else { Handle(reference.shape.handle()) }
    })
}

unsafe extern "C" fn close<const LAYER: usize>(_handle: Handle) {
    shaped::<LAYER, _>(Callback::Close, |_| ());
}

unsafe extern "C" fn prepare<const LAYER: usize>(next: Next, handle: Handle, _readonly: ReadOnly) -> c_int {
    shaped::<LAYER, _>(Callback::Prepare, |reference| {
        // SAFETY: the server's own `next`, in prepare.
        if unsafe { ask_below(reference, next, handle) } { 0 } else { -1 }
    })
}

unsafe extern "C" fn finalize<const LAYER: usize>(_next: Next, _handle: Handle) -> c_int {
    shaped::<LAYER, _>(Callback::Finalize, |_| 0)
}

unsafe extern "C" fn get_size<const LAYER: usize>(next: Next, _handle: Handle) -> i64 {
    shaped::<LAYER, _>(Callback::GetSize, |reference| match reference.shape.answer(Callback::GetSize) {
        Some(fixed) => fixed,
        // SAFETY: the server's own `next`.
        None => unsafe { reference.below.get_size(next) },
    })
}

unsafe extern "C" fn export_description<const LAYER: usize>(
    next: Next,
    _handle: Handle,
) -> DescriptionResult {
    shaped::<LAYER, _>(Callback::ExportDescription, |reference| match reference.shape.description() {
        Some(fixed) => DescriptionResult(fixed),
        // SAFETY: the server's own `next`.
        None => unsafe { reference.below.export_description(next) },
    })
}

unsafe extern "C" fn block_size<const LAYER: usize>(
    next: Next,
    _handle: Handle,
    minimum: Minimum,
    preferred: Preferred,
    maximum: Maximum,
) -> c_int {
    shaped::<LAYER, _>(Callback::BlockSize, |reference| {
        let Some(sizes) = reference.shape.block_size else {
            // SAFETY: the server's own `next` and variables.
            return unsafe { reference.below.block_size(next, minimum, preferred, maximum) };
        };
        for (to, size) in [minimum.0, preferred.0, maximum.0].into_iter().zip(sizes) {
            // SAFETY: the server's three variables.
            unsafe { *to = size };
        }
        0
    })
}

macro_rules! requests {
    ($($variant:ident $field:ident($($argument:ident: $kind:ty),*);)*) => {$(
        unsafe extern "C" fn $field<const LAYER: usize>(
            next: Next, _handle: Handle, $($argument: $kind,)* err: ErrorPointer
        ) -> c_int {
            shaped_data::<LAYER>(Callback::$variant, next, err, |reference| {
                // SAFETY: the server's own `next` and arguments.
                unsafe { reference.below.$field(next, $($argument,)* err) }
            })
        }
    )*};
}

requests! {
    Pread pread(buffer: Buffer, count: Count, offset: Offset, flags: Flags);
    Pwrite pwrite(buffer: Buffer, count: Count, offset: Offset, flags: Flags);
    Flush flush(flags: Flags);
    Trim trim(count: Count, offset: Offset, flags: Flags);
    Zero zero(count: Count, offset: Offset, flags: Flags);
    Extents extents(count: Count, offset: Offset, flags: Flags, extents: Extents);
    Cache cache(count: Count, offset: Offset, flags: Flags);
}
