//! What a reference layer does.
//!
//! The harness writes it as JSON and names it in the environment; an instrument without a target reads it when the
//! server calls its init function, because it decides which callbacks exist before any parameter arrives. Unknown
//! keys are errors on both sides.

mod act;
mod failing;
mod found;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use layers_trace::Callback;
use serde::{Deserialize, Serialize};

pub use act::{Act, Deed, Skip};
pub use failing::{Failing, NotFailing, Refused};
pub use found::Found;

/// Environment variable that names the JSON file with a [`Behaviours`].
pub const BEHAVIOUR_VARIABLE: &str = "LAYERS_BEHAVIOUR";
/// Environment variable with the version of the server (`version=` of `nbdkit --dump-config`), for filters.
pub const VERSION_VARIABLE: &str = "LAYERS_SERVER_VERSION";
/// Environment variable that names, for layer N, the file that the instrument is to wrap: this prefix and N in
/// decimal. A layer without it is a reference layer.
pub const TARGET_VARIABLE_PREFIX: &str = "LAYERS_TARGET_";
/// Environment variable that has targets get buffers of the instrument's own: `bytes`, between known bytes, or `pages`, next
/// to pages that cannot be touched.
pub const LENDS_VARIABLE: &str = "LAYERS_LENDS";
/// Environment variable that, set to 1, has the plugin's instrument record how much of malloc's memory is in use whenever a
/// handle of the plugin has been closed.
pub const COUNTS_VARIABLE: &str = "LAYERS_COUNTS_MEMORY";
/// Environment variable that has calls pause, and wait for one another, at places and for times that follow from this
/// number.
pub const PAUSES_VARIABLE: &str = "LAYERS_PAUSES";
/// Environment variable that, set to anything, has what targets ask of the system looked at: which files they write to and
/// make durable, and what a plugin gives to nbdkit_set_error.
pub const WATCHES_VARIABLE: &str = "LAYERS_WATCHES";
/// Environment variable that has something fail for targets, as a [`Failing`] reads.
pub const FAILS_VARIABLE: &str = "LAYERS_FAILS";
/// Environment variable with the run id in hexadecimal, by which a process that left its group is still known.
pub const RUN_VARIABLE: &str = "LAYERS_RUN";

/// The behaviours of all layers of one stack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviours {
    /// The reference plugin, layer 0.
    pub plugin: Behaviour,
    /// The reference filters, innermost (layer 1) first.
    pub filters: Vec<Behaviour>,
}

impl Behaviours {
    /// The behaviour of this layer, 0 for the plugin; the default beyond the outermost filter.
    pub fn layer(&self, layer: u8) -> Behaviour {
        match usize::from(layer).checked_sub(1) {
            None => self.plugin.clone(),
            Some(filter) => self.filters.get(filter).cloned().unwrap_or_default(),
        }
    }

    /// Reads the JSON file at `path`.
    pub fn read(path: &Path) -> Result<Behaviours, BehaviourError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| BehaviourError::Read { path: path.display().to_string(), source })?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// Why a behaviour file is not one.
#[derive(Debug, thiserror::Error)]
pub enum BehaviourError {
    /// The file cannot be read.
    #[error("cannot read the behaviour file `{path}`: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not the JSON of a [`Behaviours`].
    #[error("the behaviour file is wrong: {0}")]
    Json(#[from] serde_json::Error),
}

/// One reference layer. The default has every callback, and passes on (filter) or serves a disk (plugin).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// Callbacks that this layer does not have: NULL in its table.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub absent: BTreeSet<Callback>,
    /// Fixed answers of integer callbacks (`get_size` in bytes, `can_*`, `is_rotational`, `thread_model` 0 to 3). A filter that has one
    /// here answers without asking below.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub answers: BTreeMap<Callback, i64>,
    /// Answers that change from one `open` of this layer to the next: the n-th gets the n-th of all combinations of these, the
    /// last callback's value changing fastest, and begins anew after the last. A filter answers these without asking below.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cycle: Vec<(Callback, Vec<i64>)>,
    /// Answers that a plugin gives on every other `open`, the second one first; on the others it answers as ever.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub every_other: BTreeMap<Callback, i64>,
    /// A plugin without a key for bare arguments (`magic_config_key`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_magic_key: bool,
    /// A plugin whose `errno` the server may use (`errno_is_preserved`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub errno_is_preserved: bool,
    /// A plugin without `longname`, `version`, `description` and `config_help`, whose structure ends before `block_size`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_words: bool,
    /// `THREAD_MODEL` of a plugin, 0 to 3; parallel when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_model_macro: Option<u8>,
    /// A plugin records of each write whether its bytes are all zero.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub looks_at_writes: bool,
    /// What a plugin's `extents` puts into the list.
    #[serde(skip_serializing_if = "Extents::is_natural")]
    pub extents: Extents,
    /// A filter opens the layer below read-only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub opens_readonly: bool,
    /// Answer of `block_size`: minimum, preferred, maximum, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<[u32; 3]>,
    /// What a plugin answers of an export depends on the name of it: `get_size`, `block_size` and `export_description`,
    /// `is_rotational`, `can_multi_conn` and `can_cache`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub by_export: bool,
    /// What `list_exports` adds: (name, description). The plugin's default is the empty name alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exports: Option<Vec<(String, String)>>,
    /// Answer of `default_export`; absent asks below (filter) or gives the empty name (plugin).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_export: Option<Nullable>,
    /// Answer of `export_description`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export_description: Option<Nullable>,
    /// Milliseconds that a callback sleeps, in the layer's own code, before it does anything else.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sleep: BTreeMap<Callback, u32>,
    /// Calls that fail.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fail: Vec<Failure>,
    /// Requests that fail for good with EIO: those of this callback from its n-th call on, counted from 1 over the whole run.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fails_from: BTreeMap<Callback, u32>,
    /// Bytes of a plugin's disk, from the first to behind the last, that no request can touch: it fails with EIO.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bad: Option<[u64; 2]>,
    /// Keys of parameters that a filter keeps to itself.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub swallow: BTreeSet<String>,
    /// Where a filter does not call on. One that opens nothing below serves zeroes of its own, of the size that `answers`
    /// gives.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub skip: BTreeSet<Skip>,
    /// What a filter answers itself (`answers`) it asks below in each request, instead of once in `prepare`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ask_late: bool,
    /// A filter writes into the trace what it calls in the layer below and of the server's functions for contexts.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub log_below: bool,
    /// What it does beside its work.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub acts: Vec<Act>,
}

impl Behaviour {
    /// As a filter's: callbacks ([`Callback::bit`]s) with which it asks the layer below just what it is asked, and answers
    /// what it is told.
    pub fn hands_on(&self) -> u64 {
        use Callback::{
            BlockSize, Config, ConfigComplete, DefaultExport, ExportDescription, ListExports, Open,
            Preconnect,
        };
        let handed = |callback: &Callback| {
            let own = match callback {
                Config => !self.swallow.is_empty(),
                ConfigComplete => self.skip.contains(&Skip::ConfigComplete),
                Open => self.opens_readonly,
                BlockSize => self.block_size.is_some(),
                ListExports => self.exports.is_some(),
                DefaultExport => self.default_export.is_some(),
                ExportDescription => self.export_description.is_some(),
                _ => false,
            };
            let answers =
                self.answers.contains_key(callback) || self.cycle.iter().any(|(one, _)| one == callback);
            let fails = self.fail.iter().any(|failure| failure.callback == *callback)
                || self.fails_from.contains_key(callback);
            // Who does more than its work may use contexts of its own.
            let alone = self.acts.is_empty() && !self.skip.contains(&Skip::Open);
            !(own || answers || fails) && (alone || !callback.is_connected())
        };
        let can = |callback: &&Callback| {
            matches!(callback, Config | ConfigComplete | Preconnect | ListExports | DefaultExport | Open)
                || callback.is_query()
                || callback.is_data()
        };
        Callback::NBDKIT.iter().filter(can).filter(|one| handed(one)).fold(0, |set, one| set | one.bit())
    }

    /// It ends the process in one of its callbacks.
    pub fn exits(&self) -> bool {
        self.acts.iter().any(|act| matches!(act.deed, Deed::Exit(_) | Deed::Abort | Deed::Hang))
    }
}

/// What a callback that returns a string answers: `{"text": "main"}` or `"null"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Nullable {
    /// This string.
    Text(String),
    /// NULL.
    Null,
}

/// What `extents` of a reference plugin puts into the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Extents {
    /// What the disk has.
    #[default]
    Natural,
    /// From the beginning of the disk to behind its end, whatever is asked: extents of uneven lengths and of every type, whatever the
    /// disk holds.
    Whole,
    /// Nothing, and it succeeds all the same.
    Empty,
    /// A later extent first.
    Unordered,
    /// Two extents with a gap between them.
    Gap,
}

impl Extents {
    fn is_natural(&self) -> bool {
        *self == Extents::Natural
    }
}

/// One call that fails: -1, or NULL where the callback returns a pointer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// Which callback.
    pub callback: Callback,
    /// Which of its calls in this layer, counted from 1 over the whole run; absent means every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nth: Option<u32>,
    /// `errno` to fail with, as a number; 5 (EIO) when absent.
    #[serde(default = "eio")]
    pub errno: i32,
    /// A filter fails after it has called the layer below, and that has succeeded. Otherwise it never asks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub after_next: bool,
    /// How a plugin tells the server of the errno. A filter's goes into `*err`, if its callback has that.
    #[serde(default, skip_serializing_if = "Telling::is_both")]
    pub told: Telling,
}

/// How a plugin tells the server why it fails (nbdkit_error(3), "Setting errno").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Telling {
    /// By `nbdkit_set_error`, and by `errno`, which is the same.
    #[default]
    Both,
    /// By `nbdkit_set_error`; `errno` is another one (18, EXDEV).
    SetError,
    /// By `errno` alone.
    Errno,
    /// Not at all: `errno` is 0.
    Nothing,
}

impl Telling {
    fn is_both(&self) -> bool {
        *self == Telling::Both
    }
}

fn eio() -> i32 {
    5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_and_unknown_callbacks_are_errors() {
        let error = |text: &str| serde_json::from_str::<Behaviours>(text).unwrap_err().to_string();
        assert!(error(r#"{"plugin": {"slep": {}}}"#).contains("unknown field `slep`"));
        assert!(error(r#"{"plugin": {"absent": ["cash"]}}"#).contains("`cash` is not a callback"));
        assert!(error(r#"{"plugin": {"skip": ["close"]}}"#).contains("unknown variant `close`"));
        assert!(error(r#"{"plugin": {"acts": [{"callback": "open", "deed": "sing"}]}}"#).contains("`sing`"));
    }

    #[test]
    fn json_reads_back_as_written() {
        let behaviours = Behaviours {
            plugin: Behaviour {
                answers: [(Callback::CanZero, 1)].into(),
                default_export: Some(Nullable::Null),
                ..Behaviour::default()
            },
            filters: vec![Behaviour {
                fail: vec![Failure {
                    callback: Callback::Open,
                    nth: Some(1),
                    errno: 28,
                    after_next: true,
                    told: Telling::SetError,
                }],
                sleep: [(Callback::Pread, 20)].into(),
                swallow: ["key".to_owned()].into(),
                skip: [Skip::ConfigComplete].into(),
                acts: vec![Act { callback: Callback::Open, nth: Some(2), deed: Deed::Disconnect(true) }],
                ..Behaviour::default()
            }],
        };
        let text = serde_json::to_string(&behaviours).unwrap();
        assert_eq!(serde_json::from_str::<Behaviours>(&text).unwrap(), behaviours);
        assert_eq!(behaviours.layer(1), behaviours.filters[0]);
        assert_eq!(behaviours.layer(9), Behaviour::default());
    }
}
