//! How many records a trace has room for, and how a user says so.

use layers_trace::record::RECORD_SIZE;

/// The most that can be asked for, in MiB: an event's position is a number of 32 bits.
pub(crate) const MOST_MIB: u64 = 64 << 10;

/// Returns the number of records for which so many MiB are room.
pub(crate) fn records(mib: u64) -> u64 {
    (mib.min(MOST_MIB) << 20) / RECORD_SIZE as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_of_the_largest_trace_has_a_position() {
        assert_eq!(records(1), 16_384);
        assert!(records(u64::MAX) <= u64::from(u32::MAX) + 1);
    }
}
