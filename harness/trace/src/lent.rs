//! What an instrument saw of a buffer of its own that a target had for the time of one call.

use crate::record::Record;

/// So many bytes next to each other are not kept by chance: they differ from call to call, and are as good as random.
pub const LEAST_KEPT: usize = 8;

/// What the call did to the buffer. How it stands in a record, the table at [`crate::Probe::Lent`] says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The first byte of the longest stretch that a read has kept, or of what a write has changed.
    pub start: u32,
    /// How many bytes these are; 0 when there are none.
    pub length: u32,
    /// Bytes at the start that a read has kept, up to 255; a few may be there by chance.
    pub head: u16,
    /// Likewise at the end.
    pub tail: u16,
    /// A byte outside was changed: so many bytes behind the end (1 is the next one), or before the start (negative).
    pub outside: i32,
}

impl Seen {
    /// Puts it into a record.
    pub fn put(self, record: &mut Record, judged: bool) {
        record.a = u64::from(self.length == 0 && self.outside == 0);
        record.b = u64::from(self.start) | u64::from(self.length) << 32;
        record.c = u32::from(self.head) | u32::from(self.tail) << 16;
        record.d = self.outside.cast_unsigned();
        record.context = u64::from(judged);
    }

    /// Takes it out of a probe.
    pub fn of(event: &crate::Event) -> Seen {
        let halves = |word: u64| (word as u32, (word >> 32) as u32);
        let (start, length) = halves(event.b);
        Seen {
            start,
            length,
            head: event.c as u16,
            tail: (event.c >> 16) as u16,
            outside: event.d.cast_signed(),
        }
    }
}
