//! The transmission phase: requests, their answers, and whether there still are any.

use layers_trace::record::Record;
use layers_trace::{CallId, Operation};

use super::pending::{Answer, Pending};
use super::{ClientError, Command, NbdClient, ffi, last_error};

/// A request in flight.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a request that nobody waits for has no reply in the trace"]
pub struct Ticket(u64);

impl NbdClient {
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
        self.send_pending(command, Pending::new(command, CallId::LOST))
    }

    /// Sends a write of these bytes without waiting.
    pub fn send_data(&mut self, offset: u64, data: Vec<u8>, flags: u32) -> Result<Ticket, ClientError> {
        let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let command = Command { operation: Operation::Write, offset, count, flags };
        self.send_pending(command, Pending::of_data(command, CallId::LOST, data))
    }

    fn send_pending(&mut self, command: Command, mut pending: Pending) -> Result<Ticket, ClientError> {
        let sent = pending.sent(self.trace.has_digests());
        let fill = Record { a: command.offset, c: command.count, d: command.flags, ..sent };
        let call = self.request(command.operation, fill, &[]);
        pending.call = call;
        match pending.start(self.handle) {
            Ok(cookie) => {
                self.pending.push(pending);
                Ok(Ticket(cookie))
            }
            Err(error) => {
                self.unsent(command.operation, call, &error);
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
                self.reply_to(pending, &result);
            }
            return Err(ClientError::Timeout);
        }
        let pending = self.pending.swap_remove(index);
        self.reply_to(&pending, &result);
        result.map(|()| pending.into_answer())
    }

    /// Records the answer to a request, with what it has told of data.
    fn reply_to(&self, pending: &Pending, result: &Result<(), ClientError>) {
        // After a time-out libnbd may still write to the buffer.
        let digests = self.trace.has_digests() && *result != Err(ClientError::Timeout);
        let (came, texts) = pending.came(digests);
        let texts: Vec<_> = texts.iter().map(|(field, bytes)| (*field, bytes.as_slice())).collect();
        self.reply_with(pending.command.operation, pending.call, result, came, &texts);
    }

    /// Waits for the answers to all requests that were left behind, also where one of them is an error.
    pub fn answers(&mut self) -> Result<(), ClientError> {
        let cookies: Vec<u64> = self.pending.iter().map(|pending| pending.cookie).collect();
        let answered: Vec<_> =
            cookies.into_iter().map(|cookie| self.wait(Ticket(cookie)).map(drop)).collect();
        answered.into_iter().collect()
    }

    fn answer(&mut self, cookie: u64) -> Result<(), ClientError> {
        // 1: done, 0: not yet, -1: done and failed.
        let outcome = std::cell::Cell::new(0);
        self.until_answered(|client| {
            // SAFETY: a live handle and a cookie that libnbd gave for it.
            outcome.set(unsafe { ffi::nbd_aio_command_completed(client.raw(), cookie) });
            outcome.get() != 0
        })?;
        if outcome.get() >= 0 {
            return Ok(());
        }
        let error = last_error();
        // What libnbd makes of a reply that is not whole; no server sends it.
        if matches!(error, ClientError::Refused { errno: libc::EPROTO, .. }) {
            self.complains();
            return Err(self.gone());
        }
        Err(error)
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

    /// Nobody waits for this request now; [`NbdClient::answers`] may, later.
    pub fn leave_behind(&self, ticket: Ticket) {
        let Ticket(_) = ticket;
    }
}
