//! One record: 64 bytes, one cache line.
//!
//! | offset | type | meaning |
//! |---|---|---|
//! | 0 | u32 | epoch, stored last: the record is published |
//! | 4 | u8 | kind ([`crate::Kind`]) |
//! | 5 | u8 | layer |
//! | 6 | u8 | callback, operation, probe, or field of a text |
//! | 7 | u8 | text records that follow and belong to this one |
//! | 8 | u32 | thread id |
//! | 12 | u32 | process id |
//! | 16 | u32 | position of the enter that this belongs to |
//! | 20 | u32 | minted handle id, or client number |
//! | 24 | u64 | CLOCK_MONOTONIC, nanoseconds |
//! | 32 | u64 | context: `next`, own context at open, or backend |
//! | 40 | u64 | offset, or result |
//! | 48 | u64 | buffer, or further value |
//! | 56 | u32 | count, or errno |
//! | 60 | u32 | flags, or err |
//!
//! A text record keeps bytes 0 to 7 (there, 6 is the field and 7 is how many bytes are used, with bit 7 set in
//! `layer` when it continues the text before and bit 6 when the text was cut) and carries 56 bytes of text from 8 on.

/// Bytes in a record.
pub const RECORD_SIZE: usize = 64;
/// Bytes of text in one text record.
pub const TEXT_SIZE: usize = 56;
/// In a text record's `layer`: continues the text of the record before.
pub const TEXT_CONTINUES: u8 = 0x80;
/// In a text record's `layer`: the writer had more than it could keep.
pub const TEXT_CUT: u8 = 0x40;

/// A record as it lies in memory. See the module for what each field means for each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
#[allow(missing_docs, reason = "the module's table documents the fields")]
pub struct Record {
    pub epoch: u32,
    pub kind: u8,
    pub layer: u8,
    pub callback: u8,
    pub texts: u8,
    pub tid: u32,
    pub pid: u32,
    pub call: u32,
    pub handle: u32,
    pub time: u64,
    pub context: u64,
    pub a: u64,
    pub b: u64,
    pub c: u32,
    pub d: u32,
}

const _: () = {
    assert!(size_of::<Record>() == RECORD_SIZE);
    assert!(std::mem::offset_of!(Record, d) == 60);
};

/// Words of 64 bits in a record: the unit in which it is shared. The first has the epoch in its low half.
pub(crate) const WORDS: usize = RECORD_SIZE / 8;

impl Record {
    /// The record in these bytes; `None` unless there are exactly [`RECORD_SIZE`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Record> {
        let bytes: &[u8; RECORD_SIZE] = bytes.try_into().ok()?;
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Some(Record::from_words(words))
    }

    /// The bytes of this record.
    pub fn to_bytes(self) -> [u8; RECORD_SIZE] {
        let mut bytes = [0; RECORD_SIZE];
        for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(self.to_words()) {
            *bytes = word.to_le_bytes();
        }
        bytes
    }

    #[inline]
    pub(crate) const fn from_words(words: [u64; WORDS]) -> Record {
        const fn low(word: u64) -> u32 {
            word as u32
        }
        const fn high(word: u64) -> u32 {
            (word >> 32) as u32
        }
        let [head, thread, call, time, context, a, b, tail] = words;
        let [kind, layer, callback, texts] = high(head).to_le_bytes();
        Record {
            epoch: low(head),
            kind,
            layer,
            callback,
            texts,
            tid: low(thread),
            pid: high(thread),
            call: low(call),
            handle: high(call),
            time,
            context,
            a,
            b,
            c: low(tail),
            d: high(tail),
        }
    }

    #[inline]
    pub(crate) const fn to_words(self) -> [u64; WORDS] {
        const fn pair(low: u32, high: u32) -> u64 {
            low as u64 | (high as u64) << 32
        }
        let what = u32::from_le_bytes([self.kind, self.layer, self.callback, self.texts]);
        [
            pair(self.epoch, what),
            pair(self.tid, self.pid),
            pair(self.call, self.handle),
            self.time,
            self.context,
            self.a,
            self.b,
            pair(self.c, self.d),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_memory_agree() {
        let record = Record {
            epoch: 1,
            kind: 2,
            layer: 3,
            callback: 4,
            texts: 5,
            tid: 6,
            pid: 7,
            call: 8,
            handle: 9,
            time: 10,
            context: 11,
            a: 12,
            b: u64::MAX,
            c: 14,
            d: 15,
        };
        // SAFETY: `Record` is `repr(C)` without padding and 64 bytes long.
        let memory: [u8; RECORD_SIZE] = unsafe { std::mem::transmute(record) };
        assert_eq!(record.to_bytes(), memory);
        assert_eq!(Record::from_bytes(&memory), Some(record));
        assert_eq!(Record::from_bytes(&memory[1..]), None);
    }
}
