//! What the calls of HAProxy's keywords and applets say of their appctx.
//!
//! Enter and exit of such a call carry a [`State`] each: how the server hands the appctx over, and how the handler leaves it.
//! Pointers are recorded for comparison only; nothing but the instrument ever follows them.

use crate::event::{Event, Kind};
use crate::record::Record;

/// What `a` of [`Probe::Tried`](crate::Probe::Tried) is where nothing is said of the command: it was not tried, or cannot be told.
pub const UNJUDGED: u64 = 2;

/// Numbers under which applets are registered begin here, beyond those of keywords.
pub const FIRST_APPLET: u16 = 1000;

/// Bits of `d`.
mod flag {
    pub(super) const CONTEXT_KNOWN: u32 = 1 << 0;
    pub(super) const NULL: u32 = 1 << 1;
    pub(super) const STORAGE: u32 = 1 << 2;
    pub(super) const ZERO: u32 = 1 << 3;
    pub(super) const ST2_KNOWN: u32 = 1 << 4;
    pub(super) const ST2_ZERO: u32 = 1 << 5;
    pub(super) const SLOTS_KNOWN: u32 = 1 << 6;
    pub(super) const IO_HANDLER: u32 = 1 << 7;
    pub(super) const IO_RELEASE: u32 = 1 << 8;
    pub(super) const LINKED: u32 = 1 << 9;
    pub(super) const RELEASED: u32 = 1 << 10;
}

/// What `svcctx` points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// NULL.
    Null,
    /// The storage area of the appctx, at its start.
    Storage,
    /// Anything else, such as memory that the handler has allocated.
    Elsewhere,
}

/// `svcctx` and the storage area; there is none before HAProxy 2.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The pointer.
    pub svcctx: u64,
    /// What it points at.
    pub place: Place,
    /// Every byte of the storage area is zero.
    pub storage_is_zero: bool,
    /// A hash of the storage area: equal bytes have equal hashes.
    pub storage_hash: u32,
    /// A list element inside the storage area is linked from outside.
    pub linked: bool,
}

/// The two slots of an appctx that a command's keyword fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// There is an `io_handler`.
    pub io_handler: bool,
    /// There is an `io_release`.
    pub io_release: bool,
}

/// An appctx at the enter or exit of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Number under which the keyword, or applet, was registered.
    pub number: u16,
    /// `st0`: for the command line, what its automaton does next.
    pub st0: u32,
    /// `svcctx`; `None` where the instrument does not know it.
    pub context: Option<Context>,
    /// `st2` is zero; `None` where there is none (it is HAProxy 2.6's alone).
    pub st2_is_zero: Option<bool>,
    /// `None` where the instrument does not know where they lie.
    pub slots: Option<Slots>,
    /// The appctx has been released, and its memory was not given out anew.
    pub released: bool,
}

impl State {
    /// Puts it into the record of a call.
    pub fn put(&self, record: &mut Record) {
        let mut flags = 0;
        let mut set = |bit: u32, on: bool| flags |= if on { bit } else { 0 };
        let mut hash = 0;
        if let Some(context) = self.context {
            set(flag::CONTEXT_KNOWN, true);
            set(flag::NULL, context.place == Place::Null);
            set(flag::STORAGE, context.place == Place::Storage);
            set(flag::ZERO, context.storage_is_zero);
            set(flag::LINKED, context.linked);
            record.context = context.svcctx;
            hash = context.storage_hash;
        }
        if let Some(zero) = self.st2_is_zero {
            set(flag::ST2_KNOWN, true);
            set(flag::ST2_ZERO, zero);
        }
        if let Some(slots) = self.slots {
            set(flag::SLOTS_KNOWN, true);
            set(flag::IO_HANDLER, slots.io_handler);
            set(flag::IO_RELEASE, slots.io_release);
        }
        set(flag::RELEASED, self.released);
        record.b = u64::from(hash) | u64::from(self.number) << 32;
        record.c = self.st0;
        record.d = flags;
    }

    /// What the enter or exit of a call of a keyword or applet says; `None` for any other event.
    pub fn of(event: &Event) -> Option<State> {
        event.callback().filter(|callback| callback.is_appctx())?;
        let is = |bit: u32| event.d & bit != 0;
        let place = match (is(flag::NULL), is(flag::STORAGE)) {
            (true, _) => Place::Null,
            (_, true) => Place::Storage,
            _ => Place::Elsewhere,
        };
        let context = Context {
            svcctx: event.context,
            place,
            storage_is_zero: is(flag::ZERO),
            storage_hash: event.b as u32,
            linked: is(flag::LINKED),
        };
        let slots = Slots { io_handler: is(flag::IO_HANDLER), io_release: is(flag::IO_RELEASE) };
        Some(State {
            number: (event.b >> 32) as u16,
            st0: event.c,
            context: is(flag::CONTEXT_KNOWN).then_some(context),
            st2_is_zero: is(flag::ST2_KNOWN).then_some(is(flag::ST2_ZERO)),
            slots: is(flag::SLOTS_KNOWN).then_some(slots),
            released: is(flag::RELEASED),
        })
    }
}

/// A registration is that of a keyword or applet of HAProxy, not of a layer of nbdkit.
pub fn is_registration(event: &Event) -> bool {
    use crate::callback::Callback;
    event.kind == Kind::Layer && Callback::ALL.iter().any(|c| c.is_appctx() && event.has_callback(*c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callback::Callback;
    use crate::writer::record;

    fn event(record: Record) -> Event {
        Event {
            position: 0,
            kind: Kind::Exit,
            layer: 0,
            number: record.callback,
            tid: 1,
            pid: 1,
            call: 0,
            handle: 1,
            time: 0,
            context: record.context,
            a: record.a,
            b: record.b,
            c: record.c,
            d: record.d,
            texts: Vec::new(),
        }
    }

    #[test]
    fn what_is_put_into_a_record_is_read_from_its_event() {
        let full = State {
            number: 0x1234,
            st0: 7,
            context: Some(Context {
                svcctx: 0xdead_beef_0000,
                place: Place::Elsewhere,
                storage_is_zero: true,
                storage_hash: 0xffff_fff1,
                linked: true,
            }),
            st2_is_zero: Some(false),
            slots: Some(Slots { io_handler: true, io_release: false }),
            released: true,
        };
        let empty =
            State { number: 0, st0: 0, context: None, st2_is_zero: None, slots: None, released: false };
        for state in [full, empty] {
            let mut put = record(Kind::Exit, 0, Callback::IoHandler as u8);
            state.put(&mut put);
            assert_eq!(State::of(&event(put)), Some(state));
        }
        assert_eq!(State::of(&event(record(Kind::Exit, 0, Callback::Open as u8))), None);
    }
}
