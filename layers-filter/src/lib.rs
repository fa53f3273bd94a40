//! nbdkit filter instrument: records every call that the server makes to a filter.
//!
//! The server calls `filter_init` once for each `--filter`, innermost first: the n-th call in the process is layer n.
//! The filter behind it (its target) is somebody else's file, named in the environment, or the reference filter in
//! this crate. The server sees a structure of its own version in which every callback of the target is a trampoline.

use std::ffi::c_void;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::OnceLock;

use layers_abi::arguments::text;
use layers_abi::filter::{API_VERSION, FilterWords, versions};
use layers_abi::layer::{self, Image, Layer, Registration};
use layers_abi::layout::FilterLayout;
use layers_abi::server::Lists;
use layers_abi::watched::Module;
use layers_abi::{InitError, target};
use layers_trace::Callback;

/// Calls a function that has the layer as a const generic.
macro_rules! for_layer {
    ($layer:expr, $function:ident, $otherwise:expr) => {
        for_layer!(@ $layer, $function, $otherwise; 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
    };
    (@ $layer:expr, $function:ident, $otherwise:expr; $($number:literal)*) => {
        match $layer {
            $($number => $function::<$number>(),)*
            _ => $otherwise,
        }
    };
}

mod reference;
mod structure;
mod trampolines;
mod wrapped;

use structure::newest_if_unknown;
use wrapped::{WRAPPED, Wrapped};

static IMAGE: OnceLock<Image> = OnceLock::new();

/// Called by the server for each `--filter` that names this file.
#[unsafe(no_mangle)]
pub extern "C" fn filter_init() -> *mut c_void {
    let module = Module::take();
    match (initialise(module.as_ref()), module) {
        (Ok(wrapped), _) => (&raw const wrapped.shown).cast_mut().cast(),
        (Err(error), None) => {
            error.report();
            null_mut()
        }
        (Err(error), Some(module)) => module.let_go(&error),
    }
}

fn initialise(module: Option<&Module>) -> Result<&'static Wrapped, InitError> {
    let image = match IMAGE.get() {
        Some(image) => image,
        None => {
            let image = Image::attach(module)?;
            IMAGE.get_or_init(|| image)
        }
    };
    let number = image.writer.next_filter();
    let place = (number as usize).checked_sub(1).and_then(|index| WRAPPED.get(index));
    let (Some(place), Ok(number)) = (place, u8::try_from(number)) else {
        return Err(InitError::TooManyFilters(number));
    };
    let trampolines = trampolines::table(number);
    let file = layer::target_file(number, module);
    let (layout, mut words) = match &file {
        Some(path) => somebody_elses(path, module)?,
        None => reference::filter(number)?,
    };
    let target = words.table(&layout);
    let mut shown = target.replaced_by(&trampolines);
    // Without a handle of its own a filter could not be told from its other opens; and boxes must be opened
    // whether the target cares for the end of a handle or not.
    (shown.open, shown.close) = (trampolines.open, trampolines.close);
    words.put(&shown, &layout);

    let layer = Layer::new(number, image, Lists::of_server());
    // SAFETY: NULL or a C string that lives as long as the target, both of them.
    let [name, config_help] =
        [words.name(&layout), words.config_help(&layout)].map(|field| unsafe { text(field) });
    layer.register(&Registration {
        callbacks: shown.callbacks(),
        synthetic: shown.callbacks() & !target.callbacks() & (Callback::Open.bit() | Callback::Close.bit()),
        api_version: API_VERSION.cast_unsigned(),
        name: name.unwrap_or_default(),
        config_help,
        target: file.as_deref(),
        ..Registration::default()
    });
    Ok(place.get_or_init(|| Wrapped { layer, target, shown: words }))
}

/// Loads a filter and copies its structure. Its own version says how it is laid out; the server will refuse it, in
/// its own words, if that is another version than the server's.
fn somebody_elses(path: &Path, module: Option<&Module>) -> Result<(FilterLayout, FilterWords), InitError> {
    let filter = target::find(path, "filter_init", module)?.table;
    // SAFETY: what a function called filter_init has returned.
    let (api, version) = unsafe { versions(filter) };
    if api != API_VERSION {
        return Err(InitError::FilterApi { path: path.to_owned(), found: api });
    }
    // SAFETY: with this API version a C string.
    let version = unsafe { text(version) }.unwrap_or_default();
    let layout = FilterLayout::of(&String::from_utf8_lossy(version), newest_if_unknown())?;
    // SAFETY: laid out as its version says.
    Ok((layout.clone(), unsafe { FilterWords::copy(filter, &layout) }))
}

/// Closes the targets when the server closes this file.
extern "C" fn finish() {
    if let Some(image) = IMAGE.get() {
        // All filters share this image: it ends with the last of them.
        target::probe_threads(&image.writer, 1);
    }
    target::close_all();
}

#[used]
#[unsafe(link_section = ".fini_array")]
static FINISH: extern "C" fn() = finish;
