//! One recorded layer: its number, and what the instrument keeps for it.

use std::ffi::{OsString, c_char};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use layers_behaviour::{BEHAVIOUR_VARIABLE, Behaviour, Behaviours, Failing, TARGET_VARIABLE_PREFIX};
use layers_trace::writer::record;
use layers_trace::{Field, Kind, TRACE_VARIABLE, Writer};

use crate::conditions;
use crate::handle_table::Boxes;
use crate::init::InitError;
use crate::lent::Lends;
use crate::lent_string::LentString;
use crate::pauses::Pauses;
use crate::server::Lists;
use crate::watched::Module;

/// What all layers of one image share: the trace and the boxes. Made by the first init call, kept for ever.
#[derive(Debug)]
pub struct Image {
    /// The trace.
    pub writer: Writer,
    /// The handles.
    pub boxes: Boxes,
}

impl Image {
    /// Attaches to the trace that the environment names, or, in front of a module that was handed over, to that of this
    /// process.
    pub fn attach(module: Option<&Module>) -> Result<Image, InitError> {
        let path = match module {
            Some(module) => module.trace()?,
            None => std::env::var_os(TRACE_VARIABLE).map(PathBuf::from).ok_or(InitError::NoTrace)?,
        };
        let writer = Writer::attach(&path).map_err(|source| InitError::Trace { path, source })?;
        Ok(Image { writer, boxes: Boxes::reserve().map_err(InitError::Handles)? })
    }
}

/// One layer, as its trampolines need it.
#[derive(Debug)]
pub struct Layer {
    /// 0 is the plugin, n the outermost filter.
    pub number: u8,
    /// The trace.
    pub writer: &'static Writer,
    /// The handles.
    pub boxes: &'static Boxes,
    /// How to look into the server's lists.
    pub lists: Lists,
    /// What is read, what is written, and what lists of extents hold is looked at.
    pub digests: bool,
    /// Writes are looked at in any case.
    pub looks_at_writes: bool,
    /// What the target gets instead of the caller's buffers.
    pub lends: Lends,
    /// Where calls pause, and wait for one another, if they are to.
    pub pauses: Option<&'static Pauses>,
    /// What its target asks of the system is looked at.
    pub watches: bool,
    /// What fails for its target.
    pub fails: Option<Failing>,
    /// Its `errno_is_preserved`, of a plugin all of whose calls of nbdkit_set_error are recorded.
    pub errno_is_preserved: Option<bool>,
    /// Keys and values that `config` got.
    pub(crate) parameters: Mutex<Vec<LentString>>,
    /// A string that the reference plugin interned in `load`.
    pub interned: OnceLock<LentString>,
}

impl Layer {
    /// A layer of this image.
    pub fn new(number: u8, image: &'static Image, lists: Lists) -> Layer {
        Layer {
            number,
            writer: &image.writer,
            boxes: &image.boxes,
            lists,
            digests: image.writer.has_digests(),
            looks_at_writes: false,
            lends: Lends::asked_for(),
            pauses: Pauses::asked_for(number),
            watches: conditions::is_watched() || conditions::failing().is_some(),
            fails: conditions::failing(),
            errno_is_preserved: None,
            parameters: Mutex::default(),
            interned: OnceLock::new(),
        }
    }

    /// Records what the layer is.
    pub fn register(&self, layer: &Registration<'_>) {
        let mut note = record(Kind::Layer, self.number, 0);
        (note.a, note.b, note.c, note.d) =
            (layer.callbacks, layer.synthetic, layer.thread_model, layer.api_version);
        note.context = self.errno_is_preserved.map_or(0, |preserved| 1 + u64::from(preserved));
        // What no structure is as long as says whether errno is preserved.
        note.handle =
            u32::try_from(layer.struct_size).unwrap_or(0) | u32::from(layer.errno_is_preserved) << 31;
        let target = layer.target.map(|path| path.as_os_str().as_encoded_bytes());
        let texts = [
            Some((Field::Name, layer.name)),
            layer.magic_config_key.map(|key| (Field::Key, key)),
            target.map(|bytes| (Field::Target, bytes)),
            layer.long_name.map(|text| (Field::LongName, text)),
            layer.version.map(|text| (Field::Version, text)),
            layer.description.map(|text| (Field::Description, text)),
            layer.config_help.map(|text| (Field::Help, text)),
        ];
        let texts: Vec<_> = texts.into_iter().flatten().collect();
        self.writer.note(note, &texts);
    }

    /// Keeps a key or value of `config`.
    ///
    /// # Safety
    ///
    /// `pointer` is NULL or a C string.
    pub unsafe fn keep_parameter(&self, pointer: *const c_char) {
        // SAFETY: as the caller promises.
        if let Some(kept) = unsafe { LentString::new(pointer) } {
            self.parameters.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        }
    }
}

/// What a layer is, as its registration in the trace says. What stands in a plugin's structure only is empty for a filter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Registration<'a> {
    /// Callbacks that the server sees ([`Callback::bit`]s).
    pub callbacks: u64,
    /// Those among them that the target does not have.
    pub synthetic: u64,
    /// `_thread_model` of a plugin.
    pub thread_model: u32,
    /// `_api_version`.
    pub api_version: u32,
    /// `name`.
    pub name: &'a [u8],
    /// `magic_config_key` of a plugin, empty where that is NULL.
    pub magic_config_key: Option<&'a [u8]>,
    /// File of the target, if it is not the reference layer.
    pub target: Option<&'a Path>,
    /// `_struct_size` of a plugin.
    pub struct_size: u64,
    /// `errno_is_preserved` of a plugin is not 0.
    pub errno_is_preserved: bool,
    /// `longname` of a plugin.
    pub long_name: Option<&'a [u8]>,
    /// `version` of a plugin.
    pub version: Option<&'a [u8]>,
    /// `description` of a plugin.
    pub description: Option<&'a [u8]>,
    /// `config_help`.
    pub config_help: Option<&'a [u8]>,
}

/// The behaviour of reference layer `number`.
pub fn behaviour(number: u8) -> Result<Behaviour, InitError> {
    match std::env::var_os(BEHAVIOUR_VARIABLE) {
        None => Ok(Behaviour::default()),
        Some(path) => Ok(Behaviours::read(Path::new(&path))?.layer(number)),
    }
}

/// The file that layer `number` is to wrap, if any: that of a module that was handed over, or what the environment names.
pub fn target_file(number: u8, module: Option<&Module>) -> Option<PathBuf> {
    if let Some(module) = module {
        return Some(module.path().to_owned());
    }
    let variable = OsString::from(format!("{TARGET_VARIABLE_PREFIX}{number}"));
    std::env::var_os(variable).map(PathBuf::from)
}
