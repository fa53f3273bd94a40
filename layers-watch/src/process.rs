//! Which program this is, and loading an instrument into it.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use crate::handover::DIRECTORY_VARIABLE;

/// Where the main program lies in memory.
#[derive(Debug)]
pub(crate) struct Image {
    start: AtomicUsize,
    end: AtomicUsize,
}

impl Image {
    pub(crate) fn contains(&self, address: *const c_void) -> bool {
        let address = address as usize;
        self.start.load(Ordering::Relaxed) <= address && address < self.end.load(Ordering::Relaxed)
    }
}

static PROGRAM: Image = Image { start: AtomicUsize::new(0), end: AtomicUsize::new(0) };

const UNKNOWN: u8 = 0;
const OTHER: u8 = 1;
const WATCHED: u8 = 2;
static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);

/// The main program, where it is nbdkit and somebody watches it. `symbol` finds one in the global scope.
pub(crate) fn watched(symbol: impl Fn(&CStr) -> *mut c_void) -> Option<&'static Image> {
    let state = match STATE.load(Ordering::Acquire) {
        UNKNOWN => {
            let state = if is_nbdkit(symbol) { WATCHED } else { OTHER };
            STATE.store(state, Ordering::Release);
            state
        }
        known => known,
    };
    (state == WATCHED).then_some(&PROGRAM)
}

/// nbdkit exports its functions to its modules from the program itself.
fn is_nbdkit(symbol: impl Fn(&CStr) -> *mut c_void) -> bool {
    if directory().is_null() {
        return false;
    }
    // SAFETY: the callback looks at what it is given, and at statics of this library.
    unsafe { libc::dl_iterate_phdr(Some(first), core::ptr::null_mut()) };
    let found = symbol(c"nbdkit_set_error");
    !found.is_null() && PROGRAM.contains(found)
}

/// Somebody watches.
pub(crate) fn is_asked_for() -> bool {
    !directory().is_null()
}

fn directory() -> *const c_char {
    // SAFETY: a C string.
    unsafe { libc::getenv(DIRECTORY_VARIABLE.as_ptr()) }
}

/// Notes where the first file lies, which is the main program, and ends the walk.
unsafe extern "C" fn first(info: *mut libc::dl_phdr_info, _size: usize, _data: *mut c_void) -> c_int {
    // SAFETY: the dynamic linker gives a whole structure, with so many program headers.
    let (base, headers) = unsafe {
        let info = &*info;
        (info.dlpi_addr as usize, core::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()))
    };
    let loaded = || headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
    let start = loaded().map(|header| base.wrapping_add(header.p_vaddr as usize)).min();
    let end = loaded()
        .map(|header| base.wrapping_add(header.p_vaddr as usize).wrapping_add(header.p_memsz as usize))
        .max();
    PROGRAM.start.store(start.unwrap_or(0), Ordering::Relaxed);
    PROGRAM.end.store(end.unwrap_or(0), Ordering::Relaxed);
    1
}

/// Room for a path, with its NUL.
const PATH: usize = 4096;

/// A path in the directory of the run.
struct PathBuffer {
    bytes: [u8; PATH],
    length: usize,
}

impl PathBuffer {
    fn in_directory() -> PathBuffer {
        let mut path = PathBuffer { bytes: [0; PATH], length: 0 };
        let directory = directory();
        if !directory.is_null() {
            // SAFETY: the environment holds C strings.
            path.add(unsafe { CStr::from_ptr(directory) }.to_bytes());
        }
        path.add(b"/");
        path
    }

    /// What does not fit is left out; the last byte stays 0.
    fn add(&mut self, bytes: &[u8]) {
        for (to, from) in self.bytes.iter_mut().take(PATH - 1).skip(self.length).zip(bytes) {
            *to = *from;
            self.length += 1;
        }
    }

    fn as_ptr(&self) -> *const c_char {
        self.bytes.as_ptr().cast()
    }
}

/// Loads an instrument; it stays for as long as the process. `None` where it cannot be loaded, and then that is noted.
pub(crate) fn load(file: &CStr) -> Option<*mut c_void> {
    let mut path = PathBuffer::in_directory();
    path.add(file.to_bytes());
    // SAFETY: a C string. Not RTLD_GLOBAL: nobody but this library looks into it.
    let handle =
        unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL | libc::RTLD_NODELETE) };
    if handle.is_null() {
        unwatched();
        return None;
    }
    Some(handle)
}

/// Notes in the directory that this server is not watched, in the words of the dynamic linker, and clears its error:
/// nbdkit asks for it next.
pub(crate) fn unwatched() {
    let mut path = PathBuffer::in_directory();
    path.add(b"traces/unwatched-");
    // SAFETY: no arguments.
    let pid = unsafe { libc::getpid() };
    let (mut digits, mut pid, mut first) = ([0u8; 10], pid.cast_unsigned(), 10);
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (pid % 10) as u8;
        pid /= 10;
        first -= 1;
        if pid == 0 {
            break;
        }
    }
    path.add(digits.get(first..).unwrap_or_default());
    // SAFETY: C strings, a descriptor that is this function's own, and bytes that are there.
    unsafe {
        let error = libc::dlerror();
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC, 0o644);
        if file >= 0 {
            if !error.is_null() {
                libc::write(file, error.cast(), libc::strlen(error));
            }
            libc::close(file);
        }
    }
}
