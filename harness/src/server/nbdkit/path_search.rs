//! Finds programs on the PATH.

use std::io;
use std::path::{Path, PathBuf};

/// The file of a program, which the PATH tells where its name has no slash.
pub(super) fn find_program(name: &Path) -> io::Result<PathBuf> {
    if name.components().count() > 1 {
        return Ok(name.to_owned());
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut files = std::env::split_paths(&folders).map(|folder| folder.join(name));
    files.find(|file| file.is_file()).ok_or_else(|| io::ErrorKind::NotFound.into())
}
