//! Recording one call of a keyword's or applet's callback.

use std::ffi::c_int;

use layers_trace::record::Record;
use layers_trace::writer::record;
use layers_trace::{CallId, Callback, Kind, Probe};

use crate::appctx;
use crate::appctx::{Counted, Entry, identify, state};
use crate::instrument::Instrument;
use crate::server::Appctx;

/// A call on its way: [`Call::new`], [`Call::start`], the target, [`Call::finish`]. `errno` is for the target what the
/// server had left, and for the server what the target has left.
pub(crate) struct Call {
    pub(crate) instrument: &'static Instrument,
    pub(crate) entry: Option<&'static Entry>,
    callback: Callback,
    appctx: Appctx,
    number: u16,
    id: u32,
    call: CallId,
    errno: c_int,
}

impl Call {
    /// # Safety
    ///
    /// `appctx` is what the server has just passed to the callback.
    pub(crate) unsafe fn new(
        instrument: &'static Instrument,
        callback: Callback,
        appctx: Appctx,
        number: usize,
    ) -> Call {
        let errno = errno();
        // SAFETY: as the caller promises.
        let (id, entry) = unsafe { identify(instrument, appctx) };
        Call { instrument, entry, callback, appctx, number: number as u16, id, call: CallId::LOST, errno }
    }

    /// A function of another applet makes it, and not the server.
    pub(crate) fn is_within_another(&self) -> bool {
        self.entry.is_some_and(|entry| entry.is_within_another(self.number.into()))
    }

    /// Whether this call of many is recorded.
    pub(crate) fn counted(&self) -> bool {
        match self.entry.map_or(Counted::Recorded, Entry::count) {
            Counted::Recorded => true,
            Counted::First => {
                self.probe(Probe::Unrecorded, true, 0);
                set_errno(self.errno);
                false
            }
            Counted::Beyond => false,
        }
    }

    /// Records the enter. The target is called next.
    pub(crate) fn start(&mut self) {
        let mut enter = self.record(Kind::Enter, false);
        enter.a = self.appctx.addr() as u64;
        self.call = self.instrument.writer.enter(enter, &[]);
        set_errno(self.errno);
    }

    /// Records the exit. The server is returned to next. `over`: the handler has nothing more to do with the appctx.
    pub(crate) fn finish(mut self, result: i64, over: bool) {
        self.errno = errno();
        let mut exit = self.record(Kind::Exit, over);
        exit.a = result.cast_unsigned();
        self.instrument.writer.exit(self.call, exit, &[]);
        if self.callback == Callback::Release {
            // SAFETY: the server's own argument of this call.
            unsafe { appctx::mark_released(self.appctx) };
        }
        set_errno(self.errno);
    }

    fn record(&self, kind: Kind, over: bool) -> Record {
        let mut record = record(kind, 0, self.callback as u8);
        record.handle = self.id;
        // SAFETY: the server's own argument of this call.
        unsafe { state(self.instrument, self.appctx, self.number, over) }.put(&mut record);
        record
    }

    /// Records what was looked at for this appctx.
    pub(crate) fn probe(&self, probe: Probe, ok: bool, b: u64) {
        note(self.instrument, self.id, probe, ok, b);
    }
}

/// Records what was looked at for the appctx with this id.
pub(crate) fn note(instrument: &Instrument, id: u32, probe: Probe, ok: bool, b: u64) {
    let mut note = record(Kind::Probe, 0, probe as u8);
    (note.handle, note.a, note.b) = (id, u64::from(ok), b);
    instrument.writer.note(note, &[]);
}

fn errno() -> c_int {
    // SAFETY: the C library's own variable of this thread.
    unsafe { *libc::__errno_location() }
}

fn set_errno(value: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = value };
}
