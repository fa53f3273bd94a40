//! What a stack offers, as its first case has shown it; and places on its disk to try things at.

use layers_trace::{Callback, Event, Kind, Operation};

use super::fact::Fact;
use super::op::{DiskRequest, Op};
use super::unfit::Unfit;
use crate::protocol::{MOST_PORTABLE, transmission};
use crate::scenario::flag;

/// What a stack offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Of the export, in bytes.
    pub size: u64,
    /// Transmission flags.
    pub flags: u64,
    /// Minimum, preferred and maximum, where they are told.
    pub block: Option<[u32; 3]>,
    /// base:allocation can be asked for.
    pub block_status: bool,
    /// The outermost layer that is asked for `.can_extents` says yes, or none is asked.
    pub can_extents: bool,
    /// The export that was opened.
    pub export: String,
    /// Callbacks that the subject's layers have, together.
    pub callbacks: u64,
    /// The thread model in force, 0 to 3.
    pub thread_model: u32,
    /// The subject is played without writing: `-r`, or its storage is the user's.
    pub readonly: bool,
    /// Sizes that inner layers have told, where they differ from that of the export.
    pub below: Vec<u64>,
    /// Each case has a copy of a file that a parameter names, and may do with it what it likes.
    pub has_copies: bool,
    /// Its plugin runs a script, which is what is judged.
    pub is_script: bool,
    /// Places of the parameters that can be left out, and whether each has a key.
    pub parameters: Vec<(usize, bool)>,
    /// What its author says that clients see.
    pub expected: Vec<Fact>,
}

impl Claims {
    fn flag(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// A layer of the subject has this callback.
    pub fn has(&self, callback: Callback) -> bool {
        self.callbacks & callback.bit() != 0
    }

    /// The subject can be written to.
    pub fn writes(&self) -> Result<(), Unfit> {
        claimed(!self.flag(transmission::READ_ONLY), "the export is read-only")?;
        self.holds(1)
    }

    /// The disk has room for this many bytes.
    pub fn holds(&self, bytes: u64) -> Result<(), Unfit> {
        claimed(self.size > 0, "the disk has no byte")?;
        if self.size < bytes.max(self.unit()) {
            return Err(Unfit::Reason(format!("the disk has {} bytes", self.size)));
        }
        Ok(())
    }

    /// It has a `.zero` of its own.
    pub fn zeroes(&self) -> Result<(), Unfit> {
        self.writes()?;
        claimed(self.has(Callback::Zero), "it has no .zero")?;
        claimed(self.flag(transmission::SEND_ZERO), "it does not claim write zeroes")
    }

    /// It has no `.zero`, and the server writes zeroes for it.
    pub fn has_emulated_zeroes(&self) -> Result<(), Unfit> {
        claimed(!self.has(Callback::Zero), "it has a .zero of its own")?;
        claimed(self.flag(transmission::SEND_ZERO), "it does not claim write zeroes")
    }

    /// NBD_FLAG_SEND_FAST_ZERO.
    pub fn zeroes_fast(&self) -> Result<(), Unfit> {
        self.zeroes()?;
        claimed(self.flag(transmission::SEND_FAST_ZERO), "it does not claim fast zero")
    }

    /// NBD_FLAG_SEND_TRIM.
    pub fn trims(&self) -> Result<(), Unfit> {
        self.writes()?;
        claimed(self.flag(transmission::SEND_TRIM), "it does not claim trim")
    }

    /// NBD_FLAG_SEND_FLUSH.
    pub fn flushes(&self) -> Result<(), Unfit> {
        claimed(self.flag(transmission::SEND_FLUSH), "it does not claim flush")
    }

    /// NBD_FLAG_SEND_FUA.
    pub fn has_fua(&self) -> Result<(), Unfit> {
        self.writes()?;
        claimed(self.flag(transmission::SEND_FUA), "it does not claim FUA")
    }

    /// It has an `.extents` of its own, and says that it can be asked.
    pub fn tells_extents(&self) -> Result<(), Unfit> {
        claimed(self.has(Callback::Extents), "it has no .extents")?;
        claimed(self.can_extents, "its .can_extents says no")?;
        claimed(self.block_status, "base:allocation was not negotiated")?;
        self.holds(1)
    }

    /// NBD_FLAG_SEND_CACHE, by a callback of its own or by reads.
    pub fn caches(&self) -> Result<(), Unfit> {
        claimed(self.flag(transmission::SEND_CACHE), "it does not claim cache")?;
        self.holds(1)
    }

    /// What it frees it frees at once: an interpreter collects garbage when it likes.
    pub fn gives_back_at_once(&self) -> Result<(), Unfit> {
        claimed(!self.is_script, "it is a script, whose interpreter frees memory when it likes")
    }

    /// What it is written to can be there when its server has ended.
    pub fn outlives_its_server(&self) -> Result<(), Unfit> {
        self.writes()?;
        claimed(self.has_copies, "no parameter names a file that each case has a copy of")
    }

    /// NBD_FLAG_CAN_MULTI_CONN.
    pub fn is_multi_conn(&self) -> Result<(), Unfit> {
        claimed(self.flag(transmission::MULTI_CONN), "it does not claim multi-conn")?;
        self.is_shared()
    }

    /// More than one client can be connected at a time.
    pub fn is_shared(&self) -> Result<(), Unfit> {
        claimed(self.thread_model > 0, "it serves one connection at a time")
    }

    /// It has a `.block_size`, and it says something.
    pub fn tells_block_size(&self) -> Result<(), Unfit> {
        claimed(self.has(Callback::BlockSize) && self.block.is_some(), "it tells no block sizes")
    }

    /// It lists exports by itself.
    pub fn lists_exports(&self) -> Result<(), Unfit> {
        claimed(self.has(Callback::ListExports), "it has no .list_exports")
    }

    /// The kinds of request that it offers, with their flags; FUA apart.
    pub fn kinds(&self) -> impl Iterator<Item = (Operation, u32)> + use<> {
        let all = [
            (true, Operation::Read, 0),
            (self.writes().is_ok(), Operation::Write, 0),
            (self.zeroes().is_ok(), Operation::Zero, flag::NO_HOLE),
            (self.zeroes().is_ok(), Operation::Zero, 0),
            (self.trims().is_ok(), Operation::Trim, 0),
            (self.flushes().is_ok(), Operation::Flush, 0),
            (self.tells_extents().is_ok(), Operation::BlockStatus, 0),
            (self.caches().is_ok(), Operation::Cache, 0),
        ];
        all.into_iter().filter(|(offered, ..)| *offered).map(|(_, operation, flags)| (operation, flags))
    }

    /// The unit of all requests.
    pub fn unit(&self) -> u64 {
        self.block.map_or(1, |[minimum, ..]| u64::from(minimum.max(1)))
    }

    /// The largest request.
    pub fn most(&self) -> u64 {
        let most = self
            .block
            .map_or(u64::from(MOST_PORTABLE), |[_, _, maximum]| u64::from(maximum))
            .min(u64::from(MOST_PORTABLE));
        (most / self.unit()).max(1) * self.unit()
    }

    /// The end of the disk, as far as whole units go.
    pub fn end(&self) -> u64 {
        self.size / self.unit() * self.unit()
    }

    /// These bytes, widened to whole units and cut to what there is and to one request; `None` where nothing is left.
    pub fn range(&self, offset: u64, count: u64) -> Option<(u64, u32)> {
        let unit = self.unit();
        let start = offset / unit * unit;
        let end = offset.saturating_add(count).div_ceil(unit).saturating_mul(unit);
        let end = end.min(self.end()).min(start.saturating_add(self.most()));
        let count = end.checked_sub(start).filter(|count| *count > 0)?;
        Some((start, u32::try_from(count).ok()?))
    }

    /// The same; where nothing is left, nothing can be tried there.
    pub fn some(&self, offset: u64, count: u64) -> Result<(u64, u32), Unfit> {
        self.range(offset, count).ok_or_else(|| Unfit::Reason(format!("the disk has {} bytes", self.size)))
    }

    /// These bytes with up to so many more on either side.
    pub fn around(&self, (offset, count): (u64, u32), margin: u64) -> Option<(u64, u32)> {
        let start = offset.saturating_sub(margin);
        self.range(start, offset - start + u64::from(count) + margin)
    }

    /// The end of the disk, where one large request has been made of its start.
    pub fn last(&self) -> Option<(u64, u32)> {
        let most = self.most().min(LAST);
        self.range(self.end().saturating_sub(most), most)
    }

    /// Places where things go wrong: the start, the end, odd offsets, both sides of powers of two.
    pub fn places(&self) -> Vec<(u64, u32)> {
        let end = self.end();
        let wanted = [
            (0, 512),
            (0, 1),
            (1, 1),
            (511, 2),
            (4095, 2),
            (4096, 4096),
            (65535, 4098),
            ((1 << 20) - 3, 7),
            (end.saturating_sub(4099), 4099),
            (end.saturating_sub(1), 1),
            (end / 2, 8193),
        ];
        let far = [25, 26, 31, 32, 40].map(|power| ((1 << power) - 5000, 10_000));
        let mut ranges: Vec<_> = wanted
            .into_iter()
            .chain(far)
            .filter(|(offset, count)| *count <= end && *offset <= end - *count)
            .filter_map(|(offset, count)| self.range(offset, count))
            .collect();
        ranges.dedup();
        ranges
    }
}

/// Bytes on both sides of a border.
const ACROSS: u64 = 700;

impl Claims {
    /// Ranges across every power of two from 4 KiB up to the size, and across the ends of the layers below; the far end
    /// first. Then the one byte on either side of those ends, alone.
    pub fn borders(&self) -> Vec<(u64, u32)> {
        let powers = (12..63).map(|power| 1_u64 << power);
        let mut all: Vec<u64> = powers.chain(self.below.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        let inside = all.into_iter().rev().filter(|border| border.saturating_add(ACROSS) <= self.end());
        let across = inside.filter_map(|border| self.range(border.saturating_sub(ACROSS), 2 * ACROSS - 1));
        let last = self.range(self.end().saturating_sub(ACROSS), ACROSS);
        let ends = self.below.iter().filter(|end| (1..self.end()).contains(*end));
        let single = ends.flat_map(|end| [end - 1, *end]).filter_map(|byte| self.range(byte, 1));
        last.into_iter().chain(across).chain(single).collect()
    }

    /// Whole blocks, of every size of a power of two up to 1 MiB, and a rest that is none; at the start of the disk, and
    /// where no block begins. The sizes that are most often met come first.
    pub fn long(&self) -> Vec<(u64, u32)> {
        let sizes = [16, 12, 20, 15, 17, 13, 14, 18, 19].map(|power| 1_u64 << power).into_iter();
        let ranges =
            sizes.flat_map(|size| [(0, size + 512), (3 * size, 2 * size + 4095), (size - 1, size + 514)]);
        let inside = ranges.filter(|(offset, count)| offset + count <= self.end().min(LONG));
        let mut all: Vec<_> = inside.filter_map(|(offset, count)| self.range(offset, count)).collect();
        all.dedup();
        all
    }
}

/// Bytes at the end of the disk: a page of memory costs more than what is compared in it, and the largest request is made
/// once.
const LAST: u64 = 4 << 20;

/// As far as long requests go.
pub const LONG: u64 = 6 << 20;

fn claimed(holds: bool, otherwise: &'static str) -> Result<(), Unfit> {
    if holds { Ok(()) } else { Err(Unfit::NotClaimed(otherwise)) }
}

/// A request of client 1.
pub fn request(operation: Operation, (offset, count): (u64, u32)) -> DiskRequest {
    DiskRequest { client: 1, operation, offset, count, flags: 0, data: 0 }
}

/// Client 1 writes this pattern.
pub fn write(range: (u64, u32), data: u64) -> Op {
    Op::Request(DiskRequest { data, ..request(Operation::Write, range) })
}

/// Client 1 reads.
pub fn read(range: (u64, u32)) -> Op {
    Op::Request(request(Operation::Read, range))
}

/// Client 1 flushes.
pub fn flush() -> Op {
    Op::Request(request(Operation::Flush, (0, 0)))
}

/// The same request with these flags as well.
pub fn flagged(op: Op, flags: u32) -> Op {
    match op {
        Op::Request(request) => Op::Request(DiskRequest { flags: request.flags | flags, ..request }),
        other => other,
    }
}

/// FUA, where it is offered; else nothing.
pub fn fua(claims: &Claims) -> u32 {
    if claims.has_fua().is_ok() { flag::FUA } else { 0 }
}

/// Callbacks of the layers from this number on, and the thread model in force, out of a trace.
pub fn registered(events: &[Event], from: u8) -> (u64, u32) {
    let layers = events.iter().filter(|event| event.kind == Kind::Layer);
    let callbacks = layers.clone().filter(|event| event.layer >= from);
    let callbacks = callbacks.fold(0, |set, event| set | (event.a & !event.b));
    let declared = layers.filter(|event| event.layer == 0).map(|event| event.c);
    let answered = events
        .iter()
        .filter(|event| event.kind == Kind::Exit && event.callback() == Some(Callback::ThreadModel))
        .filter_map(|event| u32::try_from(event.result()).ok());
    (callbacks, declared.chain(answered).min().unwrap_or(3))
}
