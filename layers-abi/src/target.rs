//! Somebody else's plugin or filter, loaded inside the server.

use std::ffi::{c_int, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::init::InitError;

static OPEN: Mutex<Vec<Library>> = Mutex::new(Vec::new());

/// Loads `path` as the server would have and calls its `symbol`, `plugin_init` or `filter_init`, which returns the
/// address of its table.
pub fn load(path: &Path, symbol: &'static str) -> Result<*mut c_void, InitError> {
    watch_exit();
    // SAFETY: its constructors run, as they would had the server loaded it; RTLD_GLOBAL as the server does, because
    // plugins for scripting languages rely on it.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }
        .map_err(|error| InitError::Load { path: path.to_owned(), reason: reason(&error) })?;
    // SAFETY: a function of this name in a module of nbdkit has this type.
    let init = unsafe { library.get::<unsafe extern "C" fn() -> *mut c_void>(symbol.as_bytes()) };
    let init = *init.map_err(|_| InitError::NoInit { path: path.to_owned(), symbol })?;
    // SAFETY: as above.
    let table = unsafe { init() };
    OPEN.lock().unwrap_or_else(PoisonError::into_inner).push(library);
    if table.is_null() { Err(InitError::NullTable { path: path.to_owned(), symbol }) } else { Ok(table) }
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
        OPEN.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

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
