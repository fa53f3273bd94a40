//! The header page: what every process that maps a trace agrees on.
//!
//! | offset | type | meaning |
//! |---|---|---|
//! | 0 | 8 bytes | magic `layerstr` |
//! | 8 | u32 | format version |
//! | 12 | u32 | bytes in a record, 64 |
//! | 16 | u64 | capacity in records |
//! | 24 | u64 | run id |
//! | 32 | u32 | epoch: only records that carry it belong to this run |
//! | 36 | u32 | what is recorded beside calls: bit 0: digests of buffers and lists of extents ([`DIGESTS`]) |
//! | 40 | u64 | wall clock at creation, nanoseconds since 1970 |
//! | 48 | u64 | CLOCK_MONOTONIC at the same instant, nanoseconds |
//! | 56 | u64 | time stamp counter at the same instant |
//! | 64 | u64 | nanoseconds a tick of that counter, times 2^32; 0: writers ask the clock itself |
//! | 72 | u32 | 1: the records wrap, and the trace is read while it is written |
//! | 128 | u64 | cursor: records claimed so far, beyond the capacity when some were lost |
//! | 192 | u32 | handle ids minted |
//! | 196 | u32 | calls of `filter_init` |
//! | 256 | u64 | key of the process image that mapped the trace first |
//! | 264 | u64 | address of that mapping |
//! | 272 | u32 | number of the key under which the threads of that image have the calls that they are in, and 1; 0: none |
//! | 320 | u64 | of a trace that wraps: how far it was read |
//! | 384 | u64 | calls that were left out, because what reads was left behind |
//! | 392 | u64 | the position from which on that may be, and 1; 0: none |
//! | 400 | u64 | the position from which on nothing is recorded any more, and 1; 0: none |
//!
//! All numbers are little-endian; the rest of the page is zero.

use std::sync::atomic::{AtomicU32, AtomicU64};

/// First eight bytes of a trace.
pub const MAGIC: [u8; 8] = *b"layerstr";
/// Version of the format that this crate writes and reads.
pub const VERSION: u32 = 1;
/// In [`Header::extras`]: instruments and clients record digests of buffers, and lists of extents.
pub const DIGESTS: u32 = 1;
/// Bytes before the first record.
pub const HEADER_SIZE: usize = 4096;

/// The page in memory. What changes after creation is atomic, each busy field on a cache line of its own.
#[repr(C, align(4096))]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u32,
    /// Bytes in a record.
    pub record_size: u32,
    /// Records that fit.
    pub capacity: u64,
    /// Tells one run from another; also in the environment of the server.
    pub run_id: AtomicU64,
    /// Records of earlier users of the same memory carry another epoch.
    pub epoch: AtomicU32,
    /// What is recorded beside calls: [`DIGESTS`].
    pub extras: AtomicU32,
    /// Wall clock at creation, nanoseconds since 1970.
    pub realtime: AtomicU64,
    /// CLOCK_MONOTONIC at the same instant, nanoseconds.
    pub monotonic: AtomicU64,
    /// Time stamp counter at the same instant.
    pub ticks: AtomicU64,
    /// Nanoseconds a tick, times 2^32; 0 where the counter cannot be trusted.
    pub rate: AtomicU64,
    /// 1 where the records wrap.
    pub wraps: AtomicU32,
    _pad1: [u8; 52],
    /// Records claimed so far.
    pub cursor: AtomicU64,
    _pad2: [u8; 56],
    /// Handle ids minted so far; the first is 1.
    pub handles: AtomicU32,
    /// Calls of `filter_init` in this process: the n-th is layer n.
    pub filters: AtomicU32,
    _pad3: [u8; 56],
    /// Key of the process image whose mapping `image_base` is; 0 while there is none.
    pub image_key: AtomicU64,
    /// Address of the mapping that the first instrument of that image made.
    pub image_base: AtomicU64,
    /// Number of that image's key for the calls that a thread is in, and 1.
    pub thread_key: AtomicU32,
    _pad4: [u8; 44],
    /// How far a trace that wraps was read.
    pub read: AtomicU64,
    _pad5: [u8; 56],
    /// Calls that were left out.
    pub left_out: AtomicU64,
    /// From this position on, and 1.
    pub left_out_from: AtomicU64,
    /// From this position on, and 1, nothing is recorded.
    pub stopped: AtomicU64,
    _pad6: [u8; HEADER_SIZE - 408],
}

const _: () = {
    assert!(size_of::<Header>() == HEADER_SIZE);
    assert!(std::mem::offset_of!(Header, epoch) == 32);
    assert!(std::mem::offset_of!(Header, extras) == 36);
    assert!(std::mem::offset_of!(Header, realtime) == 40);
    assert!(std::mem::offset_of!(Header, rate) == 64);
    assert!(std::mem::offset_of!(Header, wraps) == 72);
    assert!(std::mem::offset_of!(Header, cursor) == 128);
    assert!(std::mem::offset_of!(Header, handles) == 192);
    assert!(std::mem::offset_of!(Header, image_key) == 256);
    assert!(std::mem::offset_of!(Header, read) == 320);
    assert!(std::mem::offset_of!(Header, stopped) == 400);
    assert!(cfg!(target_endian = "little"), "the trace format is little-endian");
};
