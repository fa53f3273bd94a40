//! Where the fields of an appctx lie: found out by what the server's functions do to a fake one.

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

use layers_trace::record::Record;
use layers_trace::writer::record;
use layers_trace::{Field, Kind, Probe, Writer};

use crate::memory;
use crate::server::{Appctx, Server};

/// Bytes of the fake appctx, more than any version has.
const FAKE: usize = 8192;
/// A real appctx is looked through as far as this when the fake one has not told.
const SEARCHED: usize = 512;
/// "Not known" as an offset.
const UNKNOWN: usize = usize::MAX;

/// `svcctx` and the storage area.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ContextLayout {
    /// Offset of `svcctx`.
    pub(crate) svcctx: usize,
    /// Offset of the storage area.
    pub(crate) storage: usize,
    /// Its size in bytes; 0 when the server has no function that tells.
    pub(crate) size: usize,
}

/// Offsets in bytes.
#[derive(Debug)]
pub(crate) struct Layout {
    /// `None` before HAProxy 2.6.
    pub(crate) context: Option<ContextLayout>,
    /// Of `st0`.
    pub(crate) st0: Option<usize>,
    /// Of `st2`; HAProxy 2.6 only.
    pub(crate) st2: Option<usize>,
    /// Of `io_handler`; `io_release` is the next word. Found in the first real appctx.
    io_handler: AtomicUsize,
}

/// A zeroed appctx that no server knows of.
#[repr(C, align(64))]
struct Fake([u8; FAKE]);

impl Fake {
    fn filled(byte: u8) -> Box<Fake> {
        Box::new(Fake([byte; FAKE]))
    }

    fn as_appctx(&mut self) -> Appctx {
        self.0.as_mut_ptr().cast()
    }

    fn word(&self, offset: usize) -> Option<usize> {
        let bytes = self.0.get(offset..offset + 8)?;
        Some(usize::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Offset of the first word that holds this.
    fn find(&self, value: usize) -> Option<usize> {
        (0..FAKE).step_by(8).find(|offset| self.word(*offset) == Some(value))
    }
}

impl Layout {
    /// As far as the server's functions show it.
    pub(crate) fn discover(server: &Server) -> Layout {
        let context = discover_context(server);
        // The one field that no function shows by itself. It is the word before `svcctx`, and only 2.6 has both.
        let st2 = context.filter(|_| server.release() == (2, 6)).and_then(|c| c.svcctx.checked_sub(8));
        Layout { context, st0: discover_st0(server, context), st2, io_handler: AtomicUsize::new(UNKNOWN) }
    }

    /// Offset of `io_handler`, once known.
    pub(crate) fn io_handler(&self) -> Option<usize> {
        Some(self.io_handler.load(Ordering::Relaxed)).filter(|offset| *offset != UNKNOWN)
    }

    /// In the first command: the server has just put this handler into the appctx.
    #[cold]
    pub(crate) fn learn_io_handler(&self, appctx: Appctx, handler: usize, writer: &Writer) {
        let end = self.context.map_or(SEARCHED, |context| context.svcctx);
        let base = appctx.addr();
        let found = (8..end).step_by(8).find(|offset| memory::word(base + offset) == Some(handler));
        if let Some(offset) = found
            && self.io_handler.compare_exchange(UNKNOWN, offset, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.note(writer, true);
        }
    }

    /// Writes into the trace what is known so far.
    pub(crate) fn note(&self, writer: &Writer, ok: bool) {
        use std::fmt::Write;
        let mut text = String::from("{");
        let fields = [
            ("svcctx", self.context.map(|c| c.svcctx)),
            ("storage", self.context.map(|c| c.storage)),
            ("size", self.context.map(|c| c.size)),
            ("st0", self.st0),
            ("st2", self.st2),
            ("io_handler", self.io_handler()),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                let comma = if text.len() > 1 { "," } else { "" };
                let _ = write!(text, "{comma}\"{name}\":{value}");
            }
        }
        text.push('}');
        let note = Record { a: u64::from(ok), ..record(Kind::Probe, 0, Probe::AppctxLayout as u8) };
        writer.note(note, &[(Field::Json, text.as_bytes())]);
    }
}

fn discover_context(server: &Server) -> Option<ContextLayout> {
    let reserve = server.reserve?;
    let mut fake = Fake::filled(0);
    let base = fake.as_appctx().addr();
    // SAFETY: the function writes to `svcctx` and to one byte of the storage area, both inside the fake.
    let storage = unsafe { reserve(fake.as_appctx(), 1) }.addr();
    let svcctx = fake.find(storage)?;
    let storage = storage.checked_sub(base).filter(|offset| *offset < FAKE)?;
    Some(ContextLayout {
        svcctx,
        storage,
        size: server.reset.map_or(0, |reset| storage_size(reset, storage)),
    })
}

/// The function zeroes the whole storage area.
fn storage_size(reset: unsafe extern "C" fn(Appctx) -> *mut c_void, storage: usize) -> usize {
    let mut fake = Fake::filled(0xaa);
    // SAFETY: the function writes to fields of an appctx, all inside the fake, and follows no pointer of it.
    unsafe { reset(fake.as_appctx()) };
    fake.0.iter().skip(storage).take_while(|byte| **byte == 0).count()
}

/// The print helpers set `st0`: of what changes in the fake, it is the small number before the storage area.
fn discover_st0(server: &Server, context: Option<ContextLayout>) -> Option<usize> {
    const TOO_HIGH: i32 = 0x7fff;
    let has_level = server.has_level?;
    let mut fake = Fake::filled(0);
    // SAFETY: the function compares a level inside the appctx, and writes to fields of it, all inside the fake.
    unsafe { has_level(fake.as_appctx(), TOO_HIGH) };
    let end = context.map_or(SEARCHED, |context| context.svcctx);
    (0..end).step_by(4).find(|offset| {
        let bytes = fake.0.get(*offset..offset + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.is_some_and(|bytes| (1..256).contains(&u32::from_le_bytes(bytes)))
    })
}
