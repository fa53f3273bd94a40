//! What a reference layer of either kind does beside its work.

use std::ffi::c_int;

use layers_behaviour::Deed;
use layers_trace::record::Record;
use layers_trace::writer::record;
use layers_trace::{Kind, Probe};

use crate::errno;
use crate::layer::Layer;
use crate::server::Services;

/// Does it; `None` if it is not for every layer, else whether it went well.
pub fn perform(deed: Deed, layer: &Layer, services: Services) -> Option<bool> {
    match deed {
        Deed::Shutdown => {
            note(layer, Record { a: 1, ..probe(layer, Probe::Shutdown) });
            // SAFETY: no preconditions.
            unsafe { (services.shutdown)() };
            Some(true)
        }
        Deed::Disconnect(force) => {
            let function = disconnect_function();
            let (a, b) = (u64::from(function.is_some()), u64::from(force));
            note(layer, Record { a, b, ..probe(layer, Probe::Disconnect) });
            if let Some(disconnect) = function {
                // SAFETY: called, as it must be, from a connected callback; elsewhere the server does nothing.
                unsafe { disconnect(c_int::from(force)) };
            }
            Some(true)
        }
        Deed::Nanosleep(milliseconds) => Some(nanosleep(milliseconds, layer, services)),
        // SAFETY: the module's fault, which is the point.
        Deed::Exit(status) => unsafe { libc::exit(status) },
        Deed::Abort => std::process::abort(),
        Deed::Hang => loop {
            // SAFETY: no preconditions.
            unsafe { libc::pause() };
        },
        _ => None,
    }
}

fn nanosleep(milliseconds: u32, layer: &Layer, services: Services) -> bool {
    let begun = now();
    // SAFETY: no preconditions.
    let result = unsafe { (services.nanosleep)(milliseconds / 1000, milliseconds % 1000 * 1_000_000) };
    let error = errno::get();
    let (asked, slept) = (u64::from(milliseconds) * 1_000_000, now().saturating_sub(begun));
    let seen = probe(layer, Probe::Nanosleep);
    note(layer, Record { a: u64::from(result == 0), b: asked, context: slept, ..seen });
    errno::set(error);
    result == 0
}

/// CLOCK_MONOTONIC, nanoseconds.
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// A probe of this layer, of which nothing is said yet.
pub fn probe(layer: &Layer, probe: Probe) -> Record {
    record(Kind::Probe, layer.number, probe as u8)
}

/// Writes it.
pub fn note(layer: &Layer, seen: Record) {
    layer.writer.note(seen, &[]);
}

/// `nbdkit_disconnect`, from 1.34 on.
fn disconnect_function() -> Option<unsafe extern "C" fn(c_int)> {
    // SAFETY: a C string; the function has had this type since it came.
    unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, c"nbdkit_disconnect".as_ptr());
        std::mem::transmute::<*mut libc::c_void, Option<unsafe extern "C" fn(c_int)>>(found)
    }
}
