//! The trace that a server makes by itself, which the harness has not started: `layers watch`.
//!
//! The first instrument of a process makes it, in the directory of the run. The file has its name only when it says what the
//! server is, and it is locked for as long as any process of the server lives: that is how the harness, which is no parent of
//! it, hears of its end. How each of its processes ends they note themselves.

use std::ffi::{c_int, c_void};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::full_disk;
use crate::handover::{DIRECTORY_VARIABLE, PLACES, TRACES};
use crate::header::HEADER_SIZE;
use crate::record::{RECORD_SIZE, Record};
use crate::writer::record;
use crate::{Field, Kind, Probe, Writer};

/// Records of one server: 256 MiB of address space and of a file with holes, touched as it fills.
const CAPACITY: u64 = 1 << 22;
/// A trace with less room tells of nothing.
const FEWEST: u64 = 1 << 10;
/// Records in whose place a trace has its header.
const HEADER_RECORDS: u64 = (HEADER_SIZE / RECORD_SIZE) as u64;
/// The trace never gets more than this part of what is free: a server that writes into a hole of a full disk would die of it.
const PART_OF_DISK: u64 = 4;
/// The descriptor that holds the lock gets a number that no server uses for anything.
const FIRST_KEPT: c_int = 200;

fn directory() -> PathBuf {
    std::env::var_os(DIRECTORY_VARIABLE.to_str().unwrap_or_default()).unwrap_or_default().into()
}

/// Where the traces of this run are.
pub fn traces() -> PathBuf {
    directory().join(TRACES)
}

/// Notes why this server is not watched, or not in all.
pub fn unwatched(why: &str) {
    // There is nobody else to tell.
    let _ = std::fs::write(traces().join(format!("unwatched-{}", std::process::id())), why);
}

/// Makes the trace of this process, locked, with what is known of this `server` in it (JSON), and has its end noted.
pub fn begin(server: &str, found: &[u8]) -> io::Result<PathBuf> {
    let path = make(server, found)?;
    hear_of_the_end(&path);
    Ok(path)
}

fn make(server: &str, found: &[u8]) -> io::Result<PathBuf> {
    let directory = traces();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = format!("{server}-{:020}-{}", since.as_nanos(), std::process::id());
    let unfinished = directory.join(format!(".{name}"));
    let file = match open(&unfinished) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o700).create(&directory)?;
            open(&unfinished)?
        }
        opened => opened?,
    };
    let kept = keep(&file)?;
    let made = describe(&file, kept, since.as_nanos() as u64, found);
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

fn describe(file: &File, kept: c_int, run_id: u64, found: &[u8]) -> io::Result<()> {
    // SAFETY: a descriptor that is open.
    if unsafe { libc::flock(kept, libc::LOCK_SH) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let places = std::fs::read_to_string(directory().join(PLACES)).ok();
    let writer = match places.and_then(|places| places.trim().parse().ok()) {
        Some(places) => Writer::create_ring(file, capacity(file, places)?, run_id)?,
        None => Writer::create(file, capacity(file, CAPACITY)?, run_id)?,
    };
    let mut words = Vec::new();
    for word in std::env::args_os() {
        words.extend(word.into_vec());
        words.push(0);
    }
    writer.note(record(Kind::Run, 0, 0), &[(Field::Json, found), (Field::Bytes, &words)]);
    Ok(())
}

/// So many records, or as many as the file system has room for.
fn capacity(file: &File, wanted: u64) -> io::Result<u64> {
    let mut system = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: fstatvfs writes the structure; zeroes are one.
    let system = unsafe {
        if libc::fstatvfs(file.as_raw_fd(), system.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        system.assume_init()
    };
    let free = system.f_bavail.saturating_mul(system.f_frsize) / PART_OF_DISK;
    let records = (free.min(largest_file()) / RECORD_SIZE as u64).saturating_sub(HEADER_RECORDS);
    if records < FEWEST {
        return Err(io::Error::other(
            "there is no room for its trace: the disk is full, or files are limited (ulimit -f)",
        ));
    }
    Ok(wanted.min(records))
}

/// Bytes that a file of this process may have: it is killed where it makes a larger one.
fn largest_file() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a whole structure.
    match unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) } {
        0 => limit.rlim_cur,
        _ => u64::MAX,
    }
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
            new.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK;
            libc::sigaction(signal, &raw const new, std::ptr::null_mut());
        }
    }
}

fn note(record: Record) {
    // SAFETY: the location is valid for the calling thread.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let error = unsafe { *errno };
    if let Some(writer) = WRITER.get() {
        writer.note(record, &[]);
    }
    // SAFETY: as above.
    unsafe { *errno = error };
}

extern "C" fn exits(status: c_int, _: *mut c_void) {
    // What waits for it sees the lowest byte.
    let status = u64::from(status.cast_unsigned() & 0xff);
    note(Record { a: 1, b: status, ..record(Kind::Probe, 0, Probe::Ended as u8) });
}

/// Notes the signal, and lets it do what it would have done: its action is the default one again. That there is no room for the
/// trace is nothing to die of.
extern "C" fn dies(signal: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel's own argument.
    if signal == libc::SIGBUS && unsafe { full_disk::survives(info) } {
        return;
    }
    // SAFETY: no preconditions.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    note(Record { b: u64::from(signal.cast_unsigned()), ..record(Kind::Probe, 0, Probe::Ended as u8) });
    // SAFETY: the kernel gives a whole structure.
    let was_sent = unsafe { info.as_ref() }.is_none_or(|info| info.si_code <= 0);
    if was_sent {
        // What the process has done itself happens again when this returns.
        // SAFETY: no preconditions.
        unsafe { libc::raise(signal) };
    }
}

/// Notes a signal that the server has a handler for.
pub extern "C" fn signalled(signal: c_int) {
    note(Record { a: u64::from(signal.cast_unsigned()), ..record(Kind::Signal, 0, 0) });
}
