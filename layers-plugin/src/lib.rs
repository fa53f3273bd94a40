//! nbdkit plugin instrument: records every call that the server makes to a plugin.
//!
//! The plugin behind it (its target) is somebody else's file, named in the environment, or the reference plugin in
//! this crate. The server sees a copy of the target's structure in which every callback is a trampoline.

mod allocated;
mod connection;
mod disk;
mod reference;
mod trampolines;
mod wrapped;

use std::ffi::c_void;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::OnceLock;

use layers_abi::arguments::text;
use layers_abi::layer::{self, Image, Layer, Registration};
use layers_abi::plugin::{Plugin, PluginCopy};
use layers_abi::server::Lists;
use layers_abi::side_effects::{note, probe};
use layers_abi::watched::Module;
use layers_abi::{InitError, target};
use layers_trace::record::Record;
use layers_trace::{Callback, Probe};

use wrapped::{LAYER, WRAPPED, Wrapped};

static IMAGE: OnceLock<Image> = OnceLock::new();
/// What the server sees.
static SHOWN: OnceLock<PluginCopy> = OnceLock::new();

/// Called by the server when it has loaded this file.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_init() -> *mut c_void {
    let module = Module::take();
    match (initialise(module.as_ref()), module) {
        (Ok(shown), _) => std::ptr::from_ref(shown).cast_mut().cast(),
        (Err(error), None) => {
            error.report();
            null_mut()
        }
        (Err(error), Some(module)) => module.let_go(&error),
    }
}

fn initialise(module: Option<&Module>) -> Result<&'static PluginCopy, InitError> {
    if WRAPPED.get().is_some() {
        return Err(InitError::SecondPlugin);
    }
    let image = match IMAGE.get() {
        Some(image) => image,
        None => {
            let image = Image::attach(module)?;
            IMAGE.get_or_init(|| image)
        }
    };
    let file = layer::target_file(LAYER, module);
    let behaviour = layer::behaviour(LAYER);
    let (table, looks_at_writes, is_seen) = match &file {
        Some(path) => {
            let loaded = target::find(path, "plugin_init", module)?;
            (loaded.table.cast_const().cast(), false, loaded.is_seen)
        }
        None => {
            let behaviour = behaviour?;
            (reference::table(&behaviour), behaviour.looks_at_writes, false)
        }
    };
    // SAFETY: a structure of a plugin: ours, or what a function called plugin_init has returned.
    let mut copy = unsafe { PluginCopy::new(table) };
    let target = *copy.plugin();
    let shown = copy.plugin_mut();
    *shown = target.replaced_by(&trampolines::TABLE);
    // Boxes must be opened whether the target cares for the end of a handle or not.
    if !module.is_some_and(Module::is_only_shown) {
        shown.close = trampolines::TABLE.close;
    }
    let mut layer = Layer::new(LAYER, image, Lists::of_server());
    layer.looks_at_writes = looks_at_writes;
    layer.errno_is_preserved = file.is_none().then_some(target.errno_is_preserved != 0);
    register(&layer, &target, shown.callbacks(), file.as_deref());
    if is_seen {
        note(&layer, Record { a: 1, ..probe(&layer, Probe::Watched) });
    }
    WRAPPED.get_or_init(|| Wrapped { layer, target, is_reference: file.is_none() });
    Ok(SHOWN.get_or_init(|| copy))
}

fn register(layer: &Layer, target: &Plugin, shown: u64, file: Option<&Path>) {
    let fields = [
        target.name,
        target.magic_config_key,
        target.longname,
        target.version,
        target.description,
        target.config_help,
    ];
    // SAFETY: NULL or a C string that lives as long as the target, all of them.
    let [name, magic, long_name, version, description, config_help] =
        fields.map(|field| unsafe { text(field) });
    layer.register(&Registration {
        callbacks: shown,
        synthetic: shown & !target.callbacks() & Callback::Close.bit(),
        thread_model: target._thread_model.cast_unsigned(),
        api_version: target._api_version.cast_unsigned(),
        name: name.unwrap_or_default(),
        magic_config_key: Some(magic.unwrap_or_default()),
        target: file,
        struct_size: target._struct_size,
        errno_is_preserved: target.errno_is_preserved != 0,
        long_name,
        version,
        description,
        config_help,
    });
}

/// Closes the target when the server closes this file.
extern "C" fn finish() {
    if let Some(image) = IMAGE.get() {
        target::probe_threads(&image.writer, LAYER);
    }
    target::close_all();
}

#[used]
#[unsafe(link_section = ".fini_array")]
static FINISH: extern "C" fn() = finish;
