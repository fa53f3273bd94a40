//! The reference plugin's disk: anonymous memory that costs only what is written to it.
//!
//! Requests may run in parallel, and clients may let them overlap: then bytes come from either, as on any disk.

use std::ffi::c_int;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use layers_trace::digest::is_all_zero;

/// Unit of extents.
const PAGE: u64 = 4096;
/// More is not mapped, nor what the limits of the process do not allow: a larger disk reads as zeroes behind this, and is full
/// there.
const MOST: u64 = 1 << 44;
const DEFAULT_SIZE: u64 = 1 << 20;

/// A disk.
#[derive(Debug)]
pub(crate) struct Disk {
    size: AtomicU64,
    memory: OnceLock<Option<Memory>>,
}

/// A run of bytes of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) is_hole: bool,
}

#[derive(Debug)]
struct Memory {
    bytes: NonNull<u8>,
    /// One bit for each page, set before the page is first written: an untouched page need not be looked at.
    touched: NonNull<AtomicU64>,
    length: u64,
}

// SAFETY: the bytes are only ever copied in and out, whole; the bits are atomics.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Default for Disk {
    fn default() -> Disk {
        Disk { size: AtomicU64::new(DEFAULT_SIZE), memory: OnceLock::new() }
    }
}

impl Disk {
    /// Bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Before the first request.
    pub(crate) fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Relaxed);
    }

    /// Reads into `buffer`.
    ///
    /// # Safety
    ///
    /// `buffer` has room for `count` bytes.
    pub(crate) unsafe fn read(&self, buffer: *mut u8, count: u32, offset: u64) -> Result<(), c_int> {
        let memory = self.memory().ok_or(libc::ENOMEM)?;
        let inside = memory.inside(offset, count);
        // SAFETY: `inside` bytes from `offset` are mapped, and the buffer has room for all.
        unsafe {
            if inside > 0 {
                std::ptr::copy_nonoverlapping(memory.at(offset), buffer, inside);
            }
            std::ptr::write_bytes(buffer.add(inside), 0, count as usize - inside);
        }
        Ok(())
    }

    /// Writes from `buffer`.
    ///
    /// # Safety
    ///
    /// `buffer` holds `count` bytes.
    pub(crate) unsafe fn write(&self, buffer: *const u8, count: u32, offset: u64) -> Result<(), c_int> {
        let memory = self.memory().ok_or(libc::ENOMEM)?;
        if memory.inside(offset, count) < count as usize {
            return Err(libc::ENOSPC);
        }
        let pages = offset / PAGE..(offset + u64::from(count)).div_ceil(PAGE);
        // SAFETY: the buffer holds `count` bytes.
        let bytes = unsafe { std::slice::from_raw_parts(buffer, count as usize) };
        if is_all_zero(bytes) && !pages.clone().any(|page| memory.is_touched(page)) {
            return Ok(());
        }
        pages.for_each(|page| memory.touch(page));
        // SAFETY: the whole range is mapped.
        unsafe { std::ptr::copy_nonoverlapping(buffer, memory.at(offset), count as usize) };
        Ok(())
    }

    /// Makes a range read as zeroes, and gives whole pages back to the system.
    pub(crate) fn clear(&self, count: u32, offset: u64) -> Result<(), c_int> {
        let memory = self.memory().ok_or(libc::ENOMEM)?;
        let inside = memory.inside(offset, count);
        if inside == 0 {
            return Ok(());
        }
        let end = offset + inside as u64;
        let first = offset.next_multiple_of(PAGE).min(end);
        let last = (end / PAGE * PAGE).max(first);
        for (from, to) in [(offset, first), (last, end)] {
            if from < to && memory.is_touched(from / PAGE) {
                // SAFETY: inside the mapping.
                unsafe { std::ptr::write_bytes(memory.at(from), 0, (to - from) as usize) };
            }
        }
        if first == last {
            return Ok(());
        }
        // SAFETY: whole pages of a private anonymous mapping, which read as zeroes afterwards.
        match unsafe { libc::madvise(memory.at(first).cast(), (last - first) as usize, libc::MADV_DONTNEED) }
        {
            0 => Ok(()),
            _ => Err(layers_abi::errno::get()),
        }
    }

    /// The extents of a range: cut where it ends, neighbours of one kind as one.
    pub(crate) fn extents(&self, offset: u64, count: u32) -> impl Iterator<Item = Extent> {
        let memory = self.memory();
        let end = offset.saturating_add(u64::from(count));
        let is_hole = move |at: u64| memory.is_none_or(|memory| memory.is_zero(at / PAGE));
        let mut at = offset;
        std::iter::from_fn(move || {
            let start = at;
            let kind = (start < end).then(|| is_hole(start))?;
            while at < end && is_hole(at) == kind {
                at = (at / PAGE + 1).saturating_mul(PAGE).min(end);
            }
            Some(Extent { offset: start, length: at - start, is_hole: kind })
        })
    }

    /// Mapped at the first request: behind the fork, and of the size that the parameters gave.
    fn memory(&self) -> Option<&Memory> {
        let lengths = std::iter::successors(Some(self.size().min(MOST)), |length| Some(length / 2));
        let map = || lengths.take_while(|length| *length > 0).find_map(Memory::map);
        self.memory.get_or_init(|| map().or_else(|| Memory::map(0))).as_ref()
    }
}

impl Memory {
    fn map(length: u64) -> Option<Memory> {
        let bytes = map(length)?;
        let touched = map((length / PAGE / 64 + 1) * 8)?.cast();
        Some(Memory { bytes, touched, length })
    }

    /// How many of these bytes are mapped.
    fn inside(&self, offset: u64, count: u32) -> usize {
        self.length.saturating_sub(offset).min(count.into()) as usize
    }

    /// # Safety
    ///
    /// `offset` is inside the mapping.
    unsafe fn at(&self, offset: u64) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { self.bytes.as_ptr().add(offset as usize) }
    }

    fn touch(&self, page: u64) {
        if let Some(bits) = self.bits(page)
            && bits.load(Ordering::Relaxed) & 1 << (page % 64) == 0
        {
            bits.fetch_or(1 << (page % 64), Ordering::Relaxed);
        }
    }

    fn is_touched(&self, page: u64) -> bool {
        self.bits(page).is_some_and(|bits| bits.load(Ordering::Relaxed) & 1 << (page % 64) != 0)
    }

    fn is_zero(&self, page: u64) -> bool {
        if !self.is_touched(page) {
            return true;
        }
        let start = page * PAGE;
        let words = (self.length - start).min(PAGE) as usize / size_of::<u64>();
        let rest = (self.length - start).min(PAGE) as usize % size_of::<u64>();
        // SAFETY: a touched page starts inside the mapping, which is page-aligned and goes on to the end of its last
        // page. Other threads may be writing: volatile, so that each word is read as it then is.
        unsafe {
            let at = self.at(start);
            (0..words).all(|word| at.cast::<u64>().add(word).read_volatile() == 0)
                && (0..rest).all(|byte| at.add(words * size_of::<u64>() + byte).read_volatile() == 0)
        }
    }

    fn bits(&self, page: u64) -> Option<&AtomicU64> {
        // SAFETY: pages inside the mapping have their bit.
        (page * PAGE < self.length).then(|| unsafe { self.touched.add((page / 64) as usize).as_ref() })
    }
}

/// Memory of at least this many bytes, all zero; never given back, the disk lives as long as the process.
fn map(length: u64) -> Option<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping, placed by the kernel.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length.max(1) as usize,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            -1,
            0,
        )
    };
    NonNull::new(base).filter(|base| base.as_ptr() != libc::MAP_FAILED).map(NonNull::cast)
}
