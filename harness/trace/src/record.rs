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

impl Record {
    /// The record in these bytes; `None` unless there are exactly [`RECORD_SIZE`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Record> {
        let bytes: &[u8; RECORD_SIZE] = bytes.try_into().ok()?;
        let (words, _) = bytes.as_chunks::<4>();
        let word = |n: usize| words.get(n).map_or(0, |w| u32::from_le_bytes(*w));
        let long = |n: usize| u64::from(word(n)) | u64::from(word(n + 1)) << 32;
        let [kind, layer, callback, texts] = word(1).to_le_bytes();
        Some(Record {
            epoch: word(0),
            kind,
            layer,
            callback,
            texts,
            tid: word(2),
            pid: word(3),
            call: word(4),
            handle: word(5),
            time: long(6),
            context: long(8),
            a: long(10),
            b: long(12),
            c: word(14),
            d: word(15),
        })
    }

    /// The bytes of this record.
    pub fn to_bytes(self) -> [u8; RECORD_SIZE] {
        let mut bytes = [0; RECORD_SIZE];
        let longs = [self.time, self.context, self.a, self.b];
        let small = [self.kind, self.layer, self.callback, self.texts];
        let parts = [
            &self.epoch.to_le_bytes()[..],
            &small,
            &self.tid.to_le_bytes(),
            &self.pid.to_le_bytes(),
            &self.call.to_le_bytes(),
            &self.handle.to_le_bytes(),
        ];
        let longs = longs.map(u64::to_le_bytes);
        let tail = [self.c.to_le_bytes(), self.d.to_le_bytes()];
        let all = parts.into_iter().chain(longs.iter().map(|l| &l[..])).chain(tail.iter().map(|t| &t[..]));
        for (to, from) in bytes.iter_mut().zip(all.flatten()) {
            *to = *from;
        }
        bytes
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
