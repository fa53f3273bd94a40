//! A server below something that looks at its memory: valgrind, or the run-time of a sanitizer.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::path_search::find_program;
use crate::foreign::bounded;

/// What looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Under {
    /// valgrind's memcheck: memory that is not there, or was never written
    Memcheck,
    /// valgrind's helgrind: memory that threads use without a lock, and locks taken in different orders
    Helgrind,
    /// The run-time that a module built with -fsanitize=address (or thread, undefined) needs
    Asan,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum UnderError {
    /// Not installed.
    #[error("cannot find valgrind: install the Debian package valgrind (or run ci/setup)")]
    NoValgrind,
    /// Not installed.
    #[error("cannot find gdb: install the Debian package gdb (or run ci/setup)")]
    NoGdb,
    /// Nothing to preload.
    #[error("`{0}` needs no run-time of a sanitizer: build it with -fsanitize=address, thread or undefined")]
    NoRuntime(String),
}

/// The shared libraries of the run-times, as their names begin.
const RUNTIMES: [&str; 5] =
    ["libasan.so.", "libtsan.so.", "libubsan.so.", "libclang_rt.asan-", "libclang_rt.tsan-"];
/// Where valgrind writes, in the directory of a run.
const REPORT: &str = "valgrind";

impl Under {
    /// It is valgrind.
    pub fn is_valgrind(self) -> bool {
        matches!(self, Under::Memcheck | Under::Helgrind)
    }

    /// How many times as long everything may take.
    pub fn slowness(self) -> u32 {
        if self.is_valgrind() { 8 } else { 4 }
    }

    /// Says whether these modules can be looked at.
    ///
    /// # Errors
    ///
    /// There is no valgrind, or none of the modules was built with a sanitizer.
    pub fn look(self, modules: &[PathBuf]) -> Result<(), UnderError> {
        match self {
            Under::Memcheck | Under::Helgrind if find_program(Path::new("valgrind")).is_err() => {
                Err(UnderError::NoValgrind)
            }
            Under::Asan if runtimes(modules).is_empty() => {
                let name = modules.last().map(|path| path.display().to_string()).unwrap_or_default();
                Err(UnderError::NoRuntime(name))
            }
            _ => Ok(()),
        }
    }

    /// The program to start, with what comes before the arguments of the server.
    pub(super) fn command(self, server: &Path, directory: &Path) -> Option<(PathBuf, Vec<OsString>)> {
        if !self.is_valgrind() {
            return None;
        }
        let mut report = OsString::from("--xml-file=");
        report.push(directory.join(format!("{REPORT}.%p")));
        // What is left is counted in other cases; here the modules are gone before it could be said whose it was.
        let tool: &[&str] = match self {
            Under::Helgrind => &["--tool=helgrind"],
            _ => &["--tool=memcheck", "--leak-check=no"],
        };
        // Files of settings, which may lie where a case is played, can have it write anywhere.
        let always = ["--command-line-only=yes", "-q", "--xml=yes", "--child-silent-after-fork=yes"];
        let options = tool.iter().chain(&always);
        let mut arguments: Vec<OsString> = options.map(OsString::from).collect();
        arguments.extend([report, server.into()]);
        Some((PathBuf::from("valgrind"), arguments))
    }

    /// Returns what is to be set in the environment of the server.
    pub(super) fn environment(self, modules: &[PathBuf]) -> Vec<(String, OsString)> {
        if self != Under::Asan {
            return Vec::new();
        }
        let runtimes = OsString::from(runtimes(modules).join(":"));
        let options = "detect_leaks=0:abort_on_error=0:exitcode=1";
        vec![
            ("LD_PRELOAD".into(), runtimes),
            ("ASAN_OPTIONS".into(), options.into()),
            ("TSAN_OPTIONS".into(), "exitcode=0".into()),
        ]
    }

    /// What valgrind has written about the processes of this run.
    pub(super) fn reports(directory: &Path) -> String {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let is_report = |name: &OsString| name.to_string_lossy().starts_with(REPORT);
        let files = entries.filter(|entry| is_report(&entry.file_name())).map(|entry| entry.path());
        files.filter_map(|path| bounded::found_text(&path).ok()).collect()
    }
}

/// The run-times that these modules name among the libraries they need.
fn runtimes(modules: &[PathBuf]) -> Vec<String> {
    let mut found = Vec::new();
    for module in modules {
        let bytes = bounded::module(module).unwrap_or_default();
        for needed in needed(&bytes) {
            if RUNTIMES.iter().any(|name| needed.starts_with(name)) && !found.contains(&needed) {
                found.push(needed);
            }
        }
    }
    found
}

/// The names of the libraries that an ELF file needs.
fn needed(file: &[u8]) -> Vec<String> {
    use object::elf::{DT_NEEDED, FileHeader64};
    use object::read::elf::{Dyn as _, FileHeader as _};
    use object::{Endianness, StringTable};

    let read = || -> object::Result<Vec<String>> {
        let header = FileHeader64::<Endianness>::parse(file)?;
        let endian = header.endian()?;
        let sections = header.sections(endian, file)?;
        let mut names = Vec::new();
        let Some((entries, link)) = sections.dynamic(endian, file)? else { return Ok(names) };
        let strings: StringTable<'_> = sections.strings(endian, file, link)?;
        for entry in entries.iter().filter(|entry| entry.tag(endian) == DT_NEEDED) {
            let name = entry.string(endian, strings)?;
            names.push(String::from_utf8_lossy(name).into_owned());
        }
        Ok(names)
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_that_a_file_needs_are_read() {
        let this = std::fs::read("/proc/self/exe").unwrap();
        assert!(needed(&this).iter().any(|name| name.starts_with("libc.so.")), "{:?}", needed(&this));
        assert_eq!(needed(b"#!/bin/sh\n"), Vec::<String>::new());
    }

    #[test]
    fn what_was_built_without_a_sanitizer_cannot_be_looked_at_by_one() {
        let this = [PathBuf::from("/proc/self/exe")];
        assert!(matches!(Under::Asan.look(&this), Err(UnderError::NoRuntime(_))));
    }
}
