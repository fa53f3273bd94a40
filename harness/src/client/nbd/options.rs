//! Negotiation: lists, questions about exports, and the choice of one.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_int};
use std::ptr::NonNull;

use layers_trace::record::Record;
use layers_trace::{CallId, Field, Operation};

use super::error::{check, last_message};
use super::ffi::{self, Closure};
use super::pending;
use super::wishes::{INFO_BLOCK_SIZE, INFO_DESCRIPTION, INFO_NAME};
use super::{ClientError, Command, NbdClient};

/// Transmission flags of the protocol, rebuilt from what libnbd says of the export.
const FLAG_BITS: &[(u32, ffi::Question)] = &[
    (1, ffi::nbd_is_read_only),
    (2, ffi::nbd_can_flush),
    (3, ffi::nbd_can_fua),
    (4, ffi::nbd_is_rotational),
    (5, ffi::nbd_can_trim),
    (6, ffi::nbd_can_zero),
    (7, ffi::nbd_can_df),
    (8, ffi::nbd_can_multi_conn),
    (10, ffi::nbd_can_cache),
    (11, ffi::nbd_can_fast_zero),
];
/// The only metadata context that it asks for.
const ALLOCATION: &CStr = c"base:allocation";

impl NbdClient {
    fn option_done(&mut self, started: c_int, error: &Cell<c_int>) -> Result<(), ClientError> {
        check(started)?;
        self.until_answered(|client| !client.question(ffi::nbd_aio_is_connecting))?;
        match error.get() {
            0 => Ok(()),
            errno => Err(ClientError::Refused { message: last_message(), errno }),
        }
    }

    /// NBD_OPT_LIST: names and descriptions.
    pub fn list(&mut self) -> Result<Vec<(String, String)>, ClientError> {
        let call = self.request(Operation::List, Record::default(), &[]);
        let mut exports: Vec<(String, String)> = Vec::new();
        let error = Cell::new(0);
        let list = Closure {
            callback: Some(pending::collect_export as ffi::ListFn),
            user_data: (&raw mut exports).cast(),
            free: None,
        };
        let done = pending::note_error(&error);
        // SAFETY: a live handle; both closures' data live until the option is over, which `option_done` waits for,
        // or, if it gives up, until the connection is dead, after which libnbd calls neither.
        let started = unsafe { ffi::nbd_aio_opt_list(self.raw(), list, done) };
        let result = self.option_done(started, &error);
        self.give_up_unless_over(&result);
        let texts: Vec<(Field, &[u8])> = exports
            .iter()
            .flat_map(|(name, text)| {
                [(Field::Export, name.as_bytes()), (Field::Description, text.as_bytes())]
            })
            .collect();
        self.reply(Operation::List, call, &result, 0, &texts);
        result.map(|()| exports)
    }

    /// NBD_OPT_INFO for this export.
    pub fn info(&mut self, export: &str) -> Result<(), ClientError> {
        self.select(Operation::Info, export, ffi::nbd_aio_opt_info)
    }

    /// NBD_OPT_GO for this export: on success the connection is ready for requests.
    pub fn go(&mut self, export: &str) -> Result<(), ClientError> {
        self.select(Operation::Go, export, ffi::nbd_aio_opt_go)
    }

    fn select(
        &mut self,
        operation: Operation,
        export: &str,
        option: unsafe extern "C" fn(*mut ffi::Handle, Closure<ffi::CompletionFn>) -> c_int,
    ) -> Result<(), ClientError> {
        let name = CString::new(export).map_err(|_| ClientError::Nul)?;
        let fill = Record { b: self.infos, ..Record::default() };
        let call = self.request(operation, fill, &[(Field::Export, export.as_bytes())]);
        let error = Cell::new(0);
        let done = pending::note_error(&error);
        // SAFETY: a live handle, a NUL-terminated name that libnbd copies, and a closure as in `list`.
        let started = unsafe {
            match ffi::nbd_set_export_name(self.raw(), name.as_ptr()) {
                0 => option(self.raw(), done),
                failed => failed,
            }
        };
        let result = self.option_done(started, &error);
        self.give_up_unless_over(&result);
        let (told, texts) = match &result {
            Ok(()) => self.told(),
            Err(_) => (Record::default(), Vec::new()),
        };
        let texts: Vec<(Field, &[u8])> =
            texts.iter().map(|(field, text)| (*field, text.as_slice())).collect();
        self.reply_with(operation, call, &result, told, &texts);
        result
    }

    /// What it is told of the export, as far as it has asked: the fields of a reply, and its texts.
    fn told(&self) -> (Record, Vec<(Field, Vec<u8>)>) {
        let mut texts: Vec<(Field, Vec<u8>)> = Vec::new();
        let mut types = 1;
        if self.infos & INFO_NAME != 0 {
            let canonical = self.string(ffi::nbd_get_canonical_export_name);
            types |= if canonical.is_some() { INFO_NAME } else { 0 };
            texts.extend(canonical.map(|name| (Field::Export, name)));
            let description = self.string(ffi::nbd_get_export_description);
            types |= if description.is_some() { INFO_DESCRIPTION } else { 0 };
            texts.extend(description.map(|text| (Field::Description, text)));
        }
        if let Some(sizes) = self.block_sizes().filter(|_| self.infos & INFO_BLOCK_SIZE != 0) {
            types |= INFO_BLOCK_SIZE;
            texts.push((Field::BlockSizes, sizes.iter().flat_map(|size| size.to_le_bytes()).collect()));
        }
        if self.can_block_status() {
            texts.push((Field::Name, ALLOCATION.to_bytes().to_vec()));
        }
        let told = Record {
            context: self.size().unwrap_or(u64::MAX),
            b: self.flags(),
            d: types as u32,
            ..Record::default()
        };
        (told, texts)
    }

    /// The connection is there, or not; where nothing is negotiated the export is chosen with it.
    pub(super) fn greeted(&self, call: CallId, result: &Result<(), ClientError>) {
        let oldstyle = result.is_ok() && self.is_ready();
        let told = if oldstyle {
            Record { context: self.size().unwrap_or(u64::MAX), b: self.flags(), d: 1, ..Record::default() }
        } else {
            Record::default()
        };
        self.reply_with(Operation::Connect, call, result, told, &[]);
    }

    /// Writes into the trace whether structured replies were negotiated, which libnbd does while it connects.
    pub(super) fn note_structured_replies(&self, connected: &Result<(), ClientError>) {
        if connected.is_err() || !self.structures || self.is_ready() {
            return;
        }
        let call = self.request(Operation::StructuredReply, Record::default(), &[]);
        let result = match self.question(ffi::nbd_get_structured_replies_negotiated) {
            true => Ok(()),
            false => Err(ClientError::cannot("the server does without structured replies")),
        };
        self.reply(Operation::StructuredReply, call, &result, 0, &[]);
    }

    /// After a time-out libnbd may still hold pointers into our stack: end the connection, and it forgets them.
    fn give_up_unless_over(&mut self, result: &Result<(), ClientError>) {
        if matches!(result, Err(ClientError::Timeout)) {
            // SAFETY: the old handle is closed exactly once, here; a fresh one takes its place. Closing runs the
            // callbacks that are still due before it returns.
            unsafe {
                if let Some(fresh) = NonNull::new(ffi::nbd_create()) {
                    ffi::nbd_close(std::mem::replace(&mut self.handle, fresh).as_ptr());
                }
            }
        }
    }

    fn string(
        &self,
        ask: unsafe extern "C" fn(*mut ffi::Handle) -> *mut std::ffi::c_char,
    ) -> Option<Vec<u8>> {
        // SAFETY: a live handle; the string is ours and is freed once copied.
        unsafe {
            let text = NonNull::new(ask(self.raw()))?;
            let bytes = CStr::from_ptr(text.as_ptr()).to_bytes().to_vec();
            ffi::free(text.as_ptr().cast());
            Some(bytes)
        }
    }

    /// Transmission flags of the selected export, as bits of the protocol.
    pub fn flags(&self) -> u64 {
        FLAG_BITS.iter().filter(|(_, ask)| self.question(*ask)).fold(1, |flags, (bit, _)| flags | 1 << bit)
    }

    /// Minimum, preferred and maximum block size of the selected export, where the server tells them.
    pub fn block_sizes(&self) -> Option<[u32; 3]> {
        let ask = |which| {
            // SAFETY: a live handle.
            let size = unsafe { ffi::nbd_get_block_size(self.raw(), which) };
            u32::try_from(size).ok().filter(|size| *size > 0)
        };
        Some([ask(ffi::SIZE_MINIMUM)?, ask(ffi::SIZE_PREFERRED)?, ask(ffi::SIZE_MAXIMUM)?])
    }

    /// Size of the selected export in bytes.
    pub fn size(&self) -> Option<u64> {
        // SAFETY: a live handle.
        u64::try_from(unsafe { ffi::nbd_get_size(self.raw()) }).ok()
    }

    /// What the server says of the selected export in words, where it says anything.
    pub fn description(&self) -> Option<String> {
        let text = self.string(ffi::nbd_get_export_description)?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// The server promised base:allocation, so that [`Operation::BlockStatus`] makes sense.
    pub fn can_block_status(&self) -> bool {
        // SAFETY: a live handle and a NUL-terminated string.
        unsafe { ffi::nbd_can_meta_context(self.raw(), ALLOCATION.as_ptr()) > 0 }
    }

    /// The server offers what this request asks for.
    pub fn offers(&self, command: &Command) -> bool {
        use Operation::{BlockStatus, Cache, Flush, Read, Trim, Write, Zero};
        let flags = self.flags();
        let told = |bit: u32| flags & 1 << bit != 0;
        let kind = match command.operation {
            Read => true,
            Write => !told(1),
            Flush => told(2),
            Trim => !told(1) && told(5),
            Zero => !told(1) && told(6),
            Cache => told(10),
            BlockStatus => self.can_block_status(),
            _ => false,
        };
        let fua = command.flags & 1 == 0 || told(3);
        let fast = command.operation != Zero || command.flags & 1 << 4 == 0 || told(11);
        kind && fua && fast
    }
}
