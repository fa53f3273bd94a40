//! The instruments, embedded in the harness and handed to servers as sealed memory files: no path, no file.

use std::ffi::{CStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::OnceLock;

use layers_trace::handover;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::process::above_standard;

static PLUGIN: &[u8] = include_bytes!(env!("LAYERS_PLUGIN_FILE"));
static APPLET: &[u8] = include_bytes!(env!("LAYERS_APPLET_FILE"));
static WATCH: &[u8] = include_bytes!(env!("LAYERS_WATCH_FILE"));
static FILTER: &[u8] = include_bytes!(env!("LAYERS_FILTER_FILE"));

/// The plugin instrument; written once in the life of the process.
pub fn plugin() -> io::Result<&'static File> {
    static FILE: OnceLock<File> = OnceLock::new();
    written_once(&FILE, "layers-plugin.so", PLUGIN)
}

/// The instrument of HAProxy; written once in the life of the process.
pub fn applet() -> io::Result<&'static File> {
    static FILE: OnceLock<File> = OnceLock::new();
    written_once(&FILE, "layers-applet.so", APPLET)
}

/// The filter instrument; written once in the life of the process.
pub fn filter() -> io::Result<&'static File> {
    static FILE: OnceLock<File> = OnceLock::new();
    written_once(&FILE, "layers-filter.so", FILTER)
}

/// Writes the instruments, and the library that is preloaded for them, into this directory: for servers that may be there
/// when this process is not.
pub(super) fn write_to(directory: &Path) -> io::Result<()> {
    let name = |name: &CStr| name.to_string_lossy().into_owned();
    let files = [
        (name(handover::PLUGIN), PLUGIN),
        (name(handover::FILTER), FILTER),
        (name(handover::APPLET), APPLET),
        (handover::LIBRARY.to_owned(), WATCH),
    ];
    files.into_iter().try_for_each(|(name, bytes)| std::fs::write(directory.join(name), bytes))
}

/// Another file with the same filter instrument in it.
pub fn filter_copy() -> io::Result<File> {
    sealed("layers-filter-copy.so", FILTER)
}

fn written_once(cell: &'static OnceLock<File>, name: &str, bytes: &[u8]) -> io::Result<&'static File> {
    if let Some(file) = cell.get() {
        return Ok(file);
    }
    let file = sealed(name, bytes)?;
    Ok(cell.get_or_init(|| file))
}

/// A memory file with these bytes that nobody can change any more.
fn sealed(name: &str, bytes: &[u8]) -> io::Result<File> {
    let memory = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(above_standard(memory.as_fd())?);
    file.write_all(bytes)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
    Ok(file)
}

/// A server started anew opens its files anew: by a path that does not depend on what it has kept open.
pub(super) fn lasting_path(file: &File) -> OsString {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into()
}
