//! An instrument in a server that the harness has not started: `layers watch`.
//!
//! A preloaded library has put the instrument in front of a module that the server itself has loaded (see
//! [`layers_trace::handover`]). The first instrument of a process makes a trace for it, in the directory of the run. The file
//! has its name only when it says what the server is, and it is locked for as long as any process of the server lives: that
//! is how the harness, which is no parent of it, hears of its end.
//!
//! What such a server prints, returns and leaves in its environment is as without an instrument. Where one cannot record,
//! the server gets the module's own table, and a file beside the traces says why.

use std::cell::OnceCell;
use std::ffi::{CStr, OsStr, c_int, c_void};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use layers_behaviour::Found;
use layers_trace::handover::{DIRECTORY_VARIABLE, Handover, Signalled, TRACES};
use layers_trace::record::Record;
use layers_trace::writer::record;
use layers_trace::{Field, Kind, Probe, Writer};

use crate::errno;
use crate::init::InitError;

/// Records of one server: 256 MiB of address space and of a file with holes, touched as it fills.
const CAPACITY: u64 = 1 << 22;
/// The trace never gets more than this part of what is free: a server that writes into a hole of a full disk would die of it.
const PART_OF_DISK: u64 = 4;
/// The descriptor that holds the lock gets a number that no server uses for anything.
const FIRST_KEPT: c_int = 200;

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
            let note = traces().join(format!("unwatched-{}", std::process::id()));
            // There is nobody else to tell.
            let _ = std::fs::write(note, why.to_string());
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
        let path = make().map_err(|source| InitError::NoFile { directory: traces(), source })?;
        for (to, from) in self.handover.trace.iter().zip(path.as_os_str().as_bytes().iter().chain([&0])) {
            to.store(*from, Ordering::Relaxed);
        }
        hear_of_the_end(&path);
        self.handover.signalled.store(signalled as Signalled as *mut c_void, Ordering::Release);
        Ok(path)
    }
}

/// Where the traces of this run are.
fn traces() -> PathBuf {
    let directory = std::env::var_os(DIRECTORY_VARIABLE.to_str().unwrap_or_default());
    Path::new(&directory.unwrap_or_default()).join(TRACES)
}

/// Makes the trace of this process, locked, with what is known of the server in it.
fn make() -> io::Result<PathBuf> {
    let directory = traces();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = format!("nbdkit-{:020}-{}", since.as_nanos(), std::process::id());
    let unfinished = directory.join(format!(".{name}"));
    let file = match open(&unfinished) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o700).create(&directory)?;
            open(&unfinished)?
        }
        opened => opened?,
    };
    let kept = keep(&file)?;
    let made = begin(&file, kept, since.as_nanos() as u64);
    let path = directory.join(format!("{name}.trace"));
    match made.and_then(|()| std::fs::rename(&unfinished, &path)) {
        Ok(()) => Ok(path),
        Err(error) => {
            let _ = std::fs::remove_file(&unfinished);
            // SAFETY: the descriptor is this function's own.
            unsafe { libc::close(kept) };
            Err(error)
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Another descriptor of the file, open for as long as a process of the server lives, and not in what it starts.
fn keep(file: &File) -> io::Result<c_int> {
    // SAFETY: a descriptor that is open.
    let mut kept = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, FIRST_KEPT) };
    if kept < 0 {
        // Fewer files may be open than that number says.
        // SAFETY: as above.
        kept = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
    }
    if kept < 0 { Err(io::Error::last_os_error()) } else { Ok(kept) }
}

fn begin(file: &File, kept: c_int, run_id: u64) -> io::Result<()> {
    // SAFETY: a descriptor that is open.
    if unsafe { libc::flock(kept, libc::LOCK_SH) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let writer = Writer::create(file, capacity(file)?, run_id)?;
    let found = serde_json::to_vec(&found()).map_err(io::Error::other)?;
    let mut words = Vec::new();
    for word in std::env::args_os() {
        words.extend(word.into_vec());
        words.push(0);
    }
    writer.note(record(Kind::Run, 0, 0), &[(Field::Json, &found), (Field::Bytes, &words)]);
    Ok(())
}

/// Records for which the file system has room.
fn capacity(file: &File) -> io::Result<u64> {
    let mut system = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: fstatvfs writes the structure; zeroes are one.
    let system = unsafe {
        if libc::fstatvfs(file.as_raw_fd(), system.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        system.assume_init()
    };
    let free = system.f_bavail.saturating_mul(system.f_frsize) / PART_OF_DISK;
    Ok(CAPACITY.min(free / layers_trace::record::RECORD_SIZE as u64))
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

/// For handlers, which run when nothing is certain any more: the trace of this process.
static WRITER: OnceLock<Writer> = OnceLock::new();

/// Signals by which a process dies of its own mistakes.
const FATAL: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// Has the end of any process of the server noted: nobody but its parent is told how it was.
fn hear_of_the_end(path: &Path) {
    unsafe extern "C" {
        fn on_exit(function: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    }
    let Ok(writer) = Writer::attach(path) else { return };
    WRITER.get_or_init(|| writer);
    // SAFETY: the function stays: the preloaded library never unloads this image.
    unsafe { on_exit(exits, std::ptr::null_mut()) };
    for signal in FATAL {
        // SAFETY: whole structures, of which zeroes are one.
        unsafe {
            let mut old = std::mem::zeroed::<libc::sigaction>();
            // Whoever has a handler of their own is left alone.
            if libc::sigaction(signal, std::ptr::null(), &raw mut old) != 0
                || old.sa_sigaction != libc::SIG_DFL
            {
                continue;
            }
            let mut new = std::mem::zeroed::<libc::sigaction>();
            new.sa_sigaction = dies as *const c_void as usize;
            new.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND | libc::SA_NODEFER | libc::SA_ONSTACK;
            libc::sigaction(signal, &raw const new, std::ptr::null_mut());
        }
    }
}

fn note(record: Record) {
    let error = errno::get();
    if let Some(writer) = WRITER.get() {
        writer.note(record, &[]);
    }
    errno::set(error);
}

extern "C" fn exits(status: c_int, _: *mut c_void) {
    // What waits for it sees the lowest byte.
    let status = u64::from(status.cast_unsigned() & 0xff);
    note(Record { a: 1, b: status, ..record(Kind::Probe, 0, Probe::Ended as u8) });
}

/// Notes the signal, and lets it do what it would have done: its action is the default one again.
extern "C" fn dies(signal: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    note(Record { b: u64::from(signal.cast_unsigned()), ..record(Kind::Probe, 0, Probe::Ended as u8) });
    // SAFETY: the kernel gives a whole structure.
    let was_sent = unsafe { info.as_ref() }.is_none_or(|info| info.si_code <= 0);
    if was_sent {
        // What the process has done itself happens again when this returns.
        // SAFETY: no preconditions.
        unsafe { libc::raise(signal) };
    }
}

extern "C" fn signalled(signal: c_int) {
    note(Record { a: u64::from(signal.cast_unsigned()), ..record(Kind::Signal, 0, 0) });
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
