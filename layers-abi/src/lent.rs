//! A buffer of the instrument's own in place of the caller's, so that it shows what the target did to it.
//!
//! The buffer of a read is full of bytes that differ from call to call: those that are still there when the call has
//! succeeded were never read. The buffer of a write is a copy, which must not change. Around both lie known bytes, and
//! around those memory that cannot be touched at all. Only `layers validate` asks for that
//! ([`LENDS_VARIABLE`]): everywhere else the target gets the buffer of the caller.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use layers_behaviour::LENDS_VARIABLE;
use layers_trace::lent::{LEAST_KEPT, Seen};

/// Known bytes on either side of a buffer.
const MARGIN: usize = 512;
/// What malloc and the server align buffers to, and a target may have come to rely on.
const ALIGNMENT: usize = 16;
const PAGE: usize = 4096;
/// Bytes of an area that is kept for the next call; larger ones are mapped for one call alone.
const KEPT: usize = 256 << 10;
/// Areas that are kept.
const AREAS: usize = 64;

/// Whether targets get buffers of the instrument's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lends {
    /// They get the caller's.
    #[default]
    Nothing,
    /// Between known bytes.
    Bytes,
    /// Next to memory that cannot be touched: behind one call's buffer, before the next one's.
    Pages,
}

impl Lends {
    /// What the environment asks for.
    pub fn asked_for() -> Lends {
        match std::env::var(LENDS_VARIABLE).as_deref() {
            Ok("bytes") => Lends::Bytes,
            Ok("pages") => Lends::Pages,
            _ => Lends::Nothing,
        }
    }
}

/// A buffer that a target has for the time of one call.
#[derive(Debug)]
pub struct Lent {
    area: Area,
    /// Of the buffer in the area.
    start: usize,
    count: usize,
    key: u64,
    /// Of the bytes of a write, before the call.
    sum: u64,
}

impl Lent {
    /// A buffer to be read into, full of bytes that no disk holds but by chance. `None` when there is no memory.
    pub fn to_read_into(lends: Lends, count: usize) -> Option<Lent> {
        let mut lent = Lent::new(lends, count, 0)?;
        let key = lent.key;
        let (_, bytes, _) = lent.parts();
        for (at, chunk) in bytes.chunks_mut(8).enumerate() {
            for (byte, filler) in chunk.iter_mut().zip(filler(key, at as u64).to_ne_bytes()) {
                *byte = filler;
            }
        }
        Some(lent)
    }

    /// A copy of these bytes.
    pub fn copy_of(lends: Lends, bytes: &[u8]) -> Option<Lent> {
        let mut lent = Lent::new(lends, bytes.len(), 2)?;
        lent.parts().1.copy_from_slice(bytes);
        lent.sum = sum(bytes);
        Some(lent)
    }

    /// `kind` tells reads from writes: of either, those that can end with a page do so every other time.
    fn new(lends: Lends, count: usize, kind: usize) -> Option<Lent> {
        static CALLS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
        let kind = kind + usize::from(count.is_multiple_of(ALIGNMENT));
        let call = CALLS.get(kind)?.fetch_add(1, Ordering::Relaxed);
        let area = Area::take(count.checked_add(2 * MARGIN + ALIGNMENT)?)?;
        let start = match lends {
            Lends::Pages if call.is_multiple_of(2) => (area.length - count) / ALIGNMENT * ALIGNMENT,
            Lends::Pages => 0,
            _ => MARGIN,
        };
        let call = call << 2 | kind as u64;
        let mut lent = Lent { area, start, count, key: mix(call ^ process_salt()), sum: 0 };
        let key = lent.key;
        let (before, _, behind) = lent.parts();
        before.iter_mut().enumerate().for_each(|(at, byte)| *byte = guard(key, at));
        behind.iter_mut().enumerate().for_each(|(at, byte)| *byte = guard(!key, at));
        Some(lent)
    }

    /// Where it is.
    pub fn pointer(&mut self) -> *mut u8 {
        self.parts().1.as_mut_ptr()
    }

    /// Its bytes, with the known ones before and behind.
    fn parts(&mut self) -> (&mut [u8], &mut [u8], &mut [u8]) {
        // SAFETY: the area is mapped, as long as it says, and this call's alone.
        let all = unsafe { std::slice::from_raw_parts_mut(self.area.base.as_ptr(), self.area.length) };
        let (before, rest) = all.split_at_mut(self.start.min(all.len()));
        let (bytes, behind) = rest.split_at_mut(self.count.min(rest.len()));
        let first = before.len().saturating_sub(MARGIN);
        let last = behind.len().min(MARGIN);
        (before.split_at_mut(first).1, bytes, behind.split_at_mut(last).0)
    }

    /// What a read left of it; these bytes, which are the caller's, become what was read.
    pub fn was_read_into(mut self, to: &mut [u8]) -> Seen {
        let key = self.key;
        let (_, bytes, _) = self.parts();
        let mut seen = kept(bytes, key);
        if let Some(to) = to.get_mut(..bytes.len()) {
            to.copy_from_slice(bytes);
        }
        seen.outside = self.outside();
        seen
    }

    /// What a write, whose bytes are the caller's, did to it.
    pub fn was_written_from(mut self, from: &[u8]) -> Seen {
        let before = self.sum;
        let (_, bytes, _) = self.parts();
        let mut seen = Seen::default();
        if sum(bytes) != before {
            let differs = |(one, other): (&u8, &u8)| one != other;
            let first = bytes.iter().zip(from).position(differs).unwrap_or(0);
            let last = bytes.iter().zip(from).rposition(differs).unwrap_or(first);
            (seen.start, seen.length) = (first as u32, (last - first + 1) as u32);
        }
        seen.outside = self.outside();
        seen
    }

    /// What a call that has failed did around it.
    pub fn was_of_no_use(mut self) -> Seen {
        Seen { outside: self.outside(), ..Seen::default() }
    }

    /// The nearest changed byte outside: how many bytes before the buffer (negative), or behind it.
    fn outside(&mut self) -> i32 {
        let key = self.key;
        let (before, _, behind) = self.parts();
        let changed = |key: u64| move |(at, byte): (usize, &u8)| *byte != guard(key, at);
        let length = before.len();
        if let Some(at) = behind.iter().enumerate().position(changed(!key)) {
            return at as i32 + 1;
        }
        before.iter().enumerate().rposition(changed(key)).map_or(0, |at| at as i32 - length as i32)
    }
}

/// What is left of the filling.
fn kept(bytes: &[u8], key: u64) -> Seen {
    let is_kept = |at: usize| {
        let filler = filler(key, at as u64 / 8).to_ne_bytes();
        bytes.get(at).is_some_and(|byte| filler.get(at % 8) == Some(byte))
    };
    let count = bytes.len();
    let head = (0..count.min(255)).take_while(|at| is_kept(*at)).count();
    let tail = (0..count.min(255)).take_while(|back| is_kept(count - 1 - back)).count();
    let mut seen = Seen { head: head as u16, tail: tail as u16, ..Seen::default() };
    // A stretch of 15 bytes has a whole word in it; shorter ones are seen at the ends alone.
    let mut longest = 0..0;
    let mut at = 0;
    for (word, chunk) in bytes.chunks_exact(8).enumerate() {
        if word * 8 < at || filler(key, word as u64).to_ne_bytes() != *chunk {
            continue;
        }
        let first = (0..word * 8).rev().take_while(|at| is_kept(*at)).last().unwrap_or(word * 8);
        let end = (word * 8..count).take_while(|at| is_kept(*at)).last().map_or(count, |last| last + 1);
        at = end;
        if end - first > longest.len() {
            longest = first..end;
        }
    }
    if head >= LEAST_KEPT && head > longest.len() {
        longest = 0..head;
    }
    if tail >= LEAST_KEPT && tail > longest.len() {
        longest = count - tail..count;
    }
    (seen.start, seen.length) = (longest.start as u32, longest.len() as u32);
    seen
}

/// Eight bytes of the filling.
#[inline]
fn filler(key: u64, word: u64) -> u64 {
    let product = key.wrapping_add(word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 29)
}

/// A byte outside.
fn guard(key: u64, at: usize) -> u8 {
    filler(key, at as u64).to_ne_bytes()[7]
}

/// Spreads the bits of a number over all of it.
fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Two images in one process, and two processes, fill differently.
fn process_salt() -> u64 {
    static HERE: u8 = 0;
    (&raw const HERE).addr() as u64 ^ u64::from(std::process::id()) << 40
}

/// A number that changes with any byte.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let add = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    let whole = words.iter().fold(0, |sum, word| add(sum, u64::from_ne_bytes(*word)));
    rest.iter().fold(whole, |sum, byte| add(sum, u64::from(*byte) | 1 << 8))
}

/// From here on memory comes in large pages, where the system has any.
const LARGE: usize = 8 << 20;

/// Memory between two pages that cannot be touched.
#[derive(Debug)]
struct Area {
    base: NonNull<u8>,
    length: usize,
    /// LentString, at this place.
    place: Option<usize>,
}

/// One that is kept: claimed by whoever sets `taken`.
struct Place {
    taken: AtomicBool,
    base: AtomicPtr<u8>,
}

static PLACES: [Place; AREAS] =
    [const { Place { taken: AtomicBool::new(false), base: AtomicPtr::new(std::ptr::null_mut()) } }; AREAS];

impl Area {
    fn take(length: usize) -> Option<Area> {
        if length > KEPT {
            let length = length.checked_next_multiple_of(PAGE)?;
            return Some(Area { base: map(length)?, length, place: None });
        }
        for (index, place) in PLACES.iter().enumerate() {
            if place.taken.swap(true, Ordering::Acquire) {
                continue;
            }
            let base = NonNull::new(place.base.load(Ordering::Relaxed)).or_else(|| map(KEPT));
            let Some(base) = base else {
                place.taken.store(false, Ordering::Release);
                return None;
            };
            place.base.store(base.as_ptr(), Ordering::Relaxed);
            return Some(Area { base, length: KEPT, place: Some(index) });
        }
        Some(Area { base: map(KEPT)?, length: KEPT, place: None })
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        match self.place.and_then(|index| PLACES.get(index)) {
            Some(place) => place.taken.store(false, Ordering::Release),
            // SAFETY: what `map` has mapped, with its pages on either side, which nobody uses any more.
            None => unsafe {
                libc::munmap(self.base.as_ptr().sub(PAGE).cast(), self.length + 2 * PAGE);
            },
        }
    }
}

/// Maps so many bytes, a multiple of a page, between two pages that cannot be touched.
fn map(length: usize) -> Option<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping, placed by the kernel; its inner part becomes writable, and is given out once.
    unsafe {
        let whole = libc::mmap(std::ptr::null_mut(), length + 2 * PAGE, libc::PROT_NONE, flags, -1, 0);
        if whole == libc::MAP_FAILED {
            return None;
        }
        let inner = whole.cast::<u8>().add(PAGE);
        if libc::mprotect(inner.cast(), length, libc::PROT_READ | libc::PROT_WRITE) != 0 {
            libc::munmap(whole, length + 2 * PAGE);
            return None;
        }
        if length >= LARGE {
            // Where there are no large pages it fails, and nothing has happened.
            libc::madvise(inner.cast(), length, libc::MADV_HUGEPAGE);
        }
        NonNull::new(inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(count: usize, target: impl FnOnce(&mut [u8])) -> Seen {
        let mut lent = Lent::to_read_into(Lends::Bytes, count).unwrap();
        target(lent.parts().1);
        let mut to = vec![0; count];
        lent.was_read_into(&mut to)
    }

    #[test]
    fn what_is_filled_keeps_nothing() {
        for count in [1, 7, 8, 512, 4099, 1 << 20] {
            let seen = read(count, |bytes| bytes.fill(7));
            assert_eq!((seen.length, seen.outside), (0, 0), "{count}");
        }
    }

    #[test]
    fn the_longest_stretch_that_is_kept_is_found() {
        assert_eq!((read(4096, |_| ()).start, read(4096, |_| ()).length), (0, 4096));
        let tail = read(4096, |bytes| bytes[..3584].fill(7));
        assert!(tail.start + tail.length == 4096 && tail.length >= 512, "{tail:?}");
        let middle = read(1 << 20, |bytes| {
            bytes[..5001].fill(7);
            bytes[5020..].fill(7);
        });
        assert!(middle.start <= 5001 && middle.start + middle.length >= 5020, "{middle:?}");
        let few = read(3, |_| ());
        assert_eq!((few.head, few.tail, few.length), (3, 3, 0));
    }

    #[test]
    fn what_was_read_reaches_the_caller() {
        let mut lent = Lent::to_read_into(Lends::Pages, 5).unwrap();
        lent.parts().1.copy_from_slice(b"hello");
        let mut to = [0; 5];
        lent.was_read_into(&mut to);
        assert_eq!(&to, b"hello");
    }

    #[test]
    fn a_changed_copy_is_noticed() {
        let bytes: Vec<u8> = (0..4099).map(|at| at as u8).collect();
        let write = |target: &dyn Fn(&mut [u8])| {
            let mut lent = Lent::copy_of(Lends::Bytes, &bytes).unwrap();
            target(lent.parts().1);
            lent.was_written_from(&bytes)
        };
        assert_eq!(write(&|_| ()), Seen::default());
        let last = write(&|copy| copy[4098] ^= 1);
        assert_eq!((last.start, last.length), (4098, 1));
        let two = write(&|copy| (copy[1], copy[9]) = (77, 77));
        assert_eq!((two.start, two.length), (1, 9));
    }

    #[test]
    fn a_byte_outside_is_noticed_on_either_side() {
        let around = |distance: isize| {
            let mut lent = Lent::to_read_into(Lends::Bytes, 512).unwrap();
            // SAFETY: within the margins.
            unsafe {
                let byte = lent.pointer().offset(distance);
                *byte = !*byte;
            }
            lent.was_of_no_use().outside
        };
        assert_eq!((around(512), around(515), around(-1), around(-9)), (1, 4, -1, -9));
        assert_eq!(around(0), 0);
    }

    #[test]
    fn next_to_pages_a_buffer_begins_or_ends_at_one() {
        for _ in 0..4 {
            let mut lent = Lent::to_read_into(Lends::Pages, 512).unwrap();
            let start = lent.pointer().addr();
            assert!(start.is_multiple_of(PAGE) || (start + 512).is_multiple_of(PAGE));
            assert_eq!(start % ALIGNMENT, 0);
        }
    }

    #[test]
    fn more_calls_at_once_than_areas_are_kept_get_their_buffers() {
        let all: Vec<Lent> = (0..AREAS + 3).map(|_| Lent::copy_of(Lends::Bytes, b"x").unwrap()).collect();
        let mut starts: Vec<usize> = all.into_iter().map(|mut lent| lent.pointer().addr()).collect();
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts.len(), AREAS + 3);
    }
}
