//! The ways in which the instrument gets into an unmodified HAProxy.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::Path;

use super::super::instruments::{self, lasting_path};

/// What stands in a configuration for the directory of the run.
pub(super) const DIRECTORY_MARK: &str = "{dir}";
/// In the directory of a run: what Lua is told to load, and the module that it finds.
const SCRIPT: &str = "layers.lua";
const MODULE: &str = "layers_applet.so";

/// How the instrument is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loading {
    /// `LD_PRELOAD`: from the first instruction on, and in the master process, too.
    #[default]
    Preload,
    /// A Lua module of the configuration's `lua-load`, the same for all threads.
    Lua,
    /// The same with `lua-load-per-thread`, once for each thread.
    LuaPerThread,
}

impl Loading {
    /// The keyword of the configuration.
    fn keyword(self) -> Option<&'static str> {
        match self {
            Loading::Preload => None,
            Loading::Lua => Some("lua-load"),
            Loading::LuaPerThread => Some("lua-load-per-thread"),
        }
    }
}

/// The text of a configuration for a run in this directory. Writes there what it names for the instrument's sake.
pub(super) fn configuration(text: &str, load: Loading, directory: &Path) -> io::Result<String> {
    let shown = directory.to_string_lossy();
    let text = text.replace(DIRECTORY_MARK, &shown);
    let Some(keyword) = load.keyword() else { return Ok(text) };
    let script = directory.join(SCRIPT);
    let lines = format!("package.cpath = \"{shown}/?.so;\" .. package.cpath\nrequire(\"layers_applet\")\n");
    std::fs::write(&script, lines)?;
    std::os::unix::fs::symlink(instruments::lasting_path(instruments::applet()?), directory.join(MODULE))?;
    // Before any line that names a service: parsing copies it.
    Ok(format!("global\n    {keyword} {}\n\n{text}", script.display()))
}

/// What the environment must say for it, and for these modules of the user's: the instrument comes first, then they, then what
/// is preloaded into everything that the user starts.
pub(super) fn environment(load: Loading, modules: &[File]) -> io::Result<Option<(String, OsString)>> {
    let own = (load == Loading::Preload).then(|| instruments::applet().map(lasting_path)).transpose()?;
    let users = std::env::var_os("LD_PRELOAD").filter(|files| !files.is_empty());
    let all: Vec<OsString> = own.into_iter().chain(modules.iter().map(lasting_path)).chain(users).collect();
    Ok((!all.is_empty()).then(|| ("LD_PRELOAD".to_owned(), all.join(OsStr::new(":")))))
}
