//! The two functions, which jump: on to the C library, or to ours, with the caller's own return address.

#![allow(unreachable_pub, reason = "the C library's names are for everybody")]

use core::arch::naked_asm;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::handover::{Handover, Signalled};

use crate::process::{self, Image};

/// Where every call goes in a program that is not watched; NULL while that is not known, and in one that is.
static DLSYM: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
static SIGACTION: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

/// What this library and the instruments tell each other.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name under which the instruments look for it")]
pub static layers_watch_handover: Handover = Handover::new();

/// A function of the C library in front of which this library stands. It jumps to what is known; where nothing is, it asks
/// `route` where to, with its first two arguments and the address that it returns to. All that it was called with stays in its place.
macro_rules! stub {
    ($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) -> $result:ty, $known:ident, $route:ident) => {
        $(#[$doc])*
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($argument: $type),*) -> $result {
            naked_asm!(
                "mov rax, qword ptr [rip + {known}]",
                "test rax, rax",
                "jz 2f",
                "jmp rax",
                "2:",
                "push rdi",
                "push rsi",
                "push rdx",
                "mov rdx, qword ptr [rsp + 24]",
                "call {route}",
                "pop rdx",
                "pop rsi",
                "pop rdi",
                "jmp rax",
                known = sym $known,
                route = sym $route,
            )
        }
    };
}

stub! {
    /// dlsym(3).
    dlsym(_handle: *mut c_void, _name: *const c_char) -> *mut c_void, DLSYM, route_dlsym
}

stub! {
    /// sigaction(2).
    sigaction(_signal: c_int, _action: *const libc::sigaction, _old: *mut libc::sigaction) -> c_int,
    SIGACTION, route_sigaction
}

type Dlsym = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;
type Sigaction = unsafe extern "C" fn(c_int, *const libc::sigaction, *mut libc::sigaction) -> c_int;

/// The C library's own dlsym, or whose library is next. dlvsym stands in nobody's way.
fn next_dlsym() -> *mut c_void {
    static FOUND: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
    let known = FOUND.load(Ordering::Relaxed);
    if !known.is_null() {
        return known;
    }
    // The version of the C libraries from 2.34 on, and the first one.
    for version in [c"GLIBC_2.34", c"GLIBC_2.2.5"] {
        // SAFETY: C strings; the flag asks for what comes behind this library.
        let found = unsafe { libc::dlvsym(libc::RTLD_NEXT, c"dlsym".as_ptr(), version.as_ptr()) };
        if !found.is_null() {
            FOUND.store(found, Ordering::Relaxed);
            return found;
        }
    }
    // SAFETY: no arguments. Without the function nothing can go on; every C library has it.
    unsafe { libc::abort() }
}

fn real_dlsym(handle: *mut c_void, name: &CStr) -> *mut c_void {
    // SAFETY: the function of this name has this type.
    unsafe { core::mem::transmute::<*mut c_void, Dlsym>(next_dlsym())(handle, name.as_ptr()) }
}

fn next_sigaction() -> *mut c_void {
    static FOUND: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
    let known = FOUND.load(Ordering::Relaxed);
    if !known.is_null() {
        return known;
    }
    let found = real_dlsym(libc::RTLD_NEXT, c"sigaction");
    FOUND.store(found, Ordering::Relaxed);
    found
}

fn watched() -> Option<&'static Image> {
    process::watched(|name| real_dlsym(libc::RTLD_DEFAULT, name))
}

/// Says where this call goes.
extern "C" fn route_dlsym(_handle: *mut c_void, name: *const c_char, caller: *const c_void) -> *mut c_void {
    let next = next_dlsym();
    let Some(image) = watched() else {
        DLSYM.store(next, Ordering::Relaxed);
        return next;
    };
    // SAFETY: the caller gives a C string.
    let is_init = !name.is_null() && instrument_of(unsafe { CStr::from_ptr(name) }).is_some();
    match is_init && image.contains(caller) {
        true => init_of_module as *mut c_void,
        false => next,
    }
}

/// The file of the instrument that stands in front of a function of this name.
fn instrument_of(name: &CStr) -> Option<&'static CStr> {
    match name.to_bytes() {
        b"plugin_init" => Some(crate::handover::PLUGIN),
        b"filter_init" => Some(crate::handover::FILTER),
        _ => None,
    }
}

/// dlsym, as nbdkit calls it for the function by which a module begins.
unsafe extern "C" fn init_of_module(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    // SAFETY: the caller gives a C string.
    let name = unsafe { CStr::from_ptr(name) };
    let target = real_dlsym(handle, name);
    let (false, Some(file)) = (target.is_null(), instrument_of(name)) else { return target };
    match process::load(file) {
        Some(instrument) => {
            let init = real_dlsym(instrument, name);
            if init.is_null() {
                process::unwatched();
                return target;
            }
            layers_watch_handover.target.store(target, Ordering::Release);
            init
        }
        None => target,
    }
}

/// Loads the instrument of HAProxy where that is the program: it must be there before the server reads its configuration.
extern "C" fn loaded() {
    if process::is_asked_for() && !real_dlsym(libc::RTLD_DEFAULT, c"hap_register_post_check").is_null() {
        process::load(crate::handover::APPLET);
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static LOADED: extern "C" fn() = loaded;

/// Says where this call goes.
extern "C" fn route_sigaction(
    _signal: c_int,
    _action: *const libc::sigaction,
    caller: *const c_void,
) -> *mut c_void {
    let next = next_sigaction();
    let Some(image) = watched() else {
        SIGACTION.store(next, Ordering::Relaxed);
        return next;
    };
    let hears = !layers_watch_handover.signalled.load(Ordering::Relaxed).is_null();
    match hears && image.contains(caller) {
        true => handler_of_server as *mut c_void,
        false => next,
    }
}

/// Signals that can have a handler.
const SIGNALS: usize = 65;
/// The server's own handlers.
static HANDLERS: [AtomicPtr<c_void>; SIGNALS] = [const { AtomicPtr::new(core::ptr::null_mut()) }; SIGNALS];

/// sigaction, as nbdkit calls it.
unsafe extern "C" fn handler_of_server(
    signal: c_int,
    action: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    // SAFETY: the function of this name has this type.
    let next = unsafe { core::mem::transmute::<*mut c_void, Sigaction>(next_sigaction()) };
    // SAFETY: NULL, or the caller's structure.
    let given = unsafe { action.as_ref() };
    let place = usize::try_from(signal).ok().and_then(|signal| HANDLERS.get(signal));
    let (Some(given), Some(place)) = (given, place) else {
        // SAFETY: the caller's own arguments.
        return unsafe { next(signal, action, old) };
    };
    if given.sa_sigaction == libc::SIG_DFL || given.sa_sigaction == libc::SIG_IGN {
        // SAFETY: the caller's own arguments.
        return unsafe { next(signal, action, old) };
    }
    place.store(given.sa_sigaction as *mut c_void, Ordering::Release);
    let mut ours = *given;
    // Whether the server's handler takes one argument or three: it gets three, in the registers in which it looks.
    ours.sa_sigaction = heard as *const c_void as usize;
    ours.sa_flags |= libc::SA_SIGINFO;
    // SAFETY: a whole structure; the caller's own pointer.
    unsafe { next(signal, &raw const ours, old) }
}

/// Handles a signal: tells the instrument, and then calls the server's own handler.
extern "C" fn heard(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let told = layers_watch_handover.signalled.load(Ordering::Relaxed);
    if !told.is_null() {
        // SAFETY: the instrument has put a function of this type there.
        unsafe { core::mem::transmute::<*mut c_void, Signalled>(told)(signal) };
    }
    let handler = usize::try_from(signal).ok().and_then(|signal| HANDLERS.get(signal));
    let handler = handler.map_or(core::ptr::null_mut(), |place| place.load(Ordering::Acquire));
    if !handler.is_null() {
        type Handler = unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
        // SAFETY: the server's own handler of this signal, called as the kernel calls it.
        unsafe { core::mem::transmute::<*mut c_void, Handler>(handler)(signal, info, context) };
    }
}
