//! How much of malloc's memory is in use, for the cases of `layers validate` that count it.

use std::ffi::c_void;
use std::sync::OnceLock;

use layers_abi::layer::Layer;
use layers_behaviour::COUNTS_VARIABLE;
use layers_trace::Probe;
use layers_trace::record::Record;
use layers_trace::writer::record;

/// `mallinfo2`, of glibc since 2.33.
type Mallinfo2 = unsafe extern "C" fn() -> libc::mallinfo2;

/// Records it, where it is asked for.
pub(crate) fn note(layer: &Layer) {
    static ASKED_FOR: OnceLock<bool> = OnceLock::new();
    if *ASKED_FOR.get_or_init(|| std::env::var_os(COUNTS_VARIABLE).is_some_and(|value| value == "1")) {
        let bytes = in_use();
        let note = record(layers_trace::Kind::Probe, layer.number, Probe::Allocated as u8);
        let (a, b) = (u64::from(bytes.is_some()), bytes.unwrap_or(0));
        layer.writer.note(Record { a, b, ..note }, &[]);
    }
}

/// Bytes in all arenas together, and in mappings of their own.
fn in_use() -> Option<u64> {
    // SAFETY: a C string; where the C library has the function, it has this type.
    let info = unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, c"mallinfo2".as_ptr());
        std::mem::transmute::<*mut c_void, Option<Mallinfo2>>(found)?()
    };
    Some((info.uordblks + info.hblkhd) as u64)
}
