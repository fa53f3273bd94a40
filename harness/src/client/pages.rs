//! Memory for the data of large requests.

/// From here on memory comes in large pages, where the system has any: of small ones each costs more than what is read into it.
const LARGE: usize = 8 << 20;
/// The address that the system is told of is a multiple of it.
const PAGE: usize = 4096;

/// Returns so many bytes that are zero.
pub(crate) fn zeroed(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    if length >= LARGE {
        let skip = bytes.as_ptr().align_offset(PAGE);
        if let Some(whole) = bytes.get_mut(skip..).filter(|whole| whole.len() >= PAGE) {
            // SAFETY: these bytes are this vector's, and what they hold does not change by it. Without large pages it fails,
            // and nothing has happened.
            unsafe {
                libc::madvise(whole.as_mut_ptr().cast(), whole.len(), libc::MADV_HUGEPAGE);
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_ones_are_zero_and_can_be_written_to_as_small_ones_are() {
        for length in [0, 1, LARGE - 1, LARGE, LARGE + 4097] {
            let mut bytes = zeroed(length);
            assert_eq!((bytes.len(), bytes.iter().all(|byte| *byte == 0)), (length, true));
            bytes.fill(7);
            assert!(bytes.iter().all(|byte| *byte == 7));
        }
    }
}
