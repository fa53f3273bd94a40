//! Appctxs: which one is which, and what they hold at a moment.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use layers_trace::appctx::{Context, Place, Slots, State};
use layers_trace::event::HANDLE_FOREIGN;

use crate::instrument::Instrument;
use crate::layout::ContextLayout;
use crate::memory;
use crate::server::Appctx;

/// Calls of one command, or of an applet between two commands, that are recorded: a handler may spin for ever.
const MOST_CALLS: u32 = 1000;

/// Byte of an appctx that is padding, and cleared when the memory is given out anew (since 2.6). Any other value is none of ours:
/// the memory was given back, and belongs to an allocator or to something else.
const MARK: usize = 1;
const NEW: u8 = 0;
const SEEN: u8 = 0x5a;
const RELEASED: u8 = 0xa5;
/// One of the values that are none of ours.
const GIVEN_BACK: u8 = 0x11;

/// What the instrument keeps for an appctx. An appctx is used by one thread at a time.
#[derive(Debug)]
pub(crate) struct Entry {
    address: AtomicUsize,
    /// Minted.
    id: AtomicU32,
    /// Calls since the command began.
    calls: AtomicU32,
    /// Handlers that a keyword put in place of its own.
    pub(crate) io_handler: AtomicUsize,
    /// The same.
    pub(crate) io_release: AtomicUsize,
    /// Own keywords count their rounds here.
    pub(crate) rounds: AtomicU32,
    /// Own keywords keep here what they stored in `svcctx`.
    pub(crate) memory: AtomicUsize,
    /// The applet of which a function is running: its number and 1, or 0.
    running: AtomicUsize,
    /// What an own keyword wants to be done to its appctx before it is called next ([`crate::own::meddle`]).
    pub(crate) meddle: AtomicU32,
}

/// Appctxs that there may be at once, over the life of the process: memory is used again.
const ENTRIES: usize = 4096;

static ENTRIES_BY_ADDRESS: [Entry; ENTRIES] = [const {
    Entry {
        address: AtomicUsize::new(0),
        id: AtomicU32::new(0),
        calls: AtomicU32::new(0),
        io_handler: AtomicUsize::new(0),
        io_release: AtomicUsize::new(0),
        rounds: AtomicU32::new(0),
        memory: AtomicUsize::new(0),
        running: AtomicUsize::new(0),
        meddle: AtomicU32::new(0),
    }
}; ENTRIES];

/// The entry for memory at this address, a new one if need be; `None` when there is no room.
pub(crate) fn entry(appctx: Appctx) -> Option<&'static Entry> {
    let address = appctx.addr();
    let start = address / 64;
    (0..ENTRIES).find_map(|step| {
        let entry = ENTRIES_BY_ADDRESS.get((start + step) % ENTRIES)?;
        let taken = entry.address.load(Ordering::Relaxed);
        let ours = taken == address
            || taken == 0
                && match entry.address.compare_exchange(0, address, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => true,
                    Err(now) => now == address,
                };
        ours.then_some(entry)
    })
}

/// The id of the appctx: a new one for memory that was given out anew.
///
/// # Safety
///
/// `appctx` is one that the server passes to a callback now.
pub(crate) unsafe fn identify(instrument: &Instrument, appctx: Appctx) -> (u32, Option<&'static Entry>) {
    let Some(entry) = entry(appctx) else { return (HANDLE_FOREIGN, None) };
    // SAFETY: inside the appctx, and padding.
    let mark = unsafe { appctx.byte_add(MARK).cast::<u8>() };
    // SAFETY: as above.
    let is_new = match unsafe { mark.read() } {
        SEEN => false,
        NEW => true,
        // Before 2.6 the padding keeps what it was. What we have never seen has an id all the same.
        _ => instrument.layout.context.is_none() || entry.id.load(Ordering::Relaxed) == 0,
    };
    if is_new {
        // SAFETY: as above.
        unsafe { mark.write(SEEN) };
        entry.id.store(instrument.writer.mint_handle(), Ordering::Relaxed);
        for word in [&entry.io_handler, &entry.io_release, &entry.memory, &entry.running] {
            word.store(0, Ordering::Relaxed);
        }
        entry.calls.store(0, Ordering::Relaxed);
    }
    (entry.id.load(Ordering::Relaxed), Some(entry))
}

/// Its applet is being released: any call from now on comes too late. What is no appctx any more is left alone.
///
/// # Safety
///
/// As for [`identify`].
pub(crate) unsafe fn mark_released(appctx: Appctx) {
    // SAFETY: inside the appctx, and padding.
    let mark = unsafe { appctx.byte_add(MARK).cast::<u8>() };
    // SAFETY: as above.
    if unsafe { mark.read() } == SEEN {
        // SAFETY: as above.
        unsafe { mark.write(RELEASED) };
    }
}

/// Marks it as if its memory had been given back, and an allocator had written there.
///
/// # Safety
///
/// As for [`identify`].
pub(crate) unsafe fn mark_given_back(appctx: Appctx) {
    // SAFETY: inside the appctx, and padding.
    unsafe { appctx.byte_add(MARK).cast::<u8>().write(GIVEN_BACK) };
}

impl Entry {
    /// A command begins.
    pub(crate) fn restart(&self) {
        self.calls.store(0, Ordering::Relaxed);
        self.rounds.store(0, Ordering::Relaxed);
    }

    /// The handlers of the command that is over are not those of the next one, which may have no `parse`.
    pub(crate) fn forget_replaced(&self) {
        for slot in [&self.io_handler, &self.io_release] {
            slot.store(0, Ordering::Relaxed);
        }
    }

    /// Runs a function of the applet with this number.
    pub(crate) fn running<T>(&self, number: usize, function: impl FnOnce() -> T) -> T {
        let before = self.running.swap(number + 1, Ordering::Relaxed);
        let result = function();
        self.running.store(before, Ordering::Relaxed);
        result
    }

    /// A function of another applet is running: it has called this one, and what it does with it is its own affair.
    pub(crate) fn is_within_another(&self, number: usize) -> bool {
        let running = self.running.load(Ordering::Relaxed);
        running != 0 && running != number + 1
    }

    /// One more call: is it to be recorded?
    pub(crate) fn count(&self) -> Counted {
        match self.calls.fetch_add(1, Ordering::Relaxed) {
            0..MOST_CALLS => Counted::Recorded,
            MOST_CALLS => Counted::First,
            _ => {
                // Never to come round.
                self.calls.store(MOST_CALLS + 1, Ordering::Relaxed);
                Counted::Beyond
            }
        }
    }
}

/// What becomes of a call.
pub(crate) enum Counted {
    /// It is recorded.
    Recorded,
    /// It is the first that is not.
    First,
    /// Nor is this one.
    Beyond,
}

/// What the appctx holds now.
///
/// # Safety
///
/// As for [`identify`].
pub(crate) unsafe fn state(instrument: &Instrument, appctx: Appctx, number: u16, at_end: bool) -> State {
    let layout = &instrument.layout;
    // SAFETY: fields of the appctx, each aligned for its type.
    unsafe {
        let word = |offset: usize| appctx.byte_add(offset).cast::<usize>().read();
        let half = |offset: usize| appctx.byte_add(offset).cast::<u32>().read();
        let mark = appctx.byte_add(MARK).cast::<u8>().read();
        let released = layout.context.is_some() && !matches!(mark, NEW | SEEN);
        State {
            number,
            st0: layout.st0.map_or(0, half),
            context: layout.context.map(|context| context_of(appctx, context, at_end)),
            st2_is_zero: layout.st2.map(|offset| half(offset) == 0),
            slots: layout
                .io_handler()
                .map(|offset| Slots { io_handler: word(offset) != 0, io_release: word(offset + 8) != 0 }),
            released,
        }
    }
}

unsafe fn context_of(appctx: Appctx, layout: ContextLayout, at_end: bool) -> Context {
    // SAFETY: fields of the appctx, aligned to words; the area is `size` bytes long.
    let (svcctx, storage) = unsafe {
        let svcctx = appctx.byte_add(layout.svcctx).cast::<usize>().read();
        let area = appctx.byte_add(layout.storage).cast::<u8>();
        (svcctx, std::slice::from_raw_parts(area, layout.size))
    };
    let place = match svcctx {
        0 => Place::Null,
        svcctx if svcctx == storage.as_ptr().addr() => Place::Storage,
        _ => Place::Elsewhere,
    };
    Context {
        svcctx: svcctx as u64,
        place,
        storage_is_zero: storage.iter().all(|byte| *byte == 0),
        storage_hash: hash(storage),
        linked: at_end && is_linked(storage),
    }
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Two words that are an element of a doubly linked list whose neighbours lie elsewhere and point back at it.
fn is_linked(storage: &[u8]) -> bool {
    let range = storage.as_ptr_range();
    let inside = |address: usize| (range.start.addr()..range.end.addr()).contains(&address);
    (0..storage.len()).step_by(8).any(|offset| {
        let word = |at: usize| {
            storage
                .get(at..at + 8)?
                .try_into()
                .ok()
                .map(usize::from_le_bytes)
                .filter(|w| *w > 0xffff && w % 8 == 0)
        };
        let (Some(next), Some(previous)) = (word(offset), word(offset + 8)) else { return false };
        let element = range.start.addr() + offset;
        !inside(next)
            && !inside(previous)
            && memory::word(next + 8) == Some(element)
            && memory::word(previous) == Some(element)
    })
}

const _: () = assert!(NEW != SEEN && NEW != RELEASED);
