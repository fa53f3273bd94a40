//! An instrument in a server that the harness has not started: `layers watch`.
//!
//! A preloaded library has put the instrument in front of a module that the server itself has loaded (see
//! [`layers_trace::handover`]). The first instrument of a process makes a trace for it (see [`layers_trace::watched`]).
//!
//! What such a server prints, returns and leaves in its environment is as without an instrument. Where one cannot record,
//! the server gets the module's own table, and a file beside the traces says why.

use std::cell::OnceCell;
use std::ffi::{CStr, OsStr, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use layers_behaviour::Found;
use layers_trace::handover::{Handover, Signalled};
use layers_trace::watched;

use crate::init::InitError;

/// A module of the server's that was handed over.
#[derive(Debug)]
pub struct Module {
    init: *mut c_void,
    path: PathBuf,
    handover: &'static Handover,
    /// What its init function has returned.
    table: OnceCell<*mut c_void>,
}

impl Module {
    /// The module in front of which this instrument has just been put, if it was by the preloaded library.
    pub fn take() -> Option<Module> {
        let handover = Handover::of_process()?;
        let init = handover.target.swap(std::ptr::null_mut(), Ordering::AcqRel);
        if init.is_null() {
            return None;
        }
        let path = Handover::file_of(init as usize).map(CStr::to_bytes).unwrap_or_default();
        let path = PathBuf::from(OsStr::from_bytes(path));
        Some(Module { init, path, handover, table: OnceCell::new() })
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The server prints which callbacks there are, and opens nothing (nbdkit-probing(1)).
    pub fn is_only_shown(&self) -> bool {
        // Options may be cut short as long as they are clear, which this one is not before its second word.
        std::env::args_os().skip(1).any(|word| word.as_bytes().starts_with(b"--dump-p"))
    }

    /// Calls its init function, once; NULL where that has failed.
    pub fn table(&self) -> *mut c_void {
        *self.table.get_or_init(|| {
            // SAFETY: what the server has found under the name of `plugin_init` or `filter_init` has this type.
            unsafe { std::mem::transmute::<*mut c_void, extern "C" fn() -> *mut c_void>(self.init)() }
        })
    }

    /// Gives the module's own table: its calls are not recorded, and the reason is noted.
    pub fn let_go(&self, why: &InitError) -> *mut c_void {
        // A module that gives no table is the server's to complain of.
        if !self.table().is_null() {
            watched::unwatched(&why.to_string());
        }
        self.table()
    }

    /// The trace of this process; made by the first instrument.
    pub(crate) fn trace(&self) -> Result<PathBuf, InitError> {
        let known: Vec<u8> = self.handover.trace.iter().map(|byte| byte.load(Ordering::Relaxed)).collect();
        let known = known.split(|byte| *byte == 0).next().unwrap_or_default();
        if !known.is_empty() {
            return Ok(OsStr::from_bytes(known).into());
        }
        let found = serde_json::to_vec(&found()).unwrap_or_default();
        let path = watched::begin("nbdkit", &found)
            .map_err(|source| InitError::NoFile { directory: watched::traces(), source })?;
        for (to, from) in self.handover.trace.iter().zip(path.as_os_str().as_bytes().iter().chain([&0])) {
            to.store(*from, Ordering::Relaxed);
        }
        self.handover.signalled.store(watched::signalled as Signalled as *mut c_void, Ordering::Release);
        Ok(path)
    }
}

fn found() -> Found {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let pid = std::process::id();
    let activated = variable("LISTEN_PID") == pid.to_string() && !variable("LISTEN_FDS").is_empty();
    let directory = std::env::current_dir().unwrap_or_default().to_string_lossy().into_owned();
    Found { found: "nbdkit".to_owned(), version: version().unwrap_or_default(), pid, directory, activated }
}

/// The server's own version: the one text of the program that is nothing but a version, as it compares those of filters
/// with it. `None` where that is not exactly one.
fn version() -> Option<String> {
    let mut found: Vec<String> = Vec::new();
    // SAFETY: the callback gets the vector, which it alone uses until the call returns.
    unsafe { libc::dl_iterate_phdr(Some(versions), (&raw mut found).cast()) };
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [one] => Some(one.clone()),
        _ => None,
    }
}

/// Looks for versions in what can only be read of the first file, which is the program, and ends the walk.
unsafe extern "C" fn versions(info: *mut libc::dl_phdr_info, _size: usize, found: *mut c_void) -> c_int {
    // SAFETY: the dynamic linker gives a whole structure, with so many program headers; `version` gives its vector.
    let (base, headers, found) = unsafe {
        let info = &*info;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into());
        (info.dlpi_addr as usize, headers, &mut *found.cast::<Vec<String>>())
    };
    let constant =
        |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && header.p_flags == libc::PF_R;
    for header in headers.iter().filter(constant) {
        let start = base.wrapping_add(header.p_vaddr as usize) as *const u8;
        // SAFETY: the dynamic linker has mapped the segment, readable, for as long as the program runs.
        let bytes = unsafe { std::slice::from_raw_parts(start, header.p_filesz as usize) };
        found.extend(
            bytes
                .split(|byte| *byte == 0)
                .filter(|text| is_version(text))
                .filter_map(|text| Some(std::str::from_utf8(text).ok()?.to_owned())),
        );
    }
    1
}

fn is_version(text: &[u8]) -> bool {
    let parts: Vec<&[u8]> = text.split(|byte| *byte == b'.').collect();
    let is_number = |part: &&[u8]| (1..=5).contains(&part.len()) && part.iter().all(u8::is_ascii_digit);
    parts.len() == 3 && parts.iter().all(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_three_numbers_and_nothing_else() {
        for text in ["1.32.5", "1.48.1", "0.0.0"] {
            assert!(is_version(text.as_bytes()), "{text}");
        }
        for text in
            ["", "1.32", "1.32.5.1", "v1.32.5", "1.32.5 ", "1..5", "127.0.0.1", "1.32.rc1", "123456.1.1"]
        {
            assert!(!is_version(text.as_bytes()), "{text}");
        }
    }
}
