//! Whether an `open` belongs to a client's connection.
//!
//! A filter may open a shared context before there are clients (nbdkit-filter(3), `nbdkit_next_context_open`). There
//! the plugin has no export name, and asking for it makes the server print errors that nobody would see without this
//! instrument. The server has no way of asking first.

use std::sync::OnceLock;

/// Connections have threads of their own, except for the only one of `nbdkit -s`.
///
/// Wrong only for a shared context that is opened while a client is served: then the server prints its error.
pub(crate) fn is_likely() -> bool {
    // SAFETY: no arguments, cannot fail.
    let is_main_thread = unsafe { libc::gettid() == libc::getpid() };
    !is_main_thread || serves_one_connection()
}

/// The server was started with `-s`.
fn serves_one_connection() -> bool {
    static SINGLE: OnceLock<bool> = OnceLock::new();
    *SINGLE.get_or_init(|| {
        let arguments = std::fs::read("/proc/self/cmdline").unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|argument| argument == b"-s" || argument == b"--single")
    })
}
