//! Preloaded library of `layers watch`: puts the instruments in front of the modules of any nbdkit that is started.
//!
//! It is loaded by `LD_PRELOAD` into every program that the watched command starts. Its
//! constructor asks for one symbol, and in HAProxy loads the instrument for that. It stands in front of two functions of the C
//! library:
//!
//! - `dlsym`: when nbdkit itself asks a module for its `plugin_init` or `filter_init`, it gets the instrument's function
//!   of that name, to which the module's is handed over. The server loads and unloads its modules as ever: their files,
//!   their order, what fails and with which words stay as they were.
//! - `sigaction`: when nbdkit itself sets a handler, the instrument hears of each signal before that handler does.
//!
//! Any other call goes on to the C library by a jump, so that the caller stays who it was: for `RTLD_NEXT` it counts.
//! A program that is not nbdkit is found out at its first call, and from then on the way is that jump and nothing else.
//! Where an instrument cannot be loaded the server is not watched, and a file in the directory says why.

//!
//! It needs the C library and nothing else, and so its instrument build does without Rust's standard library.

#![cfg_attr(panic = "abort", no_std)]
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

#[allow(dead_code, unreachable_pub, reason = "the instruments need the rest of it")]
#[path = "../../harness/trace/src/handover.rs"]
mod handover;
mod process;
mod stubs;

#[link(name = "c")]
unsafe extern "C" {}

#[cfg(panic = "abort")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: no arguments.
    unsafe { libc::abort() }
}
