//! What a server runs under besides its stack: what its layers get in place of what the server gives them.

use std::ffi::OsString;
use std::path::Path;

use layers_behaviour::{
    COUNTS_VARIABLE, FAILS_VARIABLE, Failing, LENDS_VARIABLE, PAUSES_VARIABLE, WATCHES_VARIABLE,
};
use serde::{Deserialize, Serialize};

use super::debugger::Debugger;
use super::under::Under;

/// The buffers that layers get for reads and writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Buffers {
    /// The server's own, or those of the filter above.
    #[default]
    Callers,
    /// The instrument's, between known bytes.
    Lent,
    /// The instrument's, next to pages that cannot be touched.
    Fenced,
}

/// What is asked of malloc.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Malloc {
    /// Nothing.
    #[default]
    Plain,
    /// How many bytes are in use, whenever a handle of the plugin has been closed.
    Counted,
    /// The checks of the C library, where it has them (`libc_malloc_debug.so.0`).
    Checked,
}

/// All of it. By default nothing differs from a server that nobody watches, but for the recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Conditions {
    /// For reads and writes.
    pub buffers: Buffers,
    /// For memory that modules allocate.
    pub malloc: Malloc,
    /// What looks at the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub under: Option<Under>,
    /// A debugger is at the server.
    #[serde(skip)]
    pub debugger: Option<Debugger>,
    /// Calls pause where that follows from this number, and wait for one another; absent means that they go straight on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pauses: Option<u64>,
    /// What modules ask of the system is looked at: which files they write to and make durable.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub watches: bool,
    /// This fails for modules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fails: Option<Failing>,
}

/// The library of the checks.
const DEBUG_LIBRARY: &str = "libc_malloc_debug.so.0";
/// What it checks: the ends of each piece, at each free; and what is freed is filled.
const TUNABLES: &str = "glibc.malloc.check=3:glibc.malloc.perturb=77";

/// What is freed is no longer in use: threads keep none of it for themselves.
const COUNTABLE: &str = "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0:glibc.malloc.arena_max=1";

impl Conditions {
    /// The same, below this, which has buffers and malloc for its own.
    #[must_use]
    pub fn under(self, under: Option<Under>) -> Conditions {
        match under {
            None => self,
            // Only what is counted is still asked for: who waits for a number must get one.
            Some(_) => {
                let malloc = if self.malloc == Malloc::Counted { self.malloc } else { Malloc::Plain };
                Conditions { under, malloc, ..Conditions::default() }
            }
        }
    }

    /// Returns what is to be set in the environment of the server.
    pub(super) fn environment(self) -> Vec<(String, OsString)> {
        let mut all: Vec<(String, OsString)> = Vec::new();
        match self.buffers {
            Buffers::Callers => {}
            Buffers::Lent => all.push((LENDS_VARIABLE.into(), "bytes".into())),
            Buffers::Fenced => all.push((LENDS_VARIABLE.into(), "pages".into())),
        }
        match self.malloc {
            Malloc::Plain => {}
            Malloc::Counted => {
                all.push((COUNTS_VARIABLE.into(), "1".into()));
                all.push(("GLIBC_TUNABLES".into(), joined("GLIBC_TUNABLES", COUNTABLE)));
            }
            Malloc::Checked if has_debug_library() => {
                all.push(("LD_PRELOAD".into(), joined("LD_PRELOAD", DEBUG_LIBRARY)));
                all.push(("GLIBC_TUNABLES".into(), joined("GLIBC_TUNABLES", TUNABLES)));
            }
            Malloc::Checked => {}
        }
        all.extend(self.watches.then(|| (WATCHES_VARIABLE.to_owned(), "1".into())));
        all.extend(self.fails.map(|failing| (FAILS_VARIABLE.to_owned(), failing.to_string().into())));
        all.extend(self.pauses.map(|seed| (PAUSES_VARIABLE.to_owned(), seed.to_string().into())));
        all
    }
}

/// A list with this first, and behind it what the variable holds already.
fn joined(variable: &str, first: &str) -> OsString {
    let mut list = OsString::from(first);
    if let Some(rest) = std::env::var_os(variable).filter(|rest| !rest.is_empty()) {
        list.push(":");
        list.push(rest);
    }
    list
}

/// The dynamic linker would complain of a library that is not there, in the server's own voice.
fn has_debug_library() -> bool {
    let folder = format!("{}-linux-gnu", std::env::consts::ARCH);
    let folders = ["/lib", "/usr/lib", "/lib64", "/usr/lib64"].map(str::to_owned);
    let of_architecture = [format!("/lib/{folder}"), format!("/usr/lib/{folder}")];
    folders.iter().chain(&of_architecture).any(|folder| Path::new(folder).join(DEBUG_LIBRARY).exists())
}
