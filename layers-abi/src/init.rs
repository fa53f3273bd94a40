//! What can go wrong in `plugin_init` and `filter_init`, and how the user hears of it.

use std::io::Write as _;
use std::path::PathBuf;

use layers_behaviour::{BehaviourError, VERSION_VARIABLE};
use layers_trace::TRACE_VARIABLE;

use crate::version::{NEWEST, NEWEST_LAYOUT_VARIABLE, OLDEST};

/// Most filters in one stack: each layer has trampolines of its own, made when the instrument is compiled.
pub const MOST_FILTERS: u32 = 16;

/// Why an instrument gives the server no table.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Loaded by a server that the harness did not start.
    #[error(
        "{TRACE_VARIABLE} is not set: this file records for the `layers` command and must be loaded by it"
    )]
    NoTrace,
    /// The trace cannot be mapped.
    #[error("cannot record into `{}`: {source}", path.display())]
    Trace {
        /// What `LAYERS_TRACE` names.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The behaviour file is missing or wrong.
    #[error(transparent)]
    Behaviour(#[from] BehaviourError),
    /// A trace of this process cannot be made.
    #[error("cannot make a trace in `{}`: {source}", directory.display())]
    NoFile {
        /// Where the traces of this run are.
        directory: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No room for handles.
    #[error("cannot reserve memory for handles: {0}")]
    Handles(std::io::Error),
    /// The same image was asked for a second plugin.
    #[error("plugin_init was called twice in one process")]
    SecondPlugin,
    /// A filter beyond the last trampoline.
    #[error("filter number {0} cannot be recorded: at most {MOST_FILTERS} filters in one stack")]
    TooManyFilters(u32),
    /// A reference filter needs the version of the server, because the server wants to read it.
    #[error("{VERSION_VARIABLE} is not set: it must hold `version=` of `nbdkit --dump-config`")]
    NoVersion,
    /// Not a version number.
    #[error("`{0}` is not a version of nbdkit such as 1.32.5")]
    BadVersion(String),
    /// The filter structure of this version is not known and never will be.
    #[error("nbdkit {0} is too old: filters can be recorded from {OLDEST} on")]
    TooOld(String),
    /// The filter structure of this version is not known yet.
    #[error(
        "nbdkit {0} is newer than the newest known filter structure ({NEWEST}); \
         set {NEWEST_LAYOUT_VARIABLE}=1 to try that one"
    )]
    TooNew(String),
    /// The filter structure changes in the middle of a development series.
    #[error("nbdkit {0} is a development version: filters can be recorded under stable ones only")]
    Development(String),
    /// dlopen failed.
    #[error("cannot load `{}`: {reason}", path.display())]
    Load {
        /// The target.
        path: PathBuf,
        /// What the dynamic linker said.
        reason: String,
    },
    /// The target is no plugin, or no filter.
    #[error("cannot load `{}`: it has no {symbol}", path.display())]
    NoInit {
        /// The target.
        path: PathBuf,
        /// The function that it lacks.
        symbol: &'static str,
    },
    /// The target refused.
    #[error("cannot load `{}`: its {symbol} returned NULL", path.display())]
    NullTable {
        /// The target.
        path: PathBuf,
        /// The function that returned NULL.
        symbol: &'static str,
    },
    /// The target is a filter of another interface.
    #[error("cannot load `{}`: it is a filter of API version {found}, not 6", path.display())]
    FilterApi {
        /// The target.
        path: PathBuf,
        /// What its structure says.
        found: i32,
    },
}

impl InitError {
    /// One line on stderr; the server follows it with its own "registration function failed".
    pub fn report(&self) {
        // Nowhere is left to complain when stderr is closed.
        let _ = writeln!(std::io::stderr(), "layers: error: {self}");
    }
}
