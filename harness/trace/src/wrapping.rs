//! A trace that wraps: what writes it runs for longer than any memory has room, and somebody reads it meanwhile.
//!
//! The position of a record grows without end, and its place is the position modulo the capacity. Each round has an epoch of its
//! own, one more than the round before, so that a place tells of which round its record is. The reader says in the header how far
//! it has come; nothing that it has not read is written over.
//!
//! Where the reader is left behind, nobody waits for it, and what is recorded stays whole:
//!
//! - When three quarters of the places are taken, a data call that begins on its thread is left out, with every call inside
//!   it, and counted. So each call that is there has all of its inside, and what begins, prepares, finalizes and closes is
//!   there in any case: a quarter of the places is kept for that.
//! - When that is taken, too, nothing more is recorded, to the end of the run. The header says from which position on.
//!
//! Which calls of a thread are recorded is a property of the thread, and several images in one process have to know of it: they share
//! a key of pthread_key_create(3), whose number is in the header. In a process without one no call is left out.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::callback::Callback;
use crate::event::{Field, Kind, Probe};
use crate::record::Record;
use crate::ring::Ring;
use crate::writer::{CallId, MOST_RECORDS, Writer};

/// What this part of the places is kept for what must be recorded.
const KEPT: u64 = 4;
/// What this part is left for those who claim at the same time.
const SLACK: u64 = 16;

impl Writer {
    /// Records that a call starts, unless it is to be left out.
    pub(crate) fn enter_in(&self, ring: Ring, record: Record, texts: &[(Field, &[u8])]) -> CallId {
        if self.has_stopped() {
            self.leave_out();
            return CallId::LOST;
        }
        let is_data = record.kind == Kind::Enter as u8
            && ring.key.is_some()
            && Callback::from_number(record.callback).is_some_and(Callback::is_data);
        let inside = ring.inside();
        let recorded = match inside.innermost() {
            Some(false) if is_data => false,
            None if is_data => self.has_room(self.capacity() / KEPT),
            _ => true,
        };
        match inside.enter(recorded) {
            Some(inside) => ring.set_inside(inside),
            None => self.stop(self.cursor()),
        }
        if recorded {
            return self.append(record, texts, true);
        }
        self.leave_out();
        CallId::LOST
    }

    /// Records that the call has returned, where its start is recorded.
    pub(crate) fn exit_in(&self, ring: Ring, call: CallId, record: Record, texts: &[(Field, &[u8])]) {
        ring.set_inside(ring.inside().leave());
        if call != CallId::LOST {
            self.append(Record { call: call.0, ..record }, texts, false);
        }
    }

    /// Records something that is no call, unless it is about one that is left out.
    pub(crate) fn note_in(&self, ring: Ring, record: Record, texts: &[(Field, &[u8])]) {
        let is_of_call = record.kind == Kind::Probe as u8 && record.callback != Probe::Ended as u8;
        if !(is_of_call && ring.inside().innermost() == Some(false)) {
            self.append(record, texts, false);
        }
    }

    /// Claims places for so many records that must be recorded; `None` where nothing is recorded any more.
    pub(crate) fn claim_in_ring(&self, records: u64) -> Option<u64> {
        if self.has_stopped() {
            return None;
        }
        if !self.has_room(self.capacity() / SLACK + records) {
            self.stop(self.cursor());
            self.leave_out();
            return None;
        }
        let first = self.header().cursor.fetch_add(records, Relaxed);
        let end = first.saturating_add(records);
        let free = self.header().read.load(Acquire).saturating_add(self.capacity());
        if end > free || end >= MOST_RECORDS {
            self.stop(first);
            self.leave_out();
            return None;
        }
        Some(first)
    }

    /// So many places are free, and more.
    fn has_room(&self, places: u64) -> bool {
        let header = self.header();
        // In this order: what is read never comes before what is claimed.
        let read = header.read.load(Acquire);
        header.cursor.load(Relaxed).saturating_sub(read) <= self.capacity().saturating_sub(places)
    }

    fn has_stopped(&self) -> bool {
        self.header().stopped.load(Relaxed) != 0
    }

    /// Nothing counts from this position on.
    fn stop(&self, position: u64) {
        lower(&self.header().stopped, position + 1);
    }

    fn leave_out(&self) {
        let header = self.header();
        if header.left_out.fetch_add(1, AcqRel) == 0 {
            lower(&header.left_out_from, header.cursor.load(Relaxed) + 1);
        }
    }

    /// Tells those who write how far the trace was read. What was read is written over from then on.
    pub fn has_read(&self, position: u64) {
        self.header().read.store(position, Release);
    }

    /// Returns whether it is a trace that wraps.
    pub fn wraps(&self) -> bool {
        self.ring().is_some()
    }
}

/// Makes it this value, where it is 0 or greater.
fn lower(word: &AtomicU64, value: u64) {
    let _ = word.fetch_update(Relaxed, Relaxed, |old| (old == 0 || old > value).then_some(value));
}
