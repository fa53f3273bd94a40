//! The shared mapping, and appending to it.
//!
//! On the path of a recorded event there is no lock, no allocation and, after a thread's first event, no system
//! call: claim a position with one `fetch_add`, fill the record, publish it with a release store of the epoch.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once};

use memmap2::{MmapOptions, MmapRaw};

use crate::event::{Field, Kind, pack_text, text_records};
use crate::header::{HEADER_SIZE, Header, MAGIC, VERSION};
use crate::record::{RECORD_SIZE, Record};

/// Most records that one trace can hold: positions are 32 bits, and the last value means "lost".
pub const MOST_RECORDS: u64 = u32::MAX as u64 - 1;

/// Bytes that a new process touches at once, instead of one page fault after another: header and 500 records.
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
    /// Unmaps on drop; `None` where another image of this process owns the mapping.
    _mapping: Option<MmapRaw>,
}

// SAFETY: the mapping is shared memory that any thread may use; all shared fields are atomics, and a record is
// written by the one thread that claimed its position.
unsafe impl Send for Writer {}
// SAFETY: as above.
unsafe impl Sync for Writer {}

impl Writer {
    /// Lays out a new trace in `file` and maps it.
    ///
    /// `capacity` is in records, at most [`MOST_RECORDS`]. The file is extended to its full size, sparsely.
    pub fn create(file: &File, capacity: u64, run_id: u64) -> io::Result<Writer> {
        let capacity = capacity.min(MOST_RECORDS);
        file.set_len(HEADER_SIZE as u64 + capacity * RECORD_SIZE as u64)?;
        let mapping = MmapOptions::new().map_raw(file)?;
        let base = non_null(mapping.as_mut_ptr())?;
        let (realtime, monotonic) = clocks();
        // SAFETY: the mapping is at least a header long, page-aligned and writable, and nobody else has it yet.
        unsafe {
            let header = base.as_ptr().cast::<Header>();
            (*header).magic = MAGIC;
            (*header).version = VERSION;
            (*header).record_size = RECORD_SIZE as u32;
            (*header).capacity = capacity;
            (*header).run_id = run_id;
            (*header).realtime = realtime;
            (*header).monotonic = monotonic;
            (*header).epoch.store(1, Ordering::Relaxed);
        }
        Ok(Writer { base, capacity, epoch: AtomicU32::new(1), _mapping: Some(mapping) })
    }

    /// Maps the trace that the harness made, inside a server.
    ///
    /// Several instruments in one process are several images, each with statics of its own; all use the mapping of
    /// the first one, so that the pages are touched once.
    pub fn attach(path: &Path) -> io::Result<Writer> {
        let file = File::options().read(true).write(true).open(path)?;
        let length = file.metadata()?.len();
        let mapping = MmapOptions::new().map_raw(&file)?;
        if mapping.len() < HEADER_SIZE {
            return Err(io::Error::other("the trace is shorter than its header"));
        }
        let mut base = non_null(mapping.as_mut_ptr())?;
        let mut owned = Some(mapping);
        // SAFETY: the mapping is at least a header long and page-aligned; the fields written after creation are atomics.
        let header = unsafe { base.cast::<Header>().as_ref() };
        if header.magic != MAGIC || header.version != VERSION || header.record_size as usize != RECORD_SIZE {
            return Err(io::Error::other("not a trace of this version"));
        }
        let capacity = header.capacity;
        if capacity > MOST_RECORDS || length < HEADER_SIZE as u64 + capacity * RECORD_SIZE as u64 {
            return Err(io::Error::other("the trace is shorter than its capacity says"));
        }
        let epoch = header.epoch.load(Ordering::Relaxed);
        let key = image_key();
        if header.image_key.load(Ordering::Acquire) == key {
            let first = header.image_base.load(Ordering::Relaxed) as usize as *mut u8;
            base = non_null(first)?;
            owned = None;
        } else {
            header.image_base.store(base.as_ptr() as u64, Ordering::Relaxed);
            header.image_key.store(key, Ordering::Release);
            let length = POPULATED.min(HEADER_SIZE + capacity as usize * RECORD_SIZE);
            // SAFETY: the range lies inside the mapping. Failure (an old kernel) only means slower first writes.
            let _ = unsafe {
                rustix::mm::madvise(base.as_ptr().cast(), length, rustix::mm::Advice::LinuxPopulateWrite)
            };
        }
        // The mapping must outlive this image: another one may be using it.
        if let Some(mapping) = owned.take() {
            std::mem::forget(mapping);
        }
        Ok(Writer { base, capacity, epoch: AtomicU32::new(epoch), _mapping: None })
    }

    /// Makes the memory a new, empty trace. Only when no other process writes to it any more.
    pub fn reset(&self, run_id: u64) {
        let header = self.header();
        let epoch = match header.epoch.load(Ordering::Relaxed).wrapping_add(1) {
            0 => 1,
            next => next,
        };
        self.epoch.store(epoch, Ordering::Relaxed);
        header.epoch.store(epoch, Ordering::Relaxed);
        for count in [&header.handles, &header.filters] {
            count.store(0, Ordering::Relaxed);
        }
        for word in [&header.cursor, &header.image_key, &header.image_base] {
            word.store(0, Ordering::Relaxed);
        }
        let (realtime, monotonic) = clocks();
        let raw = self.base.as_ptr().cast::<Header>();
        // SAFETY: as the caller promises, nobody else uses the header now; the reads in `header()` are of atomics.
        unsafe {
            (&raw mut (*raw).run_id).write(run_id);
            (&raw mut (*raw).realtime).write(realtime);
            (&raw mut (*raw).monotonic).write(monotonic);
        }
    }

    /// The header page.
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
    pub fn enter(&self, record: Record, texts: &[(Field, &[u8])]) -> CallId {
        self.append(record, texts, true)
    }

    /// Records that the call has returned.
    pub fn exit(&self, call: CallId, record: Record, texts: &[(Field, &[u8])]) {
        self.append(Record { call: call.0, ..record }, texts, false);
    }

    /// Records something that is no call.
    pub fn note(&self, record: Record, texts: &[(Field, &[u8])]) {
        self.append(record, texts, false);
    }

    fn append(&self, mut record: Record, texts: &[(Field, &[u8])], own_call: bool) -> CallId {
        // Whole texts first: each gets at least one record, and what is left goes to the earlier ones.
        let mut room = u8::MAX as usize;
        let mut needed = 0;
        for (index, (_, bytes)) in texts.iter().enumerate() {
            let reserved = texts.len() - index - 1;
            let kept = text_records(bytes.len()).min(room.saturating_sub(reserved));
            needed += kept;
            room -= kept;
        }
        let first = self.header().cursor.fetch_add(1 + needed as u64, Ordering::Relaxed);
        if first.saturating_add(needed as u64) >= self.capacity {
            return CallId::LOST;
        }
        let call = CallId(first as u32);
        if own_call {
            record.call = call.0;
        }
        record.texts = needed as u8;
        record.tid = thread_id();
        record.pid = PROCESS.load(Ordering::Relaxed);
        record.time = monotonic();
        let mut next = first + 1;
        let mut left = needed;
        for (index, (field, bytes)) in texts.iter().enumerate() {
            let reserved = texts.len() - index - 1;
            pack_text(*field, bytes, left.saturating_sub(reserved), |text| {
                self.publish(next, &text);
                next += 1;
                left -= 1;
            });
        }
        // The texts are there before the record that owns them: a reader never sees it without.
        self.publish(first, &record);
        call
    }

    fn publish(&self, position: u64, record: &Record) {
        let slot = self.slot(position);
        let from: *const Record = record;
        // SAFETY: `append` checked the position against the capacity and claimed it, so this thread alone writes
        // the slot; the epoch word in front of it is left to the atomic store, which publishes the rest.
        unsafe {
            let to = slot.as_ptr().cast::<u8>().add(4);
            std::ptr::copy_nonoverlapping(from.cast::<u8>().add(4), to, RECORD_SIZE - 4);
            AtomicU32::from_ptr(slot.as_ptr().cast())
                .store(self.epoch.load(Ordering::Relaxed), Ordering::Release);
        }
    }

    /// The record at this position, if it has been published.
    pub fn published(&self, position: u64) -> Option<Record> {
        if position >= self.capacity {
            return None;
        }
        let slot = self.slot(position);
        // SAFETY: the position is inside the mapping. Once the epoch says that the record is published nobody
        // writes to it again before `reset`.
        unsafe {
            let epoch = AtomicU32::from_ptr(slot.as_ptr().cast()).load(Ordering::Acquire);
            (epoch == self.epoch.load(Ordering::Relaxed)).then(|| slot.as_ptr().read())
        }
    }

    fn slot(&self, position: u64) -> NonNull<Record> {
        // SAFETY: callers pass positions below the capacity, and the mapping holds that many records.
        unsafe { self.base.byte_add(HEADER_SIZE + position as usize * RECORD_SIZE).cast() }
    }
}

fn non_null(pointer: *mut u8) -> io::Result<NonNull<u8>> {
    NonNull::new(pointer).ok_or_else(|| io::Error::other("the trace was mapped at address 0"))
}

/// Wall clock and CLOCK_MONOTONIC, nanoseconds.
fn clocks() -> (u64, u64) {
    (clock(libc::CLOCK_REALTIME), clock(libc::CLOCK_MONOTONIC))
}

/// CLOCK_MONOTONIC in nanoseconds, the clock of every record.
pub fn monotonic() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec to write to; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(id, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

static PROCESS: AtomicU32 = AtomicU32::new(0);

thread_local! {
    static THREAD: Cell<u32> = const { Cell::new(0) };
}

/// The caller's kernel thread id, asked once a thread and again after a fork.
fn thread_id() -> u32 {
    THREAD.with(|cached| match cached.get() {
        0 => {
            watch_forks();
            // SAFETY: no arguments, cannot fail.
            let (tid, pid) = unsafe { (libc::gettid().cast_unsigned(), libc::getpid().cast_unsigned()) };
            PROCESS.store(pid, Ordering::Relaxed);
            cached.set(tid);
            tid
        }
        tid => tid,
    })
}

fn watch_forks() {
    static ONCE: Once = Once::new();
    /// The forking thread is the child's only one.
    extern "C" fn in_child() {
        THREAD.with(|cached| cached.set(0));
        // SAFETY: no arguments, cannot fail.
        PROCESS.store(unsafe { libc::getpid() }.cast_unsigned(), Ordering::Relaxed);
    }
    ONCE.call_once(|| {
        // SAFETY: the handler touches one thread-local and one atomic; it is unregistered when this image goes.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

/// Tells this execution of this process from every other one: the kernel gives each exec new random bytes.
fn image_key() -> u64 {
    // SAFETY: getauxval has no preconditions.
    let random = unsafe { libc::getauxval(libc::AT_RANDOM) } as *const u64;
    // SAFETY: AT_RANDOM, where there is one, points to 16 bytes that live as long as the process.
    let random = if random.is_null() { 1 } else { unsafe { random.read_unaligned() } };
    (random ^ (u64::from(std::process::id()) << 32)) | 1
}

/// Memory of earlier traces, to be used again.
///
/// A server that maps memory which another one has already touched saves the kernel zeroing every page.
#[derive(Debug, Default)]
pub struct Pool {
    free: Mutex<Vec<(File, Writer)>>,
}

impl Pool {
    /// An empty pool.
    pub const fn new() -> Pool {
        Pool { free: Mutex::new(Vec::new()) }
    }

    /// A trace of at least this capacity: a used one made new, or what `fresh` makes.
    pub fn take(
        &self,
        capacity: u64,
        run_id: u64,
        fresh: impl FnOnce() -> io::Result<(File, Writer)>,
    ) -> io::Result<(File, Writer)> {
        let mut free = self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match free.iter().position(|(_, writer)| writer.capacity() >= capacity) {
            Some(position) => {
                let (file, writer) = free.swap_remove(position);
                writer.reset(run_id);
                Ok((file, writer))
            }
            None => fresh(),
        }
    }

    /// Gives a trace back, once every process that wrote to it is gone.
    pub fn give(&self, file: File, writer: Writer) {
        self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((file, writer));
    }
}

/// A record of this kind, layer and number, everything else zero.
pub fn record(kind: Kind, layer: u8, number: u8) -> Record {
    Record { kind: kind as u8, layer, callback: number, ..Record::default() }
}
