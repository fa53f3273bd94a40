//! The layers of the stack, as they are registered.

use layers_trace::{Callback, Event, Field};

use crate::foreign::visible::visible_line;

/// What a layer registered when the server loaded it.
#[derive(Clone, Debug)]
pub struct Layer {
    /// 0 is the plugin.
    pub number: u8,
    /// `name` of its structure.
    pub name: String,
    /// Callbacks of its target, [`Callback::bit`]s.
    callbacks: u64,
    /// Those that the instrument made up where the target had none.
    synthetic: u64,
    /// The plugin's `_thread_model`.
    pub thread_model: u32,
    /// The plugin's `magic_config_key`, empty when it has none; `None` where the registration does not say.
    pub magic_config_key: Option<String>,
    /// File of somebody else's module that the instrument wraps; `None` for a reference layer.
    pub target: Option<String>,
    /// The plugin's `errno_is_preserved`; `None` where nothing is known of what it gives to nbdkit_set_error.
    pub errno_is_preserved: Option<bool>,
    /// What else stands in a plugin's structure; `None` for a filter, and where the registration does not say.
    pub structure: Option<Structure>,
}

/// In `handle` of a plugin's registration, beside `_struct_size`: it has `errno_is_preserved`.
const PRESERVED: u32 = 1 << 31;

/// Fields of a plugin's structure that are not functions (nbdkit-plugin(3), "CALLBACKS").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// `_struct_size`, in bytes.
    pub size: u64,
    /// `_api_version`.
    pub api_version: u32,
    /// `errno_is_preserved` is not 0.
    pub errno_is_preserved: bool,
    /// `longname`.
    pub long_name: Option<String>,
    /// `version`.
    pub version: Option<String>,
    /// `description`.
    pub description: Option<String>,
    /// `config_help`.
    pub config_help: Option<String>,
}

impl Layer {
    /// The target has this callback itself.
    pub fn has(&self, callback: Callback) -> bool {
        self.callbacks & !self.synthetic & callback.bit() != 0
    }

    /// Calls of this callback are in the trace: the target has it, or the instrument stands in for it.
    pub fn records(&self, callback: Callback) -> bool {
        self.callbacks & callback.bit() != 0
    }
}

/// The registered layers, by number.
#[derive(Debug, Default)]
pub(super) struct Layers {
    all: Vec<Layer>,
}

impl Layers {
    pub(super) fn all(&self) -> &[Layer] {
        &self.all
    }

    pub(super) fn get(&self, number: u8) -> Option<&Layer> {
        // Where none is missing, each stands at its number.
        let at = self.all.get(usize::from(number)).filter(|layer| layer.number == number);
        at.or_else(|| self.all.iter().find(|layer| layer.number == number))
    }

    /// The numbers of those that record this callback, the plugin's first.
    pub(super) fn recording(&self, callback: Callback) -> impl DoubleEndedIterator<Item = u8> {
        self.all.iter().filter(move |layer| layer.records(callback)).map(|layer| layer.number)
    }

    pub(super) fn records(&self, layer: u8, callback: Callback) -> bool {
        self.get(layer).is_some_and(|layer| layer.records(callback))
    }

    pub(super) fn register(&mut self, event: &Event) {
        let text = |field| event.text(field).map(|text| String::from_utf8_lossy(&text.bytes).into_owned());
        let shown = |field| text(field).map(|text| visible_line(&text));
        self.all.push(Layer {
            number: event.layer,
            name: shown(Field::Name).unwrap_or_default(),
            magic_config_key: text(Field::Key),
            target: shown(Field::Target),
            errno_is_preserved: event.context.checked_sub(1).map(|preserved| preserved != 0),
            callbacks: event.a,
            synthetic: event.b,
            thread_model: event.c,
            structure: (event.layer == 0 && event.handle != 0).then(|| Structure {
                size: u64::from(event.handle & !PRESERVED),
                api_version: event.d,
                errno_is_preserved: event.handle & PRESERVED != 0,
                long_name: text(Field::LongName),
                version: text(Field::Version),
                description: text(Field::Description),
                config_help: text(Field::Help),
            }),
        });
        self.all.sort_by_key(|layer| layer.number);
    }
}
