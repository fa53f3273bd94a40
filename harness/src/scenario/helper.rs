//! Programs beside the server that scenarios run.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A program beside the server that a scenario runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Helper {
    /// Its name, which is looked for on the PATH.
    pub program: &'static str,
    /// The Debian package that has it.
    pub package: &'static str,
}

/// libnbd's nbdinfo(1).
pub const NBDINFO: Helper = Helper { program: "nbdinfo", package: "libnbd-bin" };

impl Helper {
    /// None of these directories, written as in PATH, has it.
    pub(super) fn is_missing(&self, path: &OsStr) -> bool {
        !std::env::split_paths(path).any(|directory| is_program(&directory.join(self.program)))
    }
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

impl fmt::Display for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (Debian: {})", self.program, self.package)
    }
}
