//! Requests in flight, and the memory that libnbd writes to while they are.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr::NonNull;

use layers_trace::digest::digest;
use layers_trace::record::Record;
use layers_trace::{CallId, Field, Operation};

use super::super::pages::zeroed;
use super::super::pattern;
use super::super::told::{Extents, Told};
use super::error::{check, last_error};
use super::ffi::{self, Closure};
use super::{ClientError, Command};

/// A request with its buffer, which does not move before the request is over.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) cookie: u64,
    pub(super) command: Command,
    pub(super) call: CallId,
    buffer: Box<[u8]>,
    /// Which bytes a read has brought; in a box of its own, so that libnbd's pointer to it stays good.
    told: Box<Told>,
    /// What block status answers, for base:allocation alone; likewise.
    extents: Box<Extents>,
}

/// What came back, besides success.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    pub(super) extents: Vec<(u32, u32)>,
}

impl Pending {
    pub(super) fn new(command: Command, call: CallId) -> Pending {
        let length = match command.operation {
            Operation::Read | Operation::Write => command.count as usize,
            _ => 0,
        };
        let mut buffer = zeroed(length).into_boxed_slice();
        if command.operation == Operation::Write {
            for (byte, value) in buffer.iter_mut().zip(pattern(command.offset, length)) {
                *byte = value;
            }
        }
        Pending { cookie: 0, command, call, buffer, told: Box::default(), extents: Box::default() }
    }

    /// A write of these bytes; its count is theirs.
    pub(super) fn of_data(command: Command, call: CallId, data: Vec<u8>) -> Pending {
        Pending {
            cookie: 0,
            command,
            call,
            buffer: data.into_boxed_slice(),
            told: Box::default(),
            extents: Box::default(),
        }
    }

    /// Hands the request to libnbd.
    pub(super) fn start(&mut self, handle: NonNull<ffi::Handle>) -> Result<u64, ClientError> {
        let Command { operation, offset, count, flags } = self.command;
        let (h, length) = (handle.as_ptr(), u64::from(count));
        let none = || Closure::<ffi::CompletionFn>::NONE;
        // SAFETY: a live handle; the buffer lives in a box that the client keeps until the request is over or the
        // handle is closed.
        let cookie = unsafe {
            match operation {
                Operation::Read => {
                    let buffer = self.buffer.as_mut_ptr().cast();
                    let take = Closure {
                        callback: Some(take_chunk as ffi::ChunkFn),
                        user_data: (&raw mut *self.told).cast(),
                        free: None,
                    };
                    ffi::nbd_aio_pread_structured(h, buffer, count as usize, offset, take, none(), flags)
                }
                Operation::Write => {
                    let buffer = self.buffer.as_ptr().cast();
                    ffi::nbd_aio_pwrite(h, buffer, count as usize, offset, none(), flags)
                }
                Operation::Flush => ffi::nbd_aio_flush(h, none(), flags),
                Operation::Trim => ffi::nbd_aio_trim(h, length, offset, none(), flags),
                Operation::Zero => ffi::nbd_aio_zero(h, length, offset, none(), flags),
                Operation::Cache => ffi::nbd_aio_cache(h, length, offset, none(), flags),
                Operation::BlockStatus => {
                    let take = Closure {
                        callback: Some(take_extents as ffi::ExtentFn),
                        user_data: (&raw mut *self.extents).cast(),
                        free: None,
                    };
                    ffi::nbd_aio_block_status(h, length, offset, take, none(), flags)
                }
                _ => return Err(not_a_request(operation)),
            }
        };
        check(if cookie < 0 { -1 } else { 0 })?;
        self.cookie = u64::try_from(cookie).map_err(|_| last_error())?;
        Ok(self.cookie)
    }

    /// What a read has read, and what a block status has been told.
    pub(super) fn into_answer(self) -> Answer {
        Answer { bytes: self.buffer.into_vec(), extents: self.extents.all() }
    }

    /// Returns what the record of its request says of its data.
    pub(super) fn sent(&self, digests: bool) -> Record {
        let writes = digests && self.command.operation == Operation::Write;
        Record { context: if writes { digest(&self.buffer) } else { 0 }, ..Record::default() }
    }

    /// Returns what the record of its reply says of what has come, and the texts.
    pub(super) fn came(&self, digests: bool) -> (Record, Vec<(Field, Vec<u8>)>) {
        match self.command.operation {
            Operation::Read => (self.told.of_read(self.command, &self.buffer, digests), Vec::new()),
            Operation::BlockStatus => {
                (Record { b: self.extents.count(), ..Record::default() }, self.extents.texts())
            }
            _ => Default::default(),
        }
    }
}

fn not_a_request(operation: Operation) -> ClientError {
    let message = format!("{operation:?} is not a request of the transmission phase");
    ClientError::Refused { message, errno: libc::EINVAL }
}

/// Notes a chunk in the `Told` behind `user_data`.
extern "C" fn take_chunk(
    user_data: *mut c_void,
    _data: *const c_void,
    count: usize,
    offset: u64,
    status: c_uint,
    _error: *mut c_int,
) -> c_int {
    if status != ffi::READ_ERROR {
        // SAFETY: `start` passes such a list, in a box that stays until the request is over or the handle is closed.
        unsafe { (*user_data.cast::<Told>()).add(offset, count as u64) };
    }
    0
}

/// Appends extents to the `Extents` behind `user_data`.
extern "C" fn take_extents(
    user_data: *mut c_void,
    _metacontext: *const c_char,
    _offset: u64,
    entries: *mut u32,
    count: usize,
    _error: *mut c_int,
) -> c_int {
    // SAFETY: `start` passes such a list, in a box that stays until the request is over or the handle is closed;
    // libnbd passes `count` integers, a length and flags in turn.
    unsafe {
        let Extents(extents) = &mut *user_data.cast::<Extents>();
        let entries = std::slice::from_raw_parts(entries, count);
        extents.push(entries.as_chunks().0.iter().map(|[length, flags]| (*length, *flags)).collect());
    }
    0
}

/// Appends an export to the `Vec<(String, String)>` behind `user_data`.
pub(super) extern "C" fn collect_export(
    user_data: *mut c_void,
    name: *const c_char,
    description: *const c_char,
) -> c_int {
    // SAFETY: `NbdClient::list` passes such a vector and keeps it alive; libnbd passes NUL-terminated strings.
    unsafe {
        let exports = &mut *user_data.cast::<Vec<(String, String)>>();
        let text = |s: *const c_char| CStr::from_ptr(s).to_string_lossy().into_owned();
        exports.push((text(name), text(description)));
    }
    0
}

/// A completion that stores the error number of the option in `error`, which the caller looks at in between: a `Cell`, or
/// the compiler may look only once.
pub(super) fn note_error(error: &Cell<c_int>) -> Closure<ffi::CompletionFn> {
    extern "C" fn store(user_data: *mut c_void, error: *mut c_int) -> c_int {
        // SAFETY: `user_data` is the integer given below, alive until the option is over; libnbd's pointer is valid.
        unsafe { *user_data.cast::<c_int>() = *error };
        1
    }
    Closure { callback: Some(store), user_data: error.as_ptr().cast(), free: None }
}
