//! Digests of buffers, and lists of extents: what a record says of data that it does not carry.
//!
//! Instruments make a digest of each buffer that the server passes to a data callback, and the harness's clients one of what
//! they send and get, so that a judge can compare the two ends. The digest tells buffers apart that a faulty server mixes up,
//! cuts or shifts; it is no protection against somebody who wants two buffers to have the same one.

/// No digest was made.
pub const NONE: u64 = 0;
/// Digest of any number of bytes that are all zero.
pub const ZEROES: u64 = 1;
/// In traces without digests: some byte is not zero.
pub const NOT_ZEROES: u64 = 2;

/// Bytes taken in one step: a pair of words for each of four lanes, so that their multiplications overlap.
const STEP: usize = 64;
/// Odd constants with as many bits set as not, one for each lane.
const SECRETS: [u64; 4] =
    [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3];

/// Returns the digest of `bytes`: [`ZEROES`] where all are zero or there is none, else a hash of the bytes and their number
/// that is larger than [`NOT_ZEROES`].
///
/// Each lane folds a pair of words at a time: it multiplies them, mixed with what came before, to 128 bits, and adds the
/// halves by exclusive or.
pub fn digest(bytes: &[u8]) -> u64 {
    if is_all_zero(bytes) {
        return ZEROES;
    }
    // Other values than those that the second word of each pair is mixed with: the words of a pair may not change places.
    let mut lanes = SECRETS.map(|secret| secret.rotate_left(32));
    let (steps, rest) = bytes.as_chunks::<STEP>();
    for step in steps {
        mix(&mut lanes, step);
    }
    if !rest.is_empty() {
        let mut last = [0; STEP];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        mix(&mut lanes, &last);
    }
    let [first, second, third, fourth] = lanes;
    let halves = fold(first ^ third.rotate_left(17), second ^ fourth.rotate_left(43));
    let hash = fold(halves ^ bytes.len() as u64, SECRETS[0]);
    if hash > NOT_ZEROES { hash } else { !hash }
}

#[inline]
fn mix(lanes: &mut [u64; 4], step: &[u8; STEP]) {
    let (words, _) = step.as_chunks::<8>();
    let (pairs, _) = words.as_chunks::<2>();
    for ((lane, [one, other]), secret) in lanes.iter_mut().zip(pairs).zip(SECRETS) {
        *lane = fold(u64::from_le_bytes(*one) ^ *lane, u64::from_le_bytes(*other) ^ secret)
            ^ lane.rotate_left(29);
    }
}

#[inline]
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}

/// Returns whether none of these bytes is another than zero.
pub fn is_all_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    // Whole blocks, so that the compiler can take many words at once, and the first other byte ends it soon.
    let blank = |block: &[[u8; 8]]| block.iter().fold(0, |seen, word| seen | u64::from_ne_bytes(*word)) == 0;
    words.chunks(64).all(blank) && rest.iter().all(|byte| *byte == 0)
}

/// One extent: how many bytes, and of which type (the bits of NBDKIT_EXTENT_*, or of NBD_STATE_*, which are the same).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes.
    pub length: u64,
    /// Bit 0: hole, bit 1: reads as zeroes.
    pub kind: u32,
}

/// Bytes that one extent takes in a text.
pub const EXTENT_SIZE: usize = 12;
/// Most extents that a writer puts into one text.
pub const MOST_EXTENTS: usize = 512;

impl Extent {
    /// Its bytes in a text: the length, then the type, both little-endian.
    pub fn to_bytes(self) -> [u8; EXTENT_SIZE] {
        let mut bytes = [0; EXTENT_SIZE];
        let value = self.length.to_le_bytes().into_iter().chain(self.kind.to_le_bytes());
        bytes.iter_mut().zip(value).for_each(|(to, from)| *to = from);
        bytes
    }

    /// Those in this text; what is no whole extent at its end is left out.
    pub fn list(text: &[u8]) -> impl Iterator<Item = Extent> {
        let (extents, _) = text.as_chunks::<EXTENT_SIZE>();
        extents.iter().filter_map(|bytes| {
            let (length, kind) = bytes.split_first_chunk()?;
            let kind = u32::from_le_bytes(*kind.first_chunk()?);
            Some(Extent { length: u64::from_le_bytes(*length), kind })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn pattern(length: usize) -> Vec<u8> {
        (0..length as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 | 1).collect()
    }

    #[test]
    fn zeroes_have_one_digest_whatever_their_number() {
        for length in [0, 1, 7, 8, 63, 64, 65, 512, 513, 4096, 100_001] {
            assert_eq!(digest(&vec![0; length]), ZEROES, "{length}");
        }
    }

    #[test]
    fn every_byte_counts() {
        for length in [1, 7, 8, 63, 64, 65, 128, 511, 513, 4096] {
            let good = pattern(length);
            let mut digests = BTreeSet::from([digest(&good)]);
            for place in 0..length {
                let mut wrong = good.clone();
                wrong[place] ^= 0x10;
                assert!(digests.insert(digest(&wrong)), "byte {place} of {length}");
            }
            assert!(digests.iter().all(|digest| *digest > NOT_ZEROES));
        }
    }

    #[test]
    fn a_single_byte_other_than_zero_shows_wherever_it_is() {
        let mut digests = BTreeSet::new();
        for place in 0..4097 {
            let mut bytes = vec![0; 4097];
            bytes[place] = 1;
            assert!(!is_all_zero(&bytes), "byte {place}");
            assert!(digests.insert(digest(&bytes)), "byte {place}");
        }
    }

    #[test]
    fn order_and_length_count() {
        let bytes = pattern(8192);
        let mut digests = BTreeSet::new();
        for shift in 0..256 {
            assert!(digests.insert(digest(&bytes[shift..4096 + shift])), "shifted by {shift}");
            assert!(digests.insert(digest(&bytes[..4097 + shift])), "longer by {shift}");
        }
        // Zeroes at the end are bytes, too; and so is where a whole step stands.
        let mut longer = bytes[..100].to_vec();
        longer.push(0);
        assert!(digests.insert(digest(&bytes[..100])) && digests.insert(digest(&longer)));
        let swapped = [&bytes[64..128], &bytes[..64]].concat();
        assert_ne!(digest(&swapped), digest(&bytes[..128]));
    }

    #[test]
    fn the_digest_of_a_buffer_never_changes() {
        assert_eq!(digest(b"layers"), 10_706_201_156_207_923_599);
        assert_eq!(digest(&pattern(1000)), 17_826_114_698_666_207_101);
    }

    #[test]
    fn extents_are_written_and_read() {
        let extents = [Extent { length: 4096, kind: 0 }, Extent { length: u64::MAX, kind: 3 }];
        let mut text: Vec<u8> = extents.iter().flat_map(|extent| extent.to_bytes()).collect();
        assert_eq!(Extent::list(&text).collect::<Vec<_>>(), extents);
        text.pop();
        assert_eq!(Extent::list(&text).collect::<Vec<_>>(), extents[..1]);
    }
}
