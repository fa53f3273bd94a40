//! Recording one call of a callback.

use std::ffi::c_int;
use std::ptr::null_mut;
use std::sync::PoisonError;

use layers_trace::lent::Seen;
use layers_trace::record::Record;
use layers_trace::writer::record;
use layers_trace::{CallId, Callback, Field, Kind, Probe};

use crate::errno;
use crate::layer::Layer;
use crate::lent::{Lends, Lent};
use crate::midway::{self, Outside};
use crate::pauses::Pauses;
use crate::pointers::Buffer;
use crate::system::{self, Before, Volatile};

/// A call on its way through a trampoline: [`Call::new`], [`Call::start`], the target, [`Call::returned`],
/// [`Call::finish`]. `errno` is for the target what the server had left, and for the server what the target has left.
///
/// No lock, no allocation (an empty `Vec` has none) and no system call, unless there are texts.
#[derive(Debug)]
pub struct Call<'a> {
    /// Whose call.
    pub layer: &'a Layer,
    /// What the enter is to say.
    pub enter: Record,
    /// What the exit is to say.
    pub exit: Record,
    /// Texts of the record that is written next.
    pub texts: Vec<(Field, &'a [u8])>,
    /// The buffer of a read or a write; NULL for other calls.
    pub buffer: Buffer,
    /// Of a call of `extents`: the list that it leaves behind, as it stands in the trace.
    pub extents: Vec<u8>,
    /// The target has returned a failure.
    pub failed: bool,
    /// What the target has instead of the caller's buffer.
    pub lent: Option<Lent>,
    /// What this thread was in before the target was called, where calls pause.
    pub(crate) outside: Option<Outside>,
    /// The same, where what the target asks of the system is looked at.
    pub(crate) before: Option<Before>,
    pub(crate) callback: Callback,
    id: CallId,
    pub(crate) errno: c_int,
}

impl<'a> Call<'a> {
    /// A call of this callback has come in.
    #[inline]
    pub fn new(layer: &'a Layer, callback: Callback) -> Call<'a> {
        Call::of_kind(layer, callback, Kind::Enter, Kind::Exit)
    }

    /// The reference filter is about to call this operation of the layer below.
    pub fn asking(layer: &'a Layer, callback: Callback) -> Call<'a> {
        Call::of_kind(layer, callback, Kind::Ask, Kind::Answer)
    }

    #[inline]
    fn of_kind(layer: &'a Layer, callback: Callback, enter: Kind, exit: Kind) -> Call<'a> {
        Call {
            errno: errno::get(),
            layer,
            enter: record(enter, layer.number, callback as u8),
            exit: record(exit, layer.number, callback as u8),
            texts: Vec::new(),
            buffer: Buffer(null_mut()),
            extents: Vec::new(),
            failed: false,
            lent: None,
            outside: None,
            before: None,
            callback,
            id: CallId::LOST,
        }
    }

    /// Of this callback.
    pub fn callback(&self) -> Callback {
        self.callback
    }

    /// Records the enter. The target is called next.
    #[inline]
    pub fn start(&mut self) {
        self.start_then(|_| ());
    }

    /// Records the enter, then does `look` while the target is not called yet.
    #[inline]
    pub fn start_then(&mut self, look: impl FnOnce(&Call<'_>)) {
        let writes = matches!(self.callback, Callback::Pwrite | Callback::PwriteV1);
        if writes && (self.layer.digests || self.layer.looks_at_writes) {
            // SAFETY: the buffer that the server has passed in this call, with its count.
            self.exit.b = unsafe { self.buffer.digest(self.enter.c) };
        }
        self.id = self.layer.writer.enter(self.enter, &self.texts);
        self.texts.clear();
        look(self);
        errno::tell(0);
        match self.callback {
            Callback::Cleanup | Callback::Unload => self.probe_strings(),
            _ => (),
        }
        if self.layer.watches && self.enter.kind == Kind::Enter as u8 {
            let id = if self.id == CallId::LOST { 0 } else { self.id.0 };
            self.before = Some(system::enter(self.layer, self.callback, self.enter.d, id));
        }
        if let Some(pauses) = self.pauses() {
            self.outside = Some(midway::enter(pauses, pauses.before()));
        }
        errno::set(self.errno);
    }

    /// Where this call pauses: only those do that may run side by side.
    pub(crate) fn pauses(&self) -> Option<&'static Pauses> {
        let pauses = self.layer.pauses.filter(|_| self.enter.kind == Kind::Enter as u8)?;
        let beside = matches!(self.callback, Callback::Open | Callback::Close) || self.callback.is_data();
        beside.then_some(pauses)
    }

    /// Looks at the strings that were promised to stay, in `cleanup` and `unload`.
    ///
    /// Keys and values stay until the plugin is unloaded: a key may be the plugin's own `magic_config_key`, which goes
    /// with its image. Unloads come in any order, so a filter's is too late to look.
    fn probe_strings(&self) {
        let parameters = self.layer.parameters.lock().unwrap_or_else(PoisonError::into_inner);
        let too_late = self.enter.callback == Callback::Unload as u8 && self.enter.layer > 0;
        if !parameters.is_empty() && !too_late {
            // SAFETY: the server promises keys and values until the plugin is unloaded, which is not over yet.
            self.probe(Probe::ConfigStrings, parameters.iter().all(|kept| unsafe { kept.is_unchanged() }));
        }
        if self.enter.callback == Callback::Unload as u8
            && let Some(kept) = self.layer.interned.get()
        {
            // SAFETY: the server promises strings interned in `load` until after unload.
            self.probe(Probe::InternedGlobally, unsafe { kept.is_unchanged() });
        }
    }
    /// Records whether the files that the target has written to are durable now.
    pub(crate) fn probe_durable(&self, durable: Result<(), Volatile>) {
        let mut note = self.probe_of(Probe::Durable);
        match durable {
            Ok(()) => {
                note.a = 1;
                self.layer.writer.note(note, &[]);
            }
            Err(Volatile { by, name }) => {
                note.context = u64::from(by);
                self.layer.writer.note(note, &[(Field::Name, name.as_encoded_bytes())]);
            }
        }
    }

    /// Records the exit. The server is returned to next.
    #[inline]
    pub fn finish(mut self) {
        self.exit.c = self.errno.cast_unsigned();
        self.exit.context = self.enter.context;
        if self.callback != Callback::Open {
            self.exit.handle = self.enter.handle;
        }
        if self.extents.is_empty() {
            self.layer.writer.exit(self.id, self.exit, &self.texts);
        } else {
            self.layer.writer.exit(self.id, self.exit, &[(Field::Extents, self.extents.as_slice())]);
        }
        errno::set(self.errno);
    }

    /// Records what an instrument looked at during this call.
    pub fn probe(&self, probe: Probe, ok: bool) {
        self.note(probe, |note| (note.a, note.context) = (u64::from(ok), self.enter.context));
    }

    /// Records what a target did to the buffer that it had; `judged` when the call was to fill it, or has read it all.
    pub fn probe_lent(&self, seen: Seen, judged: bool) {
        self.note(Probe::Lent, |note| seen.put(note, judged));
    }

    fn note(&self, probe: Probe, say: impl FnOnce(&mut Record)) {
        let mut note = self.probe_of(probe);
        say(&mut note);
        self.layer.writer.note(note, &[]);
    }

    fn probe_of(&self, probe: Probe) -> Record {
        let mut note = record(Kind::Probe, self.layer.number, probe as u8);
        note.handle = self.enter.handle;
        note.call = if self.id == CallId::LOST { 0 } else { self.id.0 };
        note
    }

    /// The call is one of the server's, or of a filter's to the layer below it, and its target may get another buffer.
    pub fn lends(&self) -> bool {
        self.layer.lends != Lends::Nothing && self.enter.kind == Kind::Enter as u8
    }
}
