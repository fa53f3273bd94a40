//! What an answer has told a client of data: how much of a range, which extents; and what a record says of it.

use layers_trace::Field;
use layers_trace::digest::{Extent, MOST_EXTENTS, digest};
use layers_trace::record::Record;

use super::Command;

/// The parts of a range that the chunks of an answer to a read have told of: offsets and lengths, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Told(Vec<(u64, u64)>);

impl Told {
    /// A chunk tells of these bytes.
    pub(super) fn add(&mut self, offset: u64, length: u64) {
        self.0.push((offset, length));
    }

    /// Returns how many bytes all chunks together have told of.
    fn sent(&self) -> u64 {
        self.0.iter().fold(0, |sum, (_, length)| sum.saturating_add(*length))
    }

    /// Returns how many bytes of this range have been told of.
    fn covered(&self, offset: u64, count: u32) -> u32 {
        let end = offset.saturating_add(count.into());
        let inside = |(at, length): &(u64, u64)| {
            ((*at).clamp(offset, end), at.saturating_add(*length).clamp(offset, end))
        };
        let mut pieces: Vec<_> = self.0.iter().map(inside).collect();
        pieces.sort_unstable();
        let (mut sum, mut done) = (0, offset);
        for (from, to) in pieces {
            sum += to.saturating_sub(from.max(done));
            done = done.max(to);
        }
        u32::try_from(sum).unwrap_or(count)
    }

    /// Returns what the record of a reply says of a read that has brought these bytes.
    pub(super) fn of_read(&self, command: Command, bytes: &[u8], digests: bool) -> Record {
        let covered = self.covered(command.offset, command.count);
        let whole = digests && covered == command.count && bytes.len() == command.count as usize;
        let b = if whole { digest(bytes) } else { 0 };
        Record { b, d: covered, context: self.sent(), ..Record::default() }
    }
}

/// The extents that the chunks of an answer to a block status have told, chunk by chunk: lengths and flags.
#[derive(Debug, Default)]
pub(super) struct Extents(pub(super) Vec<Vec<(u32, u32)>>);

impl Extents {
    /// Returns all of them, in order.
    pub(super) fn all(self) -> Vec<(u32, u32)> {
        self.0.into_iter().flatten().collect()
    }

    /// Returns how many there are.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(Vec::len).sum::<usize>() as u64
    }

    /// Returns a text for each chunk.
    pub(super) fn texts(&self) -> Vec<(Field, Vec<u8>)> {
        let bytes = |chunk: &Vec<(u32, u32)>| {
            let told = chunk.iter().take(MOST_EXTENTS);
            told.flat_map(|(length, kind)| Extent { length: (*length).into(), kind: *kind }.to_bytes())
                .collect()
        };
        self.0.iter().map(|chunk| (Field::Extents, bytes(chunk))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use layers_trace::Operation;

    fn told(chunks: &[(u64, u64)]) -> (u32, u64) {
        let command = Command { operation: Operation::Read, offset: 1000, count: 100, flags: 0 };
        let mut told = Told::default();
        chunks.iter().for_each(|(offset, length)| told.add(*offset, *length));
        let record = told.of_read(command, &[1; 100], true);
        assert_eq!(record.b != 0, record.d == 100);
        (record.d, record.context)
    }

    #[test]
    fn bytes_are_counted_once_and_only_inside_the_range() {
        assert_eq!(told(&[(1000, 100)]), (100, 100));
        assert_eq!(told(&[(1050, 50), (1000, 50)]), (100, 100));
        assert_eq!(told(&[(1000, 50), (1060, 40)]), (90, 90));
        assert_eq!(told(&[(1000, 60), (1050, 50)]), (100, 110));
        assert_eq!(told(&[(1008, 100)]), (92, 100));
        assert_eq!(told(&[(0, 100), (2000, 100)]), (0, 200));
        assert_eq!(told(&[(u64::MAX, 100)]), (0, 100));
        assert_eq!(told(&[]), (0, 0));
    }
}
