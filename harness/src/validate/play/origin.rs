//! Where wrong bytes come from: of which request of the case they are, as far as the bytes tell.

use layers_trace::Operation;

use super::disk_model::pattern;

/// A request that has changed the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::validate) struct Change {
    /// Write, zero or trim.
    pub(in crate::validate) operation: Operation,
    /// Its first byte.
    pub(in crate::validate) offset: u64,
    /// How many.
    pub(in crate::validate) count: u64,
    /// The pattern of a write.
    pub(in crate::validate) data: u64,
}

/// What the bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::validate) enum Origin {
    /// They were written at this place, and not where they are read.
    Elsewhere(u64, Change),
    /// They are what was there before this request, which should have changed them.
    Unchanged(Change),
    /// They are zeroes, and this request has zeroed others near them since they were written.
    Overrun(Change),
}

/// Bytes that are compared.
const NEEDLE: usize = 16;
/// Fewer may be the same by chance.
const LEAST: usize = 4;
/// Bytes on either side of a place that are searched of one write.
const REACH: u64 = 256 << 10;
/// Changes that are looked at, the last ones first.
const MOST: usize = 64;

impl Origin {
    /// Of the bytes that were read from `at` on, after these changes.
    pub(in crate::validate) fn of(changes: &[Change], at: u64, bytes: &[u8]) -> Option<Origin> {
        let needle = bytes.get(..bytes.len().min(NEEDLE)).filter(|needle| needle.len() >= LEAST)?;
        let recent = || changes.iter().rev().take(MOST).copied();
        let last = recent().find(|change| change.covers(at));
        if needle.iter().all(|byte| *byte == 0) {
            let since = recent().take_while(|change| !change.covers(at));
            let zeroes = since.filter(|change| change.operation != Operation::Write);
            return zeroes.min_by_key(|change| change.distance(at)).map(Origin::Overrun);
        }
        let writes = || recent().filter(|change| change.operation == Operation::Write);
        if let Some(before) = writes().find(|change| change.covers(at) && change.holds(at, needle)) {
            // What the last one has written there is right: then the difference is another one.
            return last.filter(|last| *last != before).map(Origin::Unchanged);
        }
        writes().find_map(|change| change.find(at, needle).map(|place| Origin::Elsewhere(place, change)))
    }

    /// The request that the finding must show.
    pub(in crate::validate) fn guilty(self) -> Change {
        match self {
            Origin::Elsewhere(_, change) | Origin::Unchanged(change) | Origin::Overrun(change) => change,
        }
    }

    /// In words, after "byte N reads as".
    pub(in crate::validate) fn words(self, at: u64) -> String {
        let kind = |change: Change| match change.operation {
            Operation::Write => "write",
            Operation::Zero => "zero",
            _ => "trim",
        };
        match self {
            Origin::Elsewhere(place, _) => format!("byte {at} holds what was written at {place}"),
            Origin::Unchanged(change) => {
                let Change { offset, count, .. } = change;
                let kind = kind(change);
                format!("byte {at} holds what was there before the {kind} of {count} bytes at {offset}")
            }
            Origin::Overrun(change) => {
                let Change { offset, count, .. } = change;
                let kind = kind(change);
                format!(
                    "the {kind} of {count} bytes at {offset} came after its write, and is not of this byte"
                )
            }
        }
    }
}

impl Change {
    fn end(self) -> u64 {
        self.offset.saturating_add(self.count)
    }

    fn covers(self, at: u64) -> bool {
        self.offset <= at && at < self.end()
    }

    fn distance(self, at: u64) -> u64 {
        self.offset.saturating_sub(at).max(at.saturating_sub(self.end()))
    }

    /// The pattern of the write is this one at this place, as far as the write goes.
    fn holds(self, at: u64, needle: &[u8]) -> bool {
        let count = usize::try_from(self.end().saturating_sub(at)).unwrap_or(usize::MAX).min(needle.len());
        needle.get(..count) == Some(pattern(self.data, at, count).as_slice())
    }

    /// Where the write has put these bytes: the place nearest to `at`.
    fn find(self, at: u64, needle: &[u8]) -> Option<u64> {
        // Of a long write only the part near the place, and its beginning.
        let near = at.saturating_sub(REACH).clamp(self.offset, self.end());
        [near, self.offset].into_iter().find_map(|from| {
            let count = (self.end() - from).min(2 * REACH);
            let bytes = pattern(self.data, from, usize::try_from(count).unwrap_or(0));
            let places = bytes.windows(needle.len()).enumerate().filter(|(_, window)| *window == needle);
            places.map(|(index, _)| from + index as u64).min_by_key(|place| place.abs_diff(at))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(operation: Operation, offset: u64, count: u64, data: u64) -> Change {
        Change { operation, offset, count, data }
    }

    #[test]
    fn bytes_of_another_place_are_known_by_their_pattern() {
        let changes = [change(Operation::Write, 0, 512, 7), change(Operation::Write, 4096, 9000, 8)];
        let origin = Origin::of(&changes, 0, &pattern(8, 4099, 512)).unwrap();
        assert_eq!(origin, Origin::Elsewhere(4099, changes[1]));
        assert_eq!(origin.words(0), "byte 0 holds what was written at 4099");
        assert_eq!(Origin::of(&changes, 0, &[1; 512]), None);
        assert_eq!(Origin::of(&changes, 0, &pattern(8, 4099, 3)), None, "three bytes may be chance");
    }

    #[test]
    fn a_request_that_changes_nothing_is_named() {
        let write = change(Operation::Write, 0, 512, 7);
        let zero = change(Operation::Zero, 100, 200, 0);
        let origin = Origin::of(&[write, zero], 100, &pattern(7, 100, 200)).unwrap();
        assert_eq!(origin, Origin::Unchanged(zero));
        assert_eq!(origin.words(100), "byte 100 holds what was there before the zero of 200 bytes at 100");
    }

    #[test]
    fn zeroes_beyond_its_end_are_put_down_to_the_zero_that_came_last() {
        let (write, zero) = (change(Operation::Write, 0, 4096, 7), change(Operation::Zero, 512, 512, 0));
        assert_eq!(Origin::of(&[write, zero], 1024, &[0; 16]), Some(Origin::Overrun(zero)));
        // One that came before the write has nothing to do with it.
        assert_eq!(Origin::of(&[zero, write], 1024, &[0; 16]), None);
    }
}
