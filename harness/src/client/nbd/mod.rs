//! An NBD client over the real libnbd: what a user's client does, one connection.
//!
//! Every operation has the deadline of the client, and is written into the trace: the request before it leaves, the
//! reply once it is here, through the same cursor as the server's callbacks.

mod error;
mod ffi;
mod options;
mod pending;
mod requests;
mod tls;
mod wishes;

use std::cell::{Cell, RefCell};
use std::ffi::{CString, c_int};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use layers_trace::record::Record;
use layers_trace::writer::record;
use layers_trace::{CallId, Field, Kind, Operation, Speaker, Writer};
use rustix::event::{PollFd, PollFlags, poll};

use super::breach;
use super::patience::{LOOK, Patience};
pub use super::{ClientError, Command};
use crate::deadline::{Deadline, timespec};
use crate::protocol::ERRORS;
use error::{check, last_error, last_message};
use pending::Pending;
pub use requests::Ticket;
pub use wishes::Wishes;

/// How long a connection may stay open whose server has let go of it.
const LINGER: Duration = Duration::from_millis(200);

/// A client.
#[derive(Debug)]
pub struct NbdClient {
    handle: NonNull<ffi::Handle>,
    number: u32,
    trace: Arc<Writer>,
    deadline: Deadline,
    /// How long an answer is waited for on which work goes on.
    last: Deadline,
    pending: Vec<Pending>,
    infos: u64,
    /// What the server has sent that the protocol forbids: libnbd has given up the connection because of it.
    broken: Option<ClientError>,
    patience: Patience,
    /// It asks for structured replies while it connects.
    structures: bool,
    /// It completes STARTTLS while it connects.
    secure: bool,
}

// SAFETY: libnbd locks each handle; ours is used through `&mut self` only.
unsafe impl Send for NbdClient {}

impl Drop for NbdClient {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and is not used again; buffers of requests in flight outlive the call.
        unsafe { ffi::nbd_close(self.handle.as_ptr()) };
    }
}

impl NbdClient {
    /// Client `number`, not yet connected. Its operations together take no longer than until `deadline`.
    pub fn new(
        number: u32,
        wishes: Wishes,
        trace: Arc<Writer>,
        deadline: Deadline,
    ) -> Result<NbdClient, ClientError> {
        // SAFETY: no preconditions.
        let handle = NonNull::new(unsafe { ffi::nbd_create() }).ok_or_else(last_error)?;
        let infos = wishes::infos(wishes);
        let patience = Patience::new(Arc::clone(&trace));
        let client = NbdClient {
            handle,
            number,
            trace,
            deadline,
            last: deadline,
            pending: Vec::new(),
            infos,
            broken: None,
            patience,
            structures: wishes.structured_replies,
            secure: false,
        };
        let h = client.raw();
        // SAFETY: a live handle, not yet connected; the string is NUL-terminated.
        unsafe {
            check(ffi::nbd_set_opt_mode(h, true))?;
            check(ffi::nbd_set_full_info(h, wishes.full_info))?;
            check(ffi::nbd_set_request_block_size(h, wishes.block_size))?;
            check(ffi::nbd_set_request_structured_replies(h, wishes.structured_replies))?;
            if wishes.structured_replies && wishes.meta_context {
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

    fn question(&self, ask: ffi::Question) -> bool {
        // SAFETY: a live handle; the functions in question take nothing else.
        unsafe { ask(self.raw()) > 0 }
    }

    fn entry(&self, kind: Kind, operation: Operation) -> Record {
        Record { handle: self.number, ..record(kind, 0, operation as u8) }
    }

    fn request(&self, operation: Operation, fill: Record, texts: &[(Field, &[u8])]) -> CallId {
        let record = self.entry(Kind::Request, operation);
        self.trace.enter(
            Record { a: fill.a, b: fill.b, c: fill.c, d: fill.d, context: fill.context, ..record },
            texts,
        )
    }

    /// A request that libnbd has not even sent.
    fn unsent(&self, operation: Operation, call: CallId, error: &ClientError) {
        if call != CallId::LOST {
            let (a, c) = ((-1_i64).cast_unsigned(), error.errno());
            self.trace.exit(call, Record { a, c, ..self.entry(Kind::Reply, operation) }, &[]);
        }
    }

    fn reply<T>(
        &self,
        operation: Operation,
        call: CallId,
        result: &Result<T, ClientError>,
        flags: u64,
        texts: &[(Field, &[u8])],
    ) {
        self.reply_with(operation, call, result, Record { b: flags, ..Record::default() }, texts);
    }

    /// The same, with `b`, `d` and `context` of `fill`.
    fn reply_with<T>(
        &self,
        operation: Operation,
        call: CallId,
        result: &Result<T, ClientError>,
        fill: Record,
        texts: &[(Field, &[u8])],
    ) {
        // The harness's own questions are not in the trace, and so neither are their answers.
        if call == CallId::LOST {
            return;
        }
        let (a, c) = match result {
            Ok(_) => (0, 0),
            Err(error) => ((-1_i64).cast_unsigned(), error.errno()),
        };
        let speaker = speaker(operation, result).map_or(0, |speaker| speaker as u8);
        let entry = self.entry(Kind::Reply, operation);
        let Record { b, d, context, .. } = fill;
        self.trace.exit(call, Record { a, b, c, d, context, layer: speaker, ..entry }, texts);
    }

    /// Keeps in mind, and writes into the trace, what libnbd complains of, if that is the server's fault.
    fn complains(&mut self) {
        let message = last_message();
        if let Some(kind) = breach::of_libnbd(&message).filter(|_| self.broken.is_none()) {
            let call = self.pending.first().map(|pending| pending.call);
            breach::note_as(&self.trace, self.number, call, kind, &message);
            self.broken = Some(breach::breach(kind, message));
        }
    }

    /// Why there is no connection any more.
    fn gone(&self) -> ClientError {
        self.broken.clone().unwrap_or(ClientError::Gone)
    }

    /// The same for an answer: of a server that has nothing to do none is waited for.
    fn until_answered(&mut self, done: impl Fn(&NbdClient) -> bool) -> Result<(), ClientError> {
        self.patience.begin();
        let given_up = std::cell::Cell::new(false);
        self.until(|client| {
            let over = done(client);
            given_up.set(!over && client.patience.is_over());
            over || given_up.get()
        })?;
        if given_up.get() { Err(ClientError::Timeout) } else { Ok(()) }
    }

    /// Lets libnbd work until `done` says so, or the connection or the time is gone.
    fn until(&mut self, done: impl Fn(&NbdClient) -> bool) -> Result<(), ClientError> {
        loop {
            if done(self) {
                return Ok(());
            }
            if self.question(ffi::nbd_aio_is_dead) || self.question(ffi::nbd_aio_is_closed) {
                return Err(self.gone());
            }
            if self.deadline.passed() {
                if self.last.passed() || !self.patience.sees_work() {
                    return Err(ClientError::Timeout);
                }
                self.deadline = Deadline::after(LOOK);
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
        if !poll(&mut watched, Some(&timespec(self.deadline.left().min(LOOK)))).is_ok_and(|ready| ready > 0) {
            return;
        }
        let over = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        let seen = watched.map(|one| one.revents()).into_iter().fold(PollFlags::empty(), PollFlags::union);
        // SAFETY: a live handle.
        let went = unsafe {
            if reads && seen.intersects(PollFlags::IN | over) {
                ffi::nbd_aio_notify_read(self.raw())
            } else if writes && seen.intersects(PollFlags::OUT | over) {
                ffi::nbd_aio_notify_write(self.raw())
            } else {
                0
            }
        };
        if went < 0 {
            self.complains();
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
        let upgrade = self.upgrades();
        // SAFETY: a live handle and a NUL-terminated path.
        let started = unsafe { ffi::nbd_aio_connect_unix(self.raw(), path.as_ptr()) };
        let result = self.connected(started);
        self.greeted(call, &result);
        self.upgraded(upgrade, &result);
        self.note_structured_replies(&result);
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
        self.greeted(call, &result);
        self.note_structured_replies(&result);
        result
    }

    /// NBD_OPT_ABORT, then waits for the end of the connection.
    pub fn abort(&mut self) -> Result<(), ClientError> {
        let call = self.request(Operation::Abort, Record::default(), &[]);
        // SAFETY: a live handle.
        let started = check(unsafe { ffi::nbd_aio_opt_abort(self.raw()) });
        let result = started.and_then(|()| self.until_closed(|_| false));
        self.reply(Operation::Abort, call, &result, 0, &[]);
        result
    }

    /// NBD_CMD_DISC, then waits for the server to close.
    pub fn disconnect(&mut self) -> Result<(), ClientError> {
        let call = self.request(Operation::Disconnect, Record::default(), &[]);
        // SAFETY: a live handle.
        let started = check(unsafe { ffi::nbd_aio_disconnect(self.raw(), 0) });
        let result = started.and_then(|()| self.until_closed(|_| false));
        self.reply(Operation::Disconnect, call, &result, 0, &[]);
        result
    }

    /// The same, but waits only a moment longer once `served` says that the server has let go of this client: somebody
    /// else, a child of the server, may hold the socket open.
    pub fn disconnect_once(&mut self, served: impl FnMut() -> bool) -> Result<(), ClientError> {
        let call = self.request(Operation::Disconnect, Record::default(), &[]);
        // SAFETY: a live handle.
        let started = check(unsafe { ffi::nbd_aio_disconnect(self.raw(), 0) });
        let served = RefCell::new(served);
        let last: Cell<Option<Deadline>> = Cell::new(None);
        let enough = |_: &NbdClient| {
            if last.get().is_none() && (served.borrow_mut())() {
                last.set(Some(Deadline::after(LINGER)));
            }
            last.get().is_some_and(Deadline::passed)
        };
        let result = started.and_then(|()| self.until_closed(enough));
        self.reply(Operation::Disconnect, call, &result, 0, &[]);
        result
    }

    fn until_closed(&mut self, enough: impl Fn(&NbdClient) -> bool) -> Result<(), ClientError> {
        match self.until(enough) {
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

    /// From now on its operations together take no longer than until then.
    pub fn set_deadline(&mut self, deadline: Deadline) {
        self.set_deadlines(deadline, deadline);
    }

    /// The same; as long as callbacks come and go when the first one has passed, the other one counts: what is slow and
    /// steady does not hang.
    pub fn set_deadlines(&mut self, deadline: Deadline, last: Deadline) {
        (self.deadline, self.last) = (deadline, last);
    }

    /// The connection is over, from whichever end.
    pub fn is_over(&self) -> bool {
        self.question(ffi::nbd_aio_is_dead) || self.question(ffi::nbd_aio_is_closed)
    }

    /// The connection takes requests.
    pub fn is_ready(&self) -> bool {
        self.question(ffi::nbd_aio_is_ready)
    }
}

/// Who gives the answer to a request: libnbd has errors of its own, too, of which these are none.
fn speaker<T>(operation: Operation, result: &Result<T, ClientError>) -> Option<Speaker> {
    let servers = match result {
        Ok(_) => true,
        Err(ClientError::Refused { errno, .. }) => ERRORS.contains(errno),
        Err(_) => false,
    };
    (servers && operation.is_data()).then_some(Speaker::Repeated)
}
