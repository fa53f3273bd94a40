//! The model: what is known of every byte of the disk, without holding the bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::client::pages::zeroed;

/// What a run of bytes holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    /// Zeroes.
    Zero,
    /// The pattern with this number.
    Pattern(u64),
    /// These bytes, which were read; the first one is at this offset.
    Read(Arc<[u8]>, u64),
}

/// A disk of which some bytes are known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    /// By first offset: end, and content. They do not overlap; what lies between them is unknown.
    runs: BTreeMap<u64, (u64, Content)>,
}

/// The first byte that is not as the model says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Where.
    pub offset: u64,
    /// What must be there.
    pub expected: u8,
    /// What was read.
    pub actual: u8,
    /// That it must be there is known from a read alone.
    pub learnt: bool,
}

/// The bytes of a pattern at an offset: they tell one pattern from another and one place from another.
pub(crate) fn pattern(number: u64, offset: u64, count: usize) -> Vec<u8> {
    let mut bytes = zeroed(count);
    fill(number, offset, &mut bytes);
    bytes
}

fn fill(number: u64, offset: u64, bytes: &mut [u8]) {
    let before = ((8 - offset % 8) % 8).min(bytes.len() as u64) as usize;
    let (head, rest) = bytes.split_at_mut(before);
    let first = mixed(number, offset / 8).to_le_bytes();
    for (to, from) in head.iter_mut().zip(first.iter().skip((offset % 8) as usize)) {
        *to = *from;
    }
    // Whole words, and what is left of the last one.
    let mut word = (offset + before as u64) / 8;
    let (whole, rest) = rest.as_chunks_mut();
    for part in whole {
        *part = mixed(number, word).to_le_bytes();
        word += 1;
    }
    let last = mixed(number, word).to_le_bytes();
    rest.copy_from_slice(last.get(..rest.len()).unwrap_or_default());
}

/// Eight bytes, none of them zero: a hole must not look like data.
fn mixed(number: u64, word: u64) -> u64 {
    // The finishing step of splitmix64.
    let mut x = word.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x632b_e59b);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ x >> 31) | 0x0101_0101_0101_0101
}

impl Disk {
    /// A pattern was written there.
    pub(crate) fn write(&mut self, offset: u64, count: u64, pattern: u64) {
        self.put(offset, count, Content::Pattern(pattern));
    }

    /// It reads as zeroes there.
    pub(crate) fn zero(&mut self, offset: u64, count: u64) {
        self.put(offset, count, Content::Zero);
    }

    /// Anything may be there.
    pub(crate) fn forget(&mut self, offset: u64, count: u64) {
        let end = offset.saturating_add(count);
        let keys: Vec<u64> = self
            .runs
            .range(..end)
            .rev()
            .take_while(|(_, (to, _))| *to > offset)
            .map(|(from, _)| *from)
            .collect();
        for from in keys {
            let Some((to, content)) = self.runs.remove(&from) else { continue };
            if to > end {
                self.runs.insert(end, (to, content.clone()));
            }
            if from < offset {
                self.runs.insert(from, (offset, content));
            }
        }
    }

    fn put(&mut self, offset: u64, count: u64, content: Content) {
        self.forget(offset, count);
        if count > 0 {
            self.runs.insert(offset, (offset.saturating_add(count), content));
        }
    }

    /// Compares what was read with what is known, and says of how many bytes anything was; what was not known is from
    /// now on.
    pub(crate) fn read(&mut self, offset: u64, bytes: &[u8]) -> Result<u64, Difference> {
        let end = offset + bytes.len() as u64;
        let mut known = 0;
        for (from, to, content) in self.overlapping(offset, end) {
            known += to - from;
            let actual = bytes.get((from - offset) as usize..(to - offset) as usize).unwrap_or_default();
            if let Some(difference) = differs(&content, from, actual) {
                return Err(difference);
            }
        }
        if known < bytes.len() as u64 {
            self.learn(offset, bytes);
        }
        Ok(known)
    }

    /// These bytes are there, whatever was known of them.
    pub(crate) fn relearn(&mut self, offset: u64, bytes: &[u8]) {
        self.forget(offset, bytes.len() as u64);
        self.learn(offset, bytes);
    }

    /// The first byte of this range that is known not to be zero.
    pub(crate) fn first_nonzero(&self, offset: u64, count: u64) -> Option<u64> {
        self.overlapping(offset, offset.saturating_add(count)).into_iter().find_map(|(from, to, content)| {
            match content {
                Content::Zero => None,
                Content::Pattern(_) => Some(from),
                Content::Read(bytes, start) => {
                    let part = bytes.get((from - start) as usize..(to - start) as usize).unwrap_or_default();
                    first_nonzero(part).map(|at| from + at as u64)
                }
            }
        })
    }

    /// Takes over what the other disk knows.
    pub(crate) fn take_from(&mut self, other: &Disk) {
        self.clone_from(other);
    }

    fn overlapping(&self, offset: u64, end: u64) -> Vec<(u64, u64, Content)> {
        let mut runs: Vec<_> = self
            .runs
            .range(..end)
            .rev()
            .take_while(|(_, (to, _))| *to > offset)
            .map(|(from, (to, content))| ((*from).max(offset), (*to).min(end), content.clone()))
            .collect();
        runs.reverse();
        runs
    }

    fn learn(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        let shared: Arc<[u8]> = bytes.into();
        let mut at = offset;
        for (from, to, _) in self.overlapping(offset, end).into_iter().chain([(end, end, Content::Zero)]) {
            if at < from {
                self.runs.insert(at, (from, Content::Read(Arc::clone(&shared), offset)));
            }
            at = to;
        }
    }
}

fn first_nonzero(bytes: &[u8]) -> Option<usize> {
    const ZEROES: [u8; 4096] = [0; 4096];
    // A block at a time, as long as they are all zero.
    let is_zero = |block: &[u8]| ZEROES.get(..block.len()) == Some(block);
    let skip = bytes.chunks(ZEROES.len()).take_while(|block| is_zero(block)).count() * ZEROES.len();
    let rest = bytes.get(skip..).unwrap_or_default();
    rest.iter().position(|byte| *byte != 0).map(|at| skip + at)
}

fn differs(content: &Content, offset: u64, actual: &[u8]) -> Option<Difference> {
    let first = |expected: &[u8]| {
        // Nearly always they are the same, and that is told faster of all of them at once.
        if expected == actual {
            return None;
        }
        let at = expected.iter().zip(actual).position(|(one, other)| one != other)?;
        Some(Difference {
            offset: offset + at as u64,
            expected: expected.get(at).copied().unwrap_or_default(),
            actual: actual.get(at).copied().unwrap_or_default(),
            learnt: matches!(content, Content::Read(..)),
        })
    };
    match content {
        Content::Zero => {
            let at = first_nonzero(actual)?;
            let actual = actual.get(at).copied().unwrap_or_default();
            Some(Difference { offset: offset + at as u64, expected: 0, actual, learnt: false })
        }
        Content::Pattern(number) => first(&pattern(*number, offset, actual.len())),
        Content::Read(bytes, start) => {
            let from = (offset - start) as usize;
            first(bytes.get(from..from + actual.len()).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_write_wins_and_neighbours_are_kept() {
        let mut disk = Disk::default();
        disk.write(0, 100, 1);
        disk.write(40, 20, 2);
        disk.zero(50, 5);
        let mut bytes = pattern(1, 0, 100);
        bytes[40..60].copy_from_slice(&pattern(2, 40, 20));
        bytes[50..55].fill(0);
        assert_eq!(disk.read(0, &bytes), Ok(100));
        assert_eq!(disk.read(45, &bytes[45..70]), Ok(25));
        bytes[99] ^= 0x10;
        assert_eq!(disk.read(0, &bytes).unwrap_err().offset, 99);
        bytes[50] = 7;
        assert_eq!(
            disk.read(0, &bytes),
            Err(Difference { offset: 50, expected: 0, actual: 7, learnt: false })
        );
    }

    #[test]
    fn what_was_read_once_must_be_read_again() {
        let mut disk = Disk::default();
        disk.write(10, 5, 1);
        let mut bytes = vec![9; 30];
        bytes[10..15].copy_from_slice(&pattern(1, 10, 5));
        assert_eq!(disk.read(0, &bytes), Ok(5));
        assert_eq!(disk.read(20, &[9; 10]), Ok(10));
        let differs = Difference { offset: 21, expected: 9, actual: 8, learnt: true };
        assert_eq!(disk.read(20, &[9, 8]), Err(differs));
        disk.forget(20, 10);
        assert_eq!(disk.read(20, &[9, 8]), Ok(0));
    }

    #[test]
    fn only_bytes_that_are_known_count_as_nonzero() {
        let mut disk = Disk::default();
        assert_eq!(disk.first_nonzero(0, 100), None);
        disk.zero(0, 50);
        disk.write(50, 10, 1);
        assert_eq!(disk.first_nonzero(0, 100), Some(50));
        assert_eq!(disk.first_nonzero(0, 50), None);
    }

    #[test]
    fn a_byte_is_found_behind_blocks_of_zeroes() {
        for size in [0, 1, 4095, 4096, 4097, 10_000] {
            assert_eq!(first_nonzero(&vec![0; size]), None);
            for at in [0, 1, 4095, 4096, 9999].into_iter().filter(|at| *at < size) {
                let mut bytes = vec![0; size];
                bytes[at] = 1;
                assert_eq!(first_nonzero(&bytes), Some(at));
            }
        }
    }

    #[test]
    fn a_pattern_is_the_same_whichever_part_of_it_is_asked_for() {
        let all = pattern(3, 0, 100);
        for from in 0..30 {
            for count in 0..40 {
                assert_eq!(pattern(3, from as u64, count), all[from..from + count]);
            }
        }
    }

    #[test]
    fn patterns_have_no_zero_byte_and_do_not_repeat() {
        let one = pattern(1, 4093, 64);
        assert!(one.iter().all(|byte| *byte != 0));
        assert_eq!(one[3..], pattern(1, 4096, 61));
        assert_ne!(one, pattern(2, 4093, 64));
    }
}
