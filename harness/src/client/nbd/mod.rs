//! An NBD client over the real libnbd: what a user's client does, one connection.
//!
//! Every operation has the deadline of the client, and is written into the trace: the request before it leaves, the
//! reply once it is here, through the same cursor as the server's callbacks.

mod ffi;
mod pending;

use std::ffi::{CStr, CString, c_int};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use layers_trace::record::Record;
use layers_trace::writer::record;
use layers_trace::{CallId, Field, Kind, Operation, Writer};
use rustix::event::{PollFd, PollFlags, poll};

pub use super::{ClientError, Command};
use crate::deadline::{Deadline, timespec};
use ffi::Closure;
use pending::{Answer, Pending};

/// Transmission flags of the protocol, rebuilt from what libnbd says of the export.
const FLAG_BITS: &[(u32, Question)] = &[
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
type Question = unsafe extern "C" fn(*mut ffi::Handle) -> c_int;

/// Bits of NBD_INFO types in the trace: the type's number.
const INFO_NAME: u64 = 1 << 1;
const INFO_DESCRIPTION: u64 = 1 << 2;
const INFO_BLOCK_SIZE: u64 = 1 << 3;

/// What a client wants of its connection, before it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// Ask for NBD_INFO_BLOCK_SIZE.
    pub block_size: bool,
    /// Ask for NBD_INFO_NAME and NBD_INFO_DESCRIPTION.
    pub full_info: bool,
    /// Negotiate structured replies, and with them base:allocation.
    pub structured_replies: bool,
}

impl Default for Wishes {
    fn default() -> Wishes {
        Wishes { block_size: true, full_info: true, structured_replies: true }
    }
}

/// A client.
#[derive(Debug)]
pub struct Client {
    handle: NonNull<ffi::Handle>,
    number: u32,
    trace: Arc<Writer>,
    deadline: Deadline,
    pending: Vec<Pending>,
    infos: u64,
}

// SAFETY: libnbd locks each handle; ours is used through `&mut self` only.
unsafe impl Send for Client {}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and is not used again; buffers of requests in flight outlive the call.
        unsafe { ffi::nbd_close(self.handle.as_ptr()) };
    }
}

impl Client {
    /// Client `number`, not yet connected. Its operations together take no longer than until `deadline`.
    pub fn new(
        number: u32,
        wishes: Wishes,
        trace: Arc<Writer>,
        deadline: Deadline,
    ) -> Result<Client, ClientError> {
        // SAFETY: no preconditions.
        let handle = NonNull::new(unsafe { ffi::nbd_create() }).ok_or_else(last_error)?;
        let mut infos = 1;
        infos |= if wishes.full_info { INFO_NAME | INFO_DESCRIPTION } else { 0 };
        infos |= if wishes.block_size { INFO_BLOCK_SIZE } else { 0 };
        let client = Client { handle, number, trace, deadline, pending: Vec::new(), infos };
        let h = client.raw();
        // SAFETY: a live handle, not yet connected; the string is NUL-terminated.
        unsafe {
            check(ffi::nbd_set_opt_mode(h, true))?;
            check(ffi::nbd_set_full_info(h, wishes.full_info))?;
            check(ffi::nbd_set_request_block_size(h, wishes.block_size))?;
            check(ffi::nbd_set_request_structured_replies(h, wishes.structured_replies))?;
            if wishes.structured_replies {
                check(ffi::nbd_add_meta_context(h, c"base:allocation".as_ptr()))?;
            }
            // What is sent is the scenario's business, the answer is the server's.
            check(ffi::nbd_set_strict_mode(h, 0))?;
        }
        Ok(client)
    }

    fn raw(&self) -> *mut ffi::Handle {
        self.handle.as_ptr()
    }

    fn question(&self, ask: Question) -> bool {
        // SAFETY: a live handle; the functions in question take nothing else.
        unsafe { ask(self.raw()) > 0 }
    }

    fn entry(&self, kind: Kind, operation: Operation) -> Record {
        Record { handle: self.number, ..record(kind, 0, operation as u8) }
    }

    fn request(&self, operation: Operation, fill: Record, texts: &[(Field, &[u8])]) -> CallId {
        let record = self.entry(Kind::Request, operation);
        self.trace.enter(Record { a: fill.a, b: fill.b, c: fill.c, d: fill.d, ..record }, texts)
    }

    fn reply<T>(
        &self,
        operation: Operation,
        call: CallId,
        result: &Result<T, ClientError>,
        flags: u64,
        texts: &[(Field, &[u8])],
    ) {
        let (a, c) = match result {
            Ok(_) => (0, 0),
            Err(error) => ((-1_i64).cast_unsigned(), error.errno()),
        };
        self.trace.exit(call, Record { a, b: flags, c, ..self.entry(Kind::Reply, operation) }, texts);
    }

    /// Lets libnbd work until `done` says so, or the connection or the time is gone.
    fn until(&mut self, done: impl Fn(&Client) -> bool) -> Result<(), ClientError> {
        loop {
            if done(self) {
                return Ok(());
            }
            if self.question(ffi::nbd_aio_is_dead) || self.question(ffi::nbd_aio_is_closed) {
                return Err(ClientError::Gone);
            }
            if self.deadline.passed() {
                return Err(ClientError::Timeout);
            }
            self.turn();
        }
    }

    /// Waits for the connection to be ready for what libnbd wants next, and lets it do that. Errors show in the state.
    ///
    /// Not nbd_poll(3): while it connects, libnbd 1.14 takes a peer that has already gone for something to read, does
    /// nothing about it, and so never leaves that state.
    fn turn(&mut self) {
        // SAFETY: a live handle; the descriptor is libnbd's and stays open during the call.
        let (direction, socket) = unsafe {
            let socket = ffi::nbd_aio_get_fd(self.raw());
            if socket < 0 {
                return;
            }
            (ffi::nbd_aio_get_direction(self.raw()), BorrowedFd::borrow_raw(socket))
        };
        let (reads, writes) = (direction & ffi::DIRECTION_READ != 0, direction & ffi::DIRECTION_WRITE != 0);
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, reads);
        events.set(PollFlags::OUT, writes);
        let mut watched = [PollFd::from_borrowed_fd(socket, events)];
        if !poll(&mut watched, Some(&timespec(self.deadline.left()))).is_ok_and(|ready| ready > 0) {
            return;
        }
        let over = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        let seen = watched.map(|one| one.revents()).into_iter().fold(PollFlags::empty(), PollFlags::union);
        // SAFETY: a live handle.
        unsafe {
            if reads && seen.intersects(PollFlags::IN | over) {
                ffi::nbd_aio_notify_read(self.raw());
            } else if writes && seen.intersects(PollFlags::OUT | over) {
                ffi::nbd_aio_notify_write(self.raw());
            }
        }
    }

    fn connected(&mut self, started: c_int) -> Result<(), ClientError> {
        check(started)?;
        // A server that speaks the oldstyle protocol does not negotiate.
        self.until(|client| client.question(ffi::nbd_aio_is_negotiating) || client.is_ready())
            .map_err(|error| if error == ClientError::Gone { last_error() } else { error })
    }

    /// Connects to a unix socket and reads the greeting.
    pub fn connect(&mut self, socket: &Path) -> Result<(), ClientError> {
        use std::os::unix::ffi::OsStrExt;
        let path = CString::new(socket.as_os_str().as_bytes()).map_err(|_| ClientError::Nul)?;
        let call = self.request(Operation::Connect, Record::default(), &[]);
        // SAFETY: a live handle and a NUL-terminated path.
        let started = unsafe { ffi::nbd_aio_connect_unix(self.raw(), path.as_ptr()) };
        let result = self.connected(started);
        self.reply(Operation::Connect, call, &result, 0, &[]);
        result
    }

    /// Takes over a connected socket and reads the greeting.
    pub fn connect_socket(&mut self, socket: OwnedFd) -> Result<(), ClientError> {
        let call = self.request(Operation::Connect, Record::default(), &[]);
        // libnbd closes the descriptor it is given.
        let socket = std::os::fd::IntoRawFd::into_raw_fd(socket);
        // SAFETY: a live handle and an open descriptor that is libnbd's from here on.
        let started = unsafe { ffi::nbd_aio_connect_socket(self.raw(), socket) };
        let result = self.connected(started);
        self.reply(Operation::Connect, call, &result, 0, &[]);
        result
    }

    fn option_done(&mut self, started: c_int, error: &c_int) -> Result<(), ClientError> {
        check(started)?;
        self.until(|client| !client.question(ffi::nbd_aio_is_connecting))?;
        match std::hint::black_box(*error) {
            0 => Ok(()),
            errno => Err(ClientError::Refused { message: last_message(), errno }),
        }
    }

    /// NBD_OPT_LIST: names and descriptions.
    pub fn list(&mut self) -> Result<Vec<(String, String)>, ClientError> {
        let call = self.request(Operation::List, Record::default(), &[]);
        let mut exports: Vec<(String, String)> = Vec::new();
        let mut error: c_int = 0;
        let list = Closure {
            callback: Some(pending::collect_export as ffi::ListFn),
            user_data: (&raw mut exports).cast(),
            free: None,
        };
        let done = pending::note_error(&mut error);
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
        let mut error: c_int = 0;
        let done = pending::note_error(&mut error);
        // SAFETY: a live handle, a NUL-terminated name that libnbd copies, and a closure as in `list`.
        let started = unsafe {
            match ffi::nbd_set_export_name(self.raw(), name.as_ptr()) {
                0 => option(self.raw(), done),
                failed => failed,
            }
        };
        let result = self.option_done(started, &error);
        self.give_up_unless_over(&result);
        let mut texts: Vec<(Field, Vec<u8>)> = Vec::new();
        if result.is_ok() && self.infos & INFO_NAME != 0 {
            let canonical = self.string(ffi::nbd_get_canonical_export_name);
            texts.extend(canonical.map(|name| (Field::Export, name)));
            let description = self.string(ffi::nbd_get_export_description);
            texts.extend(description.map(|text| (Field::Description, text)));
        }
        let texts: Vec<(Field, &[u8])> =
            texts.iter().map(|(field, text)| (*field, text.as_slice())).collect();
        let flags = if result.is_ok() { self.flags() } else { 0 };
        self.reply(operation, call, &result, flags, &texts);
        result
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

    /// The server promised base:allocation, so that [`Operation::BlockStatus`] makes sense.
    pub fn can_block_status(&self) -> bool {
        // SAFETY: a live handle and a NUL-terminated string.
        unsafe { ffi::nbd_can_meta_context(self.raw(), c"base:allocation".as_ptr()) > 0 }
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

    /// NBD_OPT_ABORT, then waits for the end of the connection.
    pub fn abort(&mut self) -> Result<(), ClientError> {
        let call = self.request(Operation::Abort, Record::default(), &[]);
        // SAFETY: a live handle.
        let started = check(unsafe { ffi::nbd_aio_opt_abort(self.raw()) });
        let result = started.and_then(|()| self.until_closed());
        self.reply(Operation::Abort, call, &result, 0, &[]);
        result
    }

    /// NBD_CMD_DISC, then waits for the server to close.
    pub fn disconnect(&mut self) -> Result<(), ClientError> {
        let call = self.request(Operation::Disconnect, Record::default(), &[]);
        // SAFETY: a live handle.
        let started = check(unsafe { ffi::nbd_aio_disconnect(self.raw(), 0) });
        let result = started.and_then(|()| self.until_closed());
        self.reply(Operation::Disconnect, call, &result, 0, &[]);
        result
    }

    fn until_closed(&mut self) -> Result<(), ClientError> {
        match self.until(|_| false) {
            Err(ClientError::Gone) => Ok(()),
            other => other,
        }
    }

    /// Closes the socket without a word.
    pub fn hang_up(self) {
        let call = self.request(Operation::Hangup, Record::default(), &[]);
        let (trace, number) = (Arc::clone(&self.trace), self.number);
        drop(self);
        trace.exit(call, Record { handle: number, ..record(Kind::Reply, 0, Operation::Hangup as u8) }, &[]);
    }

    /// The connection is over, from whichever end.
    pub fn is_over(&self) -> bool {
        self.question(ffi::nbd_aio_is_dead) || self.question(ffi::nbd_aio_is_closed)
    }

    /// The connection takes requests.
    pub fn is_ready(&self) -> bool {
        self.question(ffi::nbd_aio_is_ready)
    }

    /// Sends a request and waits for its answer. A read gives its bytes.
    pub fn command(&mut self, command: Command) -> Result<Vec<u8>, ClientError> {
        let ticket = self.send(command)?;
        self.wait(ticket)
    }

    /// Asks for the extents of a range: lengths and flags, in order.
    pub fn extents(&mut self, offset: u64, count: u32, flags: u32) -> Result<Vec<(u32, u32)>, ClientError> {
        let ticket = self.send(Command { operation: Operation::BlockStatus, offset, count, flags })?;
        self.answered(ticket).map(|answer| answer.extents)
    }

    /// Sends a request without waiting. A write carries a pattern that tells its offset.
    pub fn send(&mut self, command: Command) -> Result<Ticket, ClientError> {
        self.send_pending(command, |call| Pending::new(command, call))
    }

    /// Sends a write of these bytes without waiting.
    pub fn send_data(&mut self, offset: u64, data: &[u8], flags: u32) -> Result<Ticket, ClientError> {
        let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let command = Command { operation: Operation::Write, offset, count, flags };
        self.send_pending(command, |call| Pending::of_data(command, call, data))
    }

    fn send_pending(
        &mut self,
        command: Command,
        pending: impl FnOnce(CallId) -> Pending,
    ) -> Result<Ticket, ClientError> {
        let fill = Record { a: command.offset, c: command.count, d: command.flags, ..Record::default() };
        let call = self.request(command.operation, fill, &[]);
        let mut pending = pending(call);
        match pending.start(self.handle) {
            Ok(cookie) => {
                self.pending.push(pending);
                Ok(Ticket(cookie))
            }
            Err(error) => {
                self.reply(command.operation, call, &Err::<(), _>(error.clone()), 0, &[]);
                Err(error)
            }
        }
    }

    /// Waits for the answer to a request.
    pub fn wait(&mut self, ticket: Ticket) -> Result<Vec<u8>, ClientError> {
        self.answered(ticket).map(|answer| answer.bytes)
    }

    fn answered(&mut self, ticket: Ticket) -> Result<Answer, ClientError> {
        let cookie = ticket.0;
        let result = self.answer(cookie);
        let Some(index) = self.pending.iter().position(|pending| pending.cookie == cookie) else {
            return Err(ClientError::Gone);
        };
        if matches!(result, Err(ClientError::Timeout)) {
            // libnbd still owns the buffer; it stays until the handle is closed.
            if let Some(pending) = self.pending.get(index) {
                self.reply(pending.command.operation, pending.call, &result, 0, &[]);
            }
            return Err(ClientError::Timeout);
        }
        let pending = self.pending.swap_remove(index);
        self.reply(pending.command.operation, pending.call, &result, 0, &[]);
        result.map(|()| pending.into_answer())
    }

    /// Waits for the answers to all requests that were left behind.
    pub fn answers(&mut self) -> Result<(), ClientError> {
        let cookies: Vec<u64> = self.pending.iter().map(|pending| pending.cookie).collect();
        cookies.into_iter().try_for_each(|cookie| self.wait(Ticket(cookie)).map(drop))
    }

    fn answer(&mut self, cookie: u64) -> Result<(), ClientError> {
        // 1: done, 0: not yet, -1: done and failed.
        let outcome = std::cell::Cell::new(0);
        self.until(|client| {
            // SAFETY: a live handle and a cookie that libnbd gave for it.
            outcome.set(unsafe { ffi::nbd_aio_command_completed(client.raw(), cookie) });
            outcome.get() != 0
        })?;
        if outcome.get() < 0 { Err(last_error()) } else { Ok(()) }
    }

    /// Waits until the server shows that it is shutting down: it refuses a request (ESHUTDOWN), or ends the connection
    /// instead of reading one.
    ///
    /// The question is a block status, which reaches no layer if the outermost one has no extents; it is no request of
    /// the scenario's and is not written into the trace.
    pub fn await_shutdown(&mut self) -> Result<(), ClientError> {
        let question = Command { operation: Operation::BlockStatus, offset: 0, count: 512, flags: 0 };
        loop {
            let mut pending = Pending::new(question, CallId::LOST);
            let cookie = match pending.start(self.handle) {
                Ok(cookie) => cookie,
                Err(_) if self.is_over() => return Ok(()),
                Err(error) => return Err(error),
            };
            self.pending.push(pending);
            match self.answer(cookie) {
                Ok(()) if self.deadline.passed() => return Err(ClientError::Timeout),
                Ok(()) => self.pending.retain(|pending| pending.cookie != cookie),
                Err(ClientError::Refused { errno: libc::ESHUTDOWN, .. }) => {
                    self.pending.retain(|pending| pending.cookie != cookie);
                    return Ok(());
                }
                Err(_) if self.is_over() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Nobody waits for this request now; [`Client::answers`] may, later.
    pub fn leave_behind(&self, ticket: Ticket) {
        let Ticket(_) = ticket;
    }
}

/// A request in flight.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a request that nobody waits for has no reply in the trace"]
pub struct Ticket(u64);

fn check(result: c_int) -> Result<(), ClientError> {
    if result < 0 { Err(last_error()) } else { Ok(()) }
}

fn last_error() -> ClientError {
    // SAFETY: no preconditions; the error belongs to this thread.
    let errno = unsafe { ffi::nbd_get_errno() };
    ClientError::Refused { message: last_message(), errno: if errno == 0 { libc::EIO } else { errno } }
}

fn last_message() -> String {
    // SAFETY: no preconditions; the string belongs to this thread and lives until its next call of libnbd.
    unsafe {
        let message = ffi::nbd_get_error();
        if message.is_null() {
            return "libnbd does not say why".to_owned();
        }
        CStr::from_ptr(message).to_string_lossy().into_owned()
    }
}
