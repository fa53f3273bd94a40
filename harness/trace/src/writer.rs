//! The shared mapping, and appending to it.
//!
//! On the path of a recorded event there is no lock, no allocation and, after a thread's first event, no system
//! call: claim a position with one `fetch_add`, fill the record, publish it with a release store of its first word,
//! which holds the epoch.
//!
//! Records are read and written as atomic words, never as Rust values in place: other processes have the memory too,
//! and no mistake of theirs may be undefined behaviour here.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use crate::clock::{Anchor, realtime};
use crate::event::{Field, Kind, Room, pack_text};
use crate::header::{DIGESTS, HEADER_SIZE, Header, MAGIC, VERSION};
use crate::record::{RECORD_SIZE, Record, WORDS};
use crate::ring::Ring;
use crate::{full_disk, thread};

pub use crate::clock::monotonic;
pub use crate::pool::Pool;

/// Most records that one trace can hold: positions are 32 bits, and the last value means "lost".
pub const MOST_RECORDS: u64 = u32::MAX as u64 - 1;

/// Bytes that a new process touches at once, instead of one page fault after another: header and 512 records.
const POPULATED: usize = 9 * 4096;

/// The position of an enter, by which its exit refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallId(pub u32);

impl CallId {
    /// The enter did not fit into the trace.
    pub const LOST: CallId = CallId(u32::MAX);
}

/// A trace mapped for reading and writing, by an instrument or by the harness.
#[derive(Debug)]
pub struct Writer {
    base: NonNull<u8>,
    capacity: u64,
    epoch: AtomicU32,
    run_id: AtomicU64,
    /// The records wrap.
    ring: Option<Ring>,
    /// Unmaps on drop; `None` where the mapping is to outlive this image.
    _mapping: Option<Mapped>,
}

/// A mapping that is known to be a trace's ([`full_disk`]).
#[derive(Debug)]
struct Mapped(MmapRaw);

impl Mapped {
    fn of(mapping: MmapRaw) -> Mapped {
        full_disk::note(mapping.as_ptr(), mapping.len());
        Mapped(mapping)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        full_disk::forget(self.0.as_ptr());
    }
}

// SAFETY: the mapping is shared memory that any thread may use; after creation it is only accessed through atomics.
unsafe impl Send for Writer {}
// SAFETY: as above.
unsafe impl Sync for Writer {}

impl Writer {
    /// Lays out a new trace in `file`, whatever was there, and maps it.
    ///
    /// `capacity` is in records, at most [`MOST_RECORDS`]. The file is extended to its full size, sparsely.
    pub fn create(file: &File, capacity: u64, run_id: u64) -> io::Result<Writer> {
        Writer::lay_out_in(file, capacity, run_id, false)
    }

    /// The same, of a trace that wraps: somebody reads it meanwhile. The capacity is the next smaller power of two.
    pub fn create_ring(file: &File, capacity: u64, run_id: u64) -> io::Result<Writer> {
        let capacity = 1 << capacity.clamp(1, 1 << 31).ilog2();
        Writer::lay_out_in(file, capacity, run_id, true)
    }

    fn lay_out_in(file: &File, capacity: u64, run_id: u64, wraps: bool) -> io::Result<Writer> {
        let capacity = capacity.min(MOST_RECORDS);
        file.set_len(0)?;
        let size = size_of_trace(capacity);
        file.set_len(size)?;
        reserve(file, size.min(POPULATED as u64))?;
        let mapping = MmapOptions::new().map_raw(file)?;
        fault_singly(&mapping);
        let base = non_null(mapping.as_mut_ptr())?;
        let writer = Writer {
            base,
            capacity,
            epoch: AtomicU32::new(0),
            run_id: AtomicU64::new(run_id),
            ring: wraps.then(|| Ring::of(capacity, None)),
            _mapping: Some(Mapped::of(mapping)),
        };
        writer.reset(run_id);
        Ok(writer)
    }

    /// Maps the trace that the harness made, inside a server.
    ///
    /// Several instruments in one process are several images, each with statics of its own; all use the mapping of
    /// the first one, so that the pages are touched once. It stays until the process ends.
    pub fn attach(path: &Path) -> io::Result<Writer> {
        let mapping = map(&File::options().read(true).write(true).open(path)?)?;
        let own = non_null(mapping.as_mut_ptr())?;
        // SAFETY: the mapping is at least a header long and page-aligned; what changes after creation is atomic.
        let header = unsafe { own.cast::<Header>().as_ref() };
        let capacity = header.capacity;
        let epoch = AtomicU32::new(header.epoch.load(Ordering::Relaxed));
        let (key, wraps) = (image_key(), header.wraps.load(Ordering::Relaxed) != 0);
        let base = if header.image_key.load(Ordering::Acquire) == key {
            non_null(header.image_base.load(Ordering::Relaxed) as usize as *mut u8)?
        } else {
            header.image_base.store(own.as_ptr().addr() as u64, Ordering::Relaxed);
            let thread_key = wraps.then(Ring::new_key).flatten().map_or(0, |key| key + 1);
            header.thread_key.store(thread_key, Ordering::Relaxed);
            header.image_key.store(key, Ordering::Release);
            populate(own, capacity);
            // Another image of this process may come to use it after this one is unloaded.
            std::mem::forget(Mapped::of(mapping));
            own
        };
        let run_id = AtomicU64::new(header.run_id.load(Ordering::Relaxed));
        let thread_key = header.thread_key.load(Ordering::Relaxed).checked_sub(1);
        let ring = wraps.then(|| Ring::of(capacity, thread_key));
        Ok(Writer { base, capacity, epoch, run_id, ring, _mapping: None })
    }

    /// Maps a trace that others have written, to add to it when they are gone.
    pub fn resume(file: &File) -> io::Result<Writer> {
        let mapping = map(file)?;
        let base = non_null(mapping.as_mut_ptr())?;
        // SAFETY: the mapping is at least a header long and page-aligned; what changes after creation is atomic.
        let header = unsafe { base.cast::<Header>().as_ref() };
        let (epoch, run_id) = (&header.epoch, &header.run_id);
        Ok(Writer {
            base,
            capacity: header.capacity,
            epoch: AtomicU32::new(epoch.load(Ordering::Relaxed)),
            run_id: AtomicU64::new(run_id.load(Ordering::Relaxed)),
            ring: (header.wraps.load(Ordering::Relaxed) != 0).then(|| Ring::of(header.capacity, None)),
            _mapping: Some(Mapped::of(mapping)),
        })
    }

    /// Makes the memory a new, empty trace. Only when no other process writes to it any more.
    pub fn reset(&self, run_id: u64) {
        // The writer's own count, for what a server has left in the header may be anything.
        let epoch = match self.epoch.load(Ordering::Relaxed).wrapping_add(1) {
            0 => 1,
            next => next,
        };
        self.epoch.store(epoch, Ordering::Relaxed);
        self.run_id.store(run_id, Ordering::Relaxed);
        self.lay_out();
        let header = self.header();
        header.epoch.store(epoch, Ordering::Relaxed);
        for count in [&header.handles, &header.filters, &header.extras, &header.thread_key] {
            count.store(0, Ordering::Relaxed);
        }
        header.wraps.store(self.ring.is_some().into(), Ordering::Relaxed);
        let of_ring = [&header.read, &header.left_out, &header.left_out_from, &header.stopped];
        for word in [&header.cursor, &header.image_key, &header.image_base].into_iter().chain(of_ring) {
            word.store(0, Ordering::Relaxed);
        }
        let anchor = Anchor::now();
        for (word, value) in [
            (&header.run_id, run_id),
            (&header.realtime, realtime()),
            (&header.monotonic, anchor.monotonic),
            (&header.ticks, anchor.ticks),
            (&header.rate, anchor.rate),
        ] {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Writes the fields of the header that stay as they are for the life of a trace.
    fn lay_out(&self) {
        let header = self.base.as_ptr().cast::<Header>();
        // SAFETY: the mapping is at least a header long, page-aligned and writable. Only the harness lays out a trace,
        // while no server has it; another process can still have the memory, hence the volatile stores.
        unsafe {
            (&raw mut (*header).magic).write_volatile(MAGIC);
            (&raw mut (*header).version).write_volatile(VERSION);
            (&raw mut (*header).record_size).write_volatile(RECORD_SIZE as u32);
            (&raw mut (*header).capacity).write_volatile(self.capacity);
        }
    }

    /// Returns the first field of the header that is not as this writer laid it out: another process has changed it.
    ///
    /// Only for the writer that created the trace. The cursor and the counts change in every run, and are not looked at.
    pub fn changed_field(&self) -> Option<&'static str> {
        let header = self.base.as_ptr().cast::<Header>();
        // SAFETY: as in `lay_out`; other processes may write at the same time, hence the volatile loads.
        let (magic, version, record_size, capacity) = unsafe {
            (
                (&raw const (*header).magic).read_volatile(),
                (&raw const (*header).version).read_volatile(),
                (&raw const (*header).record_size).read_volatile(),
                (&raw const (*header).capacity).read_volatile(),
            )
        };
        let header = self.header();
        let same = [
            ("magic", magic == MAGIC),
            ("format version", version == VERSION),
            ("record size", record_size as usize == RECORD_SIZE),
            ("capacity", capacity == self.capacity),
            ("run id", header.run_id.load(Ordering::Relaxed) == self.run_id.load(Ordering::Relaxed)),
            ("shape", (header.wraps.load(Ordering::Relaxed) != 0) == self.ring.is_some()),
            ("epoch", header.epoch.load(Ordering::Relaxed) == self.epoch.load(Ordering::Relaxed)),
        ];
        same.into_iter().find(|(_, same)| !same).map(|(field, _)| field)
    }

    /// Returns true when every record is claimed: whatever else happens is not recorded any more.
    pub fn is_full(&self) -> bool {
        match self.ring {
            None => self.cursor() >= self.capacity,
            Some(_) => self.header().stopped.load(Ordering::Relaxed) != 0,
        }
    }

    pub(crate) fn ring(&self) -> Option<Ring> {
        self.ring
    }

    /// Says whether instruments and clients are to record digests of buffers and lists of extents in this run. Before the
    /// server starts: an instrument looks when it is loaded.
    pub fn set_digests(&self, wanted: bool) {
        self.header().extras.store(if wanted { DIGESTS } else { 0 }, Ordering::Relaxed);
    }

    /// Returns whether they are to.
    pub fn has_digests(&self) -> bool {
        self.header().extras.load(Ordering::Relaxed) & DIGESTS != 0
    }

    /// The header page.
    #[inline]
    pub fn header(&self) -> &Header {
        // SAFETY: `base` is a mapped, page-aligned header for as long as `self` lives.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    /// Records claimed so far. The cheapest thing to watch: it grows with every event.
    pub fn cursor(&self) -> u64 {
        self.header().cursor.load(Ordering::Acquire)
    }

    /// Records that fit.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Mints the id of a handle that `open` has just returned; ids start at 1 and never repeat in a run.
    pub fn mint_handle(&self) -> u32 {
        self.header().handles.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// Number of this call of `filter_init` in the process: the layer it registers, 1 for the innermost filter.
    pub fn next_filter(&self) -> u32 {
        self.header().filters.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// Records that a call starts; `record.kind` is [`Kind::Enter`] or [`Kind::Request`].
    #[inline]
    pub fn enter(&self, record: Record, texts: &[(Field, &[u8])]) -> CallId {
        match self.ring {
            None => self.append(record, texts, true),
            Some(ring) => self.enter_in(ring, record, texts),
        }
    }

    /// Records that the call has returned.
    #[inline]
    pub fn exit(&self, call: CallId, record: Record, texts: &[(Field, &[u8])]) {
        match self.ring {
            None => _ = self.append(Record { call: call.0, ..record }, texts, false),
            Some(ring) => self.exit_in(ring, call, record, texts),
        }
    }

    /// Records something that is no call.
    #[inline]
    pub fn note(&self, record: Record, texts: &[(Field, &[u8])]) {
        match self.ring {
            None => _ = self.append(record, texts, false),
            Some(ring) => self.note_in(ring, record, texts),
        }
    }

    #[inline]
    pub(crate) fn append(&self, record: Record, texts: &[(Field, &[u8])], own_call: bool) -> CallId {
        // First, so that it runs while the stores of the event before drain, for which the claim waits.
        let time = self.clock().time();
        let thread::Ids { tid, pid } = thread::ids();
        let following = if texts.is_empty() { 0 } else { records_of(texts) };
        let Some(first) = self.claim(1 + u64::from(following)) else { return CallId::LOST };
        if following > 0 {
            // Before the record that owns them: a reader never sees it without.
            self.publish_texts(first + 1, texts);
        }
        let call = CallId(first as u32);
        let owner = if own_call { call.0 } else { record.call };
        self.publish(first, Record { call: owner, texts: following, tid, pid, time, ..record });
        call
    }

    /// The position of the first of so many records that have places of their own now.
    #[inline]
    fn claim(&self, records: u64) -> Option<u64> {
        if self.ring.is_some() {
            return self.claim_in_ring(records);
        }
        let first = self.header().cursor.fetch_add(records, Ordering::Relaxed);
        (first.saturating_add(records) <= self.capacity).then_some(first)
    }

    #[cold]
    fn publish_texts(&self, mut position: u64, texts: &[(Field, &[u8])]) {
        let mut room = Room::of(texts.len());
        for (field, bytes) in texts {
            pack_text(*field, bytes, room.take(bytes.len()), false, |text| {
                self.publish(position, text);
                position += 1;
            });
        }
    }

    #[inline]
    fn clock(&self) -> Anchor {
        let header = self.header();
        Anchor {
            monotonic: header.monotonic.load(Ordering::Relaxed),
            ticks: header.ticks.load(Ordering::Relaxed),
            rate: header.rate.load(Ordering::Relaxed),
        }
    }

    /// Only for a position that `append` has claimed: each record has one writer.
    #[inline]
    fn publish(&self, position: u64, record: Record) {
        let epoch = self.epoch_at(position);
        let [value, values @ ..] = Record { epoch, ..record }.to_words();
        let Some([head, words @ ..]) = self.slot(position) else { return };
        for (word, value) in words.iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
        head.store(value, Ordering::Release);
    }

    /// The record at this position, if it has been published.
    pub fn published(&self, position: u64) -> Option<Record> {
        let [head, words @ ..] = self.slot(position)?;
        let head = head.load(Ordering::Acquire);
        let [thread, call, time, context, a, b, tail] =
            words.each_ref().map(|word| word.load(Ordering::Relaxed));
        let record = Record::from_words([head, thread, call, time, context, a, b, tail]);
        (record.epoch == self.epoch_at(position)).then_some(record)
    }

    /// Of the run, and where the records wrap, of the round in which this position lies.
    #[inline]
    fn epoch_at(&self, position: u64) -> u32 {
        let round = self.ring.map_or(0, |ring| position >> ring.shift) as u32;
        self.epoch.load(Ordering::Relaxed).wrapping_add(round)
    }

    #[inline]
    fn slot(&self, position: u64) -> Option<&[AtomicU64; WORDS]> {
        let position = match self.ring {
            // Its capacity is a power of two.
            Some(_) => position & self.capacity.saturating_sub(1),
            None => position,
        };
        if position >= self.capacity {
            return None;
        }
        // SAFETY: the mapping holds `capacity` records from the end of the header on, aligned to their size, for as
        // long as `self` lives, and all who have it access them as atomic words.
        Some(unsafe { self.base.byte_add(HEADER_SIZE + position as usize * RECORD_SIZE).cast().as_ref() })
    }
}

/// Text records that these texts take together.
#[cold]
fn records_of(texts: &[(Field, &[u8])]) -> u8 {
    let mut room = Room::of(texts.len());
    texts.iter().map(|(_, bytes)| room.take(bytes.len()) as u8).sum()
}

/// Has the kernel read nothing ahead where a page of a file is touched first: it would fill the hole around it with zeroes,
/// which takes longer than to start a server. Failure only means that.
fn fault_singly(mapping: &MmapRaw) {
    // SAFETY: the range is the mapping.
    let _ = unsafe {
        rustix::mm::madvise(mapping.as_mut_ptr().cast(), mapping.len(), rustix::mm::Advice::Random)
    };
}

/// Maps a whole trace.
/// Takes the blocks of the first bytes of a file, which is an error where the disk is full.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    // SAFETY: a descriptor that is open.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes.cast_signed()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn map(file: &File) -> io::Result<MmapRaw> {
    if file.metadata()?.len() < HEADER_SIZE as u64 {
        return Err(io::Error::other("the trace is shorter than its header"));
    }
    let mapping = MmapOptions::new().map_raw(file)?;
    fault_singly(&mapping);
    // SAFETY: the mapping is at least a header long and page-aligned; what changes after creation is atomic.
    let header = unsafe { non_null(mapping.as_mut_ptr())?.cast::<Header>().as_ref() };
    if header.magic != MAGIC || header.version != VERSION || header.record_size as usize != RECORD_SIZE {
        return Err(io::Error::other("not a trace of this version"));
    }
    if header.wraps.load(Ordering::Relaxed) != 0 && !header.capacity.is_power_of_two() {
        return Err(io::Error::other("the trace wraps, and its capacity is no power of two"));
    }
    if header.capacity > MOST_RECORDS || (mapping.len() as u64) < size_of_trace(header.capacity) {
        return Err(io::Error::other("the trace is shorter than its capacity says"));
    }
    Ok(mapping)
}

const fn size_of_trace(capacity: u64) -> u64 {
    HEADER_SIZE as u64 + capacity * RECORD_SIZE as u64
}

/// Touches the first pages. Failure (an old kernel) only means slower first events.
fn populate(base: NonNull<u8>, capacity: u64) {
    let length = POPULATED.min(size_of_trace(capacity) as usize);
    // SAFETY: the range lies inside the mapping, which is ours.
    let _ =
        unsafe { rustix::mm::madvise(base.as_ptr().cast(), length, rustix::mm::Advice::LinuxPopulateWrite) };
}

fn non_null(pointer: *mut u8) -> io::Result<NonNull<u8>> {
    NonNull::new(pointer).ok_or_else(|| io::Error::other("the trace was mapped at address 0"))
}

/// Tells this execution of this process from every other one: the kernel gives each exec new random bytes.
fn image_key() -> u64 {
    // SAFETY: getauxval has no preconditions.
    let random = unsafe { libc::getauxval(libc::AT_RANDOM) } as *const u64;
    // SAFETY: AT_RANDOM, where there is one, points to 16 bytes that live as long as the process.
    let random = if random.is_null() { 1 } else { unsafe { random.read_unaligned() } };
    (random ^ (u64::from(std::process::id()) << 32)) | 1
}

/// A record of this kind, layer and number, everything else zero.
#[inline]
pub fn record(kind: Kind, layer: u8, number: u8) -> Record {
    Record { kind: kind as u8, layer, callback: number, ..Record::default() }
}
