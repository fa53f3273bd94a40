//! What the trampolines need, made once for the process.

use std::sync::OnceLock;

use layers_trace::{Field, Kind, Probe, TRACE_VARIABLE, Writer, watched};

use crate::layout::Layout;
use crate::memory;
use crate::server::Server;

/// What the trampolines need. Made once, before the server has a thread.
pub(crate) struct Instrument {
    pub(crate) writer: Writer,
    pub(crate) server: Server,
    pub(crate) layout: Layout,
    /// Data of the executable.
    pub(crate) image: memory::Image,
}

pub(crate) static INSTRUMENT: OnceLock<Instrument> = OnceLock::new();

pub(crate) fn instrument() -> Option<&'static Instrument> {
    INSTRUMENT.get()
}

/// One line on standard error, for the harness to find.
pub(crate) fn complain(what: &str) {
    use std::io::Write;
    if is_watched() {
        return watched::unwatched(what);
    }
    // Nowhere is left to complain when standard error is closed.
    let _ = writeln!(std::io::stderr(), "layers: error: {what}");
}

/// Says that something is not recorded, and why: of what depends on it nothing can be told.
pub(crate) fn unwrapped(instrument: &Instrument, what: &[u8]) {
    complain(&format!("{}: not recorded", String::from_utf8_lossy(what)));
    let note = layers_trace::writer::record(Kind::Probe, 0, Probe::Unwrapped as u8);
    instrument.writer.note(note, &[(Field::Message, what)]);
}

/// Somebody else has started the server, who wants no keywords of ours in it.
pub(crate) fn is_watched() -> bool {
    std::env::var_os(TRACE_VARIABLE).is_none()
}
