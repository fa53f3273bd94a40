//! Somebody else's plugin or filter, loaded inside the server.

use std::ffi::{c_int, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use layers_trace::record::Record;
use layers_trace::writer::record;
use layers_trace::{Kind, Probe, Writer};

use crate::init::InitError;
use crate::pauses::Pauses;
use crate::watched::Module;
use crate::{conditions, midway};

static OPEN: Mutex<Vec<Library>> = Mutex::new(Vec::new());

/// A target that was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// The address of its table.
    pub table: *mut c_void,
    /// What it asks of the system is seen.
    pub is_seen: bool,
}

/// Gives the table of a module that was handed over, or loads `path`; see [`load`].
pub fn find(path: &Path, symbol: &'static str, module: Option<&Module>) -> Result<Loaded, InitError> {
    let Some(module) = module else { return load(path, symbol) };
    match module.table() {
        table if table.is_null() => Err(InitError::NullTable { path: path.to_owned(), symbol }),
        table => Ok(Loaded { table, is_seen: false }),
    }
}

/// Loads `path` as the server would have and calls its `symbol`, `plugin_init` or `filter_init`.
pub fn load(path: &Path, symbol: &'static str) -> Result<Loaded, InitError> {
    watch_exit();
    // SAFETY: its constructors run, as they would had the server loaded it; RTLD_GLOBAL as the server does, because
    // plugins for scripting languages rely on it.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }
        .map_err(|error| InitError::Load { path: path.to_owned(), reason: reason(&error) })?;
    // SAFETY: a function of this name in a module of nbdkit has this type.
    let init = unsafe { library.get::<unsafe extern "C" fn() -> *mut c_void>(symbol.as_bytes()) };
    let init = *init.map_err(|_| InitError::NoInit { path: path.to_owned(), symbol })?;
    let is_asked_for = Pauses::are_asked_for() || conditions::is_watched() || conditions::failing().is_some();
    // SAFETY: the library is bound and loaded, only its constructors have run, and it stays until its code has gone.
    let is_seen = is_asked_for && unsafe { midway::put_into(init as *const c_void) };
    // SAFETY: as above.
    let table = unsafe { init() };
    // SAFETY: the library is loaded, and nobody but us runs its code yet.
    unsafe { set_debug_flags(&library, &arguments()) };
    OPEN.lock().unwrap_or_else(PoisonError::into_inner).push(library);
    match table.is_null() {
        true => Err(InitError::NullTable { path: path.to_owned(), symbol }),
        false => Ok(Loaded { table, is_seen: is_seen && conditions::is_watched() }),
    }
}

/// The command line of the server.
fn arguments() -> Vec<String> {
    let bytes = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The server looks for the variables of `-D` in the file that it has loaded itself, which is the instrument: so they are
/// set here.
///
/// # Safety
///
/// A variable of such a name is an int (nbdkit-plugin(3), "Debug Flags"), which no other thread uses yet.
unsafe fn set_debug_flags(library: &Library, arguments: &[String]) {
    for (symbol, value) in debug_flags(arguments) {
        // SAFETY: as the caller promises.
        unsafe {
            if let Ok(variable) = library.get::<*mut c_int>(symbol.as_bytes()) {
                **variable = value;
            }
        }
    }
}

/// The variables that `-D NAME.FLAG=N` asks for, and their values (nbdkit(1), "-D").
fn debug_flags(arguments: &[String]) -> Vec<(String, c_int)> {
    let mut flags = Vec::new();
    for (index, word) in arguments.iter().enumerate() {
        let next = || arguments.get(index + 1).map(String::as_str);
        let flag = match word.as_str() {
            "-D" | "--debug" => next(),
            word => word.strip_prefix("--debug=").or_else(|| word.strip_prefix("-D")),
        };
        let parts = flag.and_then(|flag| flag.split_once('=')).and_then(|(flag, value)| {
            let (name, flag) = flag.split_once('.')?;
            Some((format!("{name}_debug_{flag}").replace(['-', '.'], "_"), value.parse().ok()?))
        });
        flags.extend(parts);
    }
    flags
}

/// What the dynamic linker said; the error itself only says which of its functions failed.
fn reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| source.to_string())
}

/// Closes the targets. To be called when the instrument itself is unloaded, so that a target which would have been
/// unloaded too early is so here as well.
///
/// Not when the process ends without unloading (exit in the middle of the configuration): then nothing would have
/// unmapped the target either.
pub fn close_all() {
    if !is_exiting() {
        // SAFETY: the targets are closed behind it.
        unsafe { midway::take_out() };
        OPEN.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Records how many threads the process has, at the end of an image that has loaded a target. Those that have just been
/// told to end get a moment for it.
pub fn probe_threads(writer: &Writer, layer: u8) {
    if EXITING.load(Ordering::Acquire).is_null() || is_exiting() {
        return;
    }
    let count = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count) as u64;
    let begun = std::time::Instant::now();
    let mut threads = count();
    while threads > 1 && begun.elapsed() < LAST_MOMENT {
        std::thread::sleep(std::time::Duration::from_millis(1));
        threads = count();
    }
    let probe = record(Kind::Probe, layer, Probe::ThreadsLeft as u8);
    writer.note(Record { a: u64::from(threads <= 1), b: threads, ..probe }, &[]);
}

/// A thread that has been joined may still be listed for an instant.
const LAST_MOMENT: std::time::Duration = std::time::Duration::from_millis(200);

/// A semaphore that exit(3) posts; leaked, because it outlives this image.
static EXITING: AtomicPtr<libc::sem_t> = AtomicPtr::new(std::ptr::null_mut());

/// Destructors run both at dlclose and at exit and cannot tell which. So exit is given a function of the C library
/// to call on memory that stays: nothing of this image, which may be gone by then.
fn watch_exit() {
    unsafe extern "C" {
        fn __cxa_atexit(
            function: unsafe extern "C" fn(*mut libc::sem_t) -> c_int,
            argument: *mut libc::sem_t,
            image: *mut c_void,
        ) -> c_int;
    }
    if !EXITING.load(Ordering::Acquire).is_null() {
        return;
    }
    // SAFETY: a semaphore may be zeroed before it is initialised, and it is before anybody else sees it. The handler
    // is not bound to an image, so that it runs at exit only; its result is ignored, in a register of its own.
    unsafe {
        let semaphore = Box::into_raw(Box::new(std::mem::zeroed::<libc::sem_t>()));
        if libc::sem_init(semaphore, 0, 0) == 0
            && __cxa_atexit(libc::sem_post, semaphore, std::ptr::null_mut()) == 0
        {
            EXITING.store(semaphore, Ordering::Release);
        }
    }
}

fn is_exiting() -> bool {
    let semaphore = EXITING.load(Ordering::Acquire);
    let mut value = 0;
    // SAFETY: initialised by `watch_exit` and never freed.
    !semaphore.is_null() && unsafe { libc::sem_getvalue(semaphore, &mut value) } == 0 && value > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_flags_are_read_as_the_server_reads_them() {
        let words = [
            "nbdkit",
            "-D",
            "file.zero=1",
            "-Dnbdkit.x=2",
            "--debug=my-filter.a.b=-3",
            "--debug",
            "x.y=4",
            "-D",
        ];
        let flags = debug_flags(&words.map(str::to_owned));
        let named = |name: &str, value| (name.to_owned(), value);
        let expected = [
            named("file_debug_zero", 1),
            named("nbdkit_debug_x", 2),
            named("my_filter_debug_a_b", -3),
            named("x_debug_y", 4),
        ];
        assert_eq!(flags, expected);
    }
}
