//! What own keywords do with the context of their appctx, and what they look at meanwhile.

use std::ffi::{CStr, c_void};
use std::sync::atomic::Ordering;

use layers_trace::Probe;

use super::interference::Interference;
use crate::appctx;
use crate::appctx::Entry;
use crate::call::note;
use crate::instrument::{Instrument, instrument};
use crate::memory::{read, word};
use crate::server::Appctx;

/// Bytes that a keyword allocates itself, and what it writes into them.
const OWN_SIZE: usize = 64;
const PATTERN: u8 = 0xc3;
/// A level that nobody has.
const TOO_HIGH: i32 = 0x7fff;

/// An own keyword at work.
pub(super) struct Work {
    pub(super) instrument: &'static Instrument,
    pub(super) appctx: Appctx,
    pub(super) entry: &'static Entry,
    id: u32,
}

impl Work {
    /// # Safety
    ///
    /// `appctx` is what the server has just passed to the keyword.
    pub(super) unsafe fn on(appctx: Appctx) -> Option<Work> {
        let instrument = instrument()?;
        // SAFETY: as the caller promises.
        let (id, entry) = unsafe { appctx::identify(instrument, appctx) };
        Some(Work { instrument, appctx, entry: entry?, id })
    }

    pub(super) fn probe(&self, probe: Probe, ok: bool, b: u64) {
        note(self.instrument, self.id, probe, ok, b);
    }

    fn word(&self, offset: usize) -> *mut usize {
        self.appctx.wrapping_byte_add(offset).cast()
    }

    /// `svcctx`, where there is one.
    pub(super) fn svcctx(&self) -> Option<usize> {
        let layout = self.instrument.layout.context?;
        // SAFETY: a field of the appctx.
        Some(unsafe { self.word(layout.svcctx).read() })
    }

    /// Sets it.
    pub(super) fn set_svcctx(&self, value: usize) {
        if let Some(layout) = self.instrument.layout.context {
            // SAFETY: a field of the appctx.
            unsafe { self.word(layout.svcctx).write(value) };
        }
    }

    /// The storage area: address and size.
    pub(super) fn storage(&self) -> Option<(*mut u8, usize)> {
        let layout = self.instrument.layout.context?;
        Some((self.appctx.wrapping_byte_add(layout.storage).cast(), layout.size))
    }

    /// Reserves so many bytes of it, and says whether the server did as it promises.
    pub(super) fn reserve(&self, size: usize) {
        let (Some(reserve), Some((storage, _))) = (self.instrument.server.reserve, self.storage()) else {
            return;
        };
        // SAFETY: the server's function with its own appctx.
        let given = unsafe { reserve(self.appctx, size) };
        let ok = given.addr() == storage.addr() && self.svcctx() == Some(storage.addr());
        self.probe(Probe::Reserve, ok, size as u64);
    }

    /// Says whether `svcctx` is where reserving so many bytes puts it.
    pub(super) fn look_at_reserved(&self, size: usize) {
        if let Some((storage, _)) = self.storage() {
            self.probe(Probe::Reserve, self.svcctx() == Some(storage.addr()), size as u64);
        }
    }

    /// Writes over the whole storage area, and `st2`: the next command must see none of it.
    pub(super) fn dirty(&self) {
        if let Some((storage, size)) = self.storage() {
            // SAFETY: the storage area of the appctx.
            unsafe { storage.write_bytes(PATTERN, size) };
        }
        if let Some(offset) = self.instrument.layout.st2 {
            // SAFETY: a field of the appctx.
            unsafe { self.appctx.byte_add(offset).cast::<u32>().write(7) };
        }
    }

    /// Looks where the transitional fields `ctx.cli` of HAProxy 2.6 lie after the server has printed an error: code that
    /// was written for older versions reads and writes them there (`msg`, `err`, `severity`, behind a shadow of `svcctx`).
    pub(super) fn look_at_legacy(&self) {
        const BEGINNING: &[u8; 10] = b"Permission";
        let (Some(layout), Some(_)) = (self.instrument.layout.context, self.instrument.layout.st2) else {
            return;
        };
        let fields = self.appctx.addr() + layout.svcctx + size_of::<usize>();
        let message = word(fields).and_then(read::<[u8; 10]>);
        let maps = fields == self.appctx.addr() + layout.storage && message.as_ref() == Some(BEGINNING);
        self.probe(Probe::LegacyFields, maps && word(fields + size_of::<usize>()) == Some(0), 0);
    }

    /// Puts another message there, as such code does.
    pub(super) fn set_legacy(&self, message: &'static CStr) {
        if let (Some(layout), Some(_)) = (self.instrument.layout.context, self.instrument.layout.st2) {
            // SAFETY: the first word of the storage area.
            unsafe { self.word(layout.svcctx + size_of::<usize>()).write(message.as_ptr().addr()) };
        }
    }

    /// Has this done to the appctx before the command is called next.
    pub(super) fn ask_for(&self, meddling: Interference) {
        self.entry.meddle.store(meddling as u32, Ordering::Relaxed);
    }

    /// Allocates memory, and stores it in `svcctx`.
    pub(super) fn allocate(&self) {
        // SAFETY: room for the pattern, or NULL.
        let memory = unsafe { libc::malloc(OWN_SIZE).cast::<u8>() };
        if memory.is_null() {
            return;
        }
        // SAFETY: as above.
        unsafe { memory.write_bytes(PATTERN, OWN_SIZE) };
        self.entry.memory.store(memory.addr(), Ordering::Relaxed);
        self.set_svcctx(memory.addr());
    }

    /// Looks whether it is still as it was written.
    pub(super) fn check_own(&self) {
        let memory = self.entry.memory.load(Ordering::Relaxed);
        let same = memory != 0 && self.svcctx() == Some(memory);
        // SAFETY: only the memory that was allocated above is read, and only while `svcctx` still says so.
        let whole = same
            && unsafe { std::slice::from_raw_parts(memory as *const u8, OWN_SIZE) }
                .iter()
                .all(|b| *b == PATTERN);
        self.probe(Probe::OwnMemory, whole, 0);
    }

    /// Frees it.
    pub(super) fn free_own(&self) {
        let memory = self.entry.memory.swap(0, Ordering::Relaxed);
        // SAFETY: NULL, or what was allocated above and is freed once.
        unsafe { libc::free(memory as *mut c_void) };
    }

    /// Has the server print an error into this appctx, and says where that left `svcctx`. Returns what `parse` is to
    /// return.
    pub(super) fn print(&self) -> i32 {
        self.print_unseen();
        self.look_at_print_context();
        1
    }

    /// Has the server print an error into this appctx.
    pub(super) fn print_unseen(&self) {
        if let Some(has_level) = self.instrument.server.has_level {
            // SAFETY: the server's function with its own appctx.
            unsafe { has_level(self.appctx, TOO_HIGH) };
        }
    }

    /// Says whether `svcctx` is at the print context.
    pub(super) fn look_at_print_context(&self) {
        if let (Some((storage, _)), Some(_)) = (self.storage(), self.instrument.server.has_level) {
            let at_print_context = self.svcctx() == Some(storage.addr());
            self.probe(Probe::PrintContext, at_print_context, 0);
        }
    }

    /// Writes over the first byte of what it has allocated.
    pub(super) fn scribble(&self) {
        let memory = self.entry.memory.load(Ordering::Relaxed);
        if memory != 0 {
            // SAFETY: what was allocated, and is not freed yet.
            unsafe { (memory as *mut u8).write(!PATTERN) };
        }
    }

    /// Has the handler called again, though nothing new has come or gone.
    pub(super) fn wake(&self) {
        // The function writes a time into its task, which here is nobody's.
        static TASK: [std::sync::atomic::AtomicU64; 64] =
            [const { std::sync::atomic::AtomicU64::new(0) }; 64];
        if let Some(wake) = self.instrument.server.wake {
            // SAFETY: the server's function, with memory that is larger than any task, and its own appctx.
            unsafe { wake(TASK.as_ptr().cast_mut().cast(), self.appctx, 0) };
        }
    }

    /// One more round of this command: its number, from 1.
    pub(super) fn round(&self) -> u32 {
        self.entry.rounds.fetch_add(1, Ordering::Relaxed) + 1
    }
}
