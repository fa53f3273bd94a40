//! A small NBD client that says whatever a scenario asks of it, also what no honest client would: options in any order,
//! requests that the protocol forbids, half of one, several messages in one write, or nothing.
//!
//! Each message is written into the trace before its bytes leave, and each answer once it is here, as the libnbd client
//! does it. Every read and write has the deadline of the client.

mod answer;
mod chunk;
mod fan_out;
mod message;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use layers_trace::digest::digest;
use layers_trace::record::Record;
use layers_trace::writer::record;
use layers_trace::{Breach, CallId, Field, Kind, Operation, Speaker, Writer};

use super::breach::{breach, note};
use super::patience::Patience;
use super::told::{Extents, Told};
use super::{ClientError, Command};
use crate::deadline::Deadline;
use chunk::Chunks;
pub use message::{Message, info};
use socket::Socket;

/// NBD_FLAG_FIXED_NEWSTYLE and NBD_FLAG_NO_ZEROES, which have the same numbers for server and client.
const CLIENT_FLAGS: u32 = 3;

/// A client.
#[derive(Debug)]
pub struct Raw {
    number: u32,
    trace: Arc<Writer>,
    socket: Socket,
    phase: Phase,
    /// The record of a Connect whose greeting has not come.
    connecting: Option<CallId>,
    /// Messages without their whole answer, oldest first.
    asked: VecDeque<Asked>,
    cookie: u64,
    /// Transmission flags of the export.
    flags: u64,
    /// Structured replies have been negotiated.
    structured: bool,
    /// Ids of metadata contexts that the server has ever set for it.
    contexts: Vec<u32>,
    /// Its size in bytes.
    size: u64,
}

/// How far the connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    Options,
    Transmission,
    Over,
}

/// A message that is to be answered.
#[derive(Debug)]
struct Asked {
    operation: Operation,
    call: CallId,
    cookie: u64,
    /// Offset, count and flags of a request.
    command: Command,
    /// What a read has brought.
    bytes: Vec<u8>,
    /// Which bytes those are.
    covered: Told,
    /// What a block status was told.
    extents: Extents,
    /// Its number, where it is an option.
    option: Option<u32>,
    /// It was sent whole, and so has an answer.
    whole: bool,
    /// What answers so far have told: exports, descriptions.
    told: Vec<(Field, Vec<u8>)>,
    /// What has come of a structured reply.
    chunks: Option<Chunks>,
    /// Types of NBD_INFO among it, a bit each.
    types: u32,
    /// NBD_REP_ERR_*, where the option was refused with one.
    refusal: Option<u32>,
}

impl Asked {
    fn request(&self) -> chunk::Request {
        (self.operation, self.command)
    }

    /// The end of the connection is what it asks for.
    fn ends(&self) -> bool {
        matches!(self.operation, Operation::Disconnect | Operation::Abort)
    }
}

impl Raw {
    /// Client `number` connects to a unix socket, and does not wait for anything. All that it does takes no longer than
    /// until `deadline`.
    pub fn dial(
        number: u32,
        path: &Path,
        trace: Arc<Writer>,
        deadline: Deadline,
    ) -> Result<Raw, ClientError> {
        let call = begin(number, &trace);
        match Socket::connect(path, deadline) {
            Ok(socket) => Ok(Raw::with(number, socket, trace, call)),
            Err(error) => {
                let told = Record::default();
                reply_with(&trace, number, Operation::Connect, call, &Err(error.clone()), told, &[]);
                Err(error)
            }
        }
    }

    /// The same on a socket that is connected.
    pub fn on(
        number: u32,
        socket: OwnedFd,
        trace: Arc<Writer>,
        deadline: Deadline,
    ) -> Result<Raw, ClientError> {
        let call = begin(number, &trace);
        Ok(Raw::with(number, Socket::on(socket, deadline)?, trace, call))
    }

    fn with(number: u32, socket: Socket, trace: Arc<Writer>, call: CallId) -> Raw {
        Raw {
            number,
            trace,
            socket,
            phase: Phase::Greeting,
            connecting: Some(call),
            asked: VecDeque::new(),
            cookie: 0,
            flags: 0,
            structured: false,
            contexts: Vec::new(),
            size: 0,
        }
    }

    /// Waits for the greeting, and answers it. After it a newstyle server takes options, and an oldstyle one requests.
    pub fn greeting(&mut self) -> Result<(), ClientError> {
        let result = self.read_greeting();
        // Before it the server may have another client to serve.
        self.socket.be_patient(Patience::new(Arc::clone(&self.trace)));
        if let Some(call) = self.connecting.take() {
            note(&self.trace, self.number, Some(call), &result.clone().err().unwrap_or(ClientError::Gone));
            let mut told = Record { b: self.flags, ..Record::default() };
            if result.is_ok() && self.is_ready() {
                (told.context, told.d) = (self.size, 1);
            }
            reply_with(&self.trace, self.number, Operation::Connect, call, &result, told, &[]);
        }
        result
    }

    /// The connection takes requests.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Transmission
    }

    /// Sends these messages in one write, and waits for nothing.
    pub fn send(&mut self, messages: &[Message]) -> Result<(), ClientError> {
        if self.asked.iter().any(|asked| !asked.whole) {
            return Err(ClientError::cannot("the rest of a write is still to come"));
        }
        self.nothing_unasked()?;
        let mut bytes = Vec::new();
        for message in messages {
            self.cookie += 1;
            message.write(self.cookie, &mut bytes);
            let (fill, texts) = message.record();
            let operation = message.operation();
            let texts: Vec<(Field, &[u8])> =
                texts.iter().map(|(field, text)| (*field, text.as_slice())).collect();
            let entry = Record { handle: self.number, ..record(Kind::Request, 0, operation as u8) };
            let Record { a, b, c, d, .. } = fill;
            let context = match message {
                Message::Request(_) if operation == Operation::Write && self.trace.has_digests() => {
                    digest(bytes.get(bytes.len().saturating_sub(c as usize)..).unwrap_or_default())
                }
                _ => 0,
            };
            let call = self.trace.enter(Record { a, b, c, d, context, ..entry }, &texts);
            self.asked.push_back(Asked {
                operation,
                call,
                cookie: self.cookie,
                command: Command { operation, offset: fill.a, count: fill.c, flags: fill.d },
                bytes: Vec::new(),
                covered: Told::default(),
                extents: Extents::default(),
                option: message.option(),
                whole: !matches!(message, Message::Partial(..)),
                told: Vec::new(),
                chunks: None,
                types: 0,
                refusal: None,
            });
        }
        // A server that has closed shows it when its answers are read.
        match self.socket.send(&bytes) {
            Err(ClientError::Gone) => Ok(()),
            other => other,
        }
    }

    /// NBD_CMD_DISC and, as libnbd does it, the end of this direction; then waits for all answers and the end.
    pub fn disconnect(&mut self) -> Result<(), ClientError> {
        self.send(&[Message::Disconnect])?;
        // A server that has closed already is what it waits for.
        let _ = self.half_close();
        self.answers()
    }

    /// Waits for the answers to all messages that were sent whole; the error is that of the first refused one.
    pub fn answers(&mut self) -> Result<(), ClientError> {
        let mut first = Ok(());
        while self.asked.iter().any(|asked| asked.whole) {
            if self.only_the_end_is_left() {
                self.await_the_end();
                break;
            }
            let outcome = self.next_answer();
            if first.is_ok() {
                first = outcome.clone();
            }
            if outcome == Err(ClientError::Timeout) {
                break;
            }
        }
        first
    }

    /// Sends these messages in one write, then waits for all answers.
    pub fn say(&mut self, messages: &[Message]) -> Result<(), ClientError> {
        self.send(messages)?;
        self.answers()
    }

    /// Waits until the server has closed the connection.
    pub fn until_closed(&mut self) -> Result<(), ClientError> {
        while self.phase != Phase::Over {
            // Whatever else comes is of no interest here.
            if self.next_answer() == Err(ClientError::Timeout) {
                return Err(ClientError::Timeout);
            }
        }
        Ok(())
    }

    /// Tells the server that nothing more will come, and goes on listening.
    pub fn half_close(&mut self) -> Result<(), ClientError> {
        let entry = |kind| Record { handle: self.number, ..record(kind, 0, Operation::HalfClose as u8) };
        let call = self.trace.enter(entry(Kind::Request), &[]);
        let result = self.socket.half_close();
        self.trace.exit(call, entry(Kind::Reply), &[]);
        result
    }

    /// It has said goodbye, and every request has its answer.
    fn only_the_end_is_left(&self) -> bool {
        self.phase == Phase::Transmission
            && self.asked.iter().all(|asked| asked.operation == Operation::Disconnect)
    }

    /// Gives the server half of the time that is left. A server that keeps the connection beyond it is for the rules to
    /// judge, and the run goes on.
    fn await_the_end(&mut self) {
        let whole = self.socket.deadline();
        self.socket.hurry(Deadline::after(whole.left() / 2));
        while !self.asked.is_empty() {
            let _ = self.next_answer();
        }
        self.socket.hurry(whole);
    }

    /// From now on its operations together take no longer than until then.
    pub fn hurry(&mut self, deadline: Deadline) {
        self.socket.hurry(deadline);
    }

    /// While it waits for nothing, nothing has come.
    fn nothing_unasked(&mut self) -> Result<(), ClientError> {
        let quiet = matches!(self.phase, Phase::Options | Phase::Transmission) && self.asked.is_empty();
        let come = if quiet { self.socket.come() } else { 0 };
        if come == 0 {
            return Ok(());
        }
        self.phase = Phase::Over;
        let error = breach(Breach::Unasked, format!("{come} bytes that nobody has asked for"));
        self.complain(&error);
        Err(error)
    }

    /// Writes into the trace what the server has broken, if `error` is that.
    fn complain(&self, error: &ClientError) {
        note(&self.trace, self.number, self.asked.front().map(|asked| asked.call), error);
    }

    /// Closes the socket without a word.
    pub fn hang_up(mut self) {
        let _ = self.nothing_unasked();
        let Raw { number, trace, socket, .. } = self;
        let entry = |kind| Record { handle: number, ..record(kind, 0, Operation::Hangup as u8) };
        let call = trace.enter(entry(Kind::Request), &[]);
        drop(socket);
        trace.exit(call, entry(Kind::Reply), &[]);
    }

    /// This message has its whole answer.
    fn answered(&mut self, asked: &Asked, result: &Result<(), ClientError>, speaker: Option<Speaker>) {
        let extents = asked.extents.texts();
        let texts = asked.told.iter().chain(&extents);
        let texts: Vec<(Field, &[u8])> = texts.map(|(field, text)| (*field, text.as_slice())).collect();
        let selects = matches!(asked.operation, Operation::Go | Operation::ExportName | Operation::Info);
        let mut fill = match asked.operation {
            Operation::Read => asked.covered.of_read(asked.command, &asked.bytes, self.trace.has_digests()),
            Operation::BlockStatus => Record { b: asked.extents.count(), ..Record::default() },
            _ if selects && (result.is_ok() || asked.types & 1 != 0) => {
                Record { context: self.size, b: self.flags, d: asked.types, ..Record::default() }
            }
            _ => Record { d: asked.types, ..Record::default() },
        };
        if let Some(refusal) = asked.refusal {
            fill.context = refusal.into();
        }
        let fill = Record { layer: speaker.map_or(0, |speaker| speaker as u8), ..fill };
        reply_with(&self.trace, self.number, asked.operation, asked.call, result, fill, &texts);
    }
}

fn begin(number: u32, trace: &Writer) -> CallId {
    let entry = record(Kind::Request, 0, Operation::Connect as u8);
    trace.enter(Record { handle: number, ..entry }, &[])
}

/// Writes a reply into the trace, with `b`, `d`, `context` and `layer` (a [`Speaker`]) of `fill`.
fn reply_with(
    trace: &Writer,
    number: u32,
    operation: Operation,
    call: CallId,
    result: &Result<(), ClientError>,
    fill: Record,
    texts: &[(Field, &[u8])],
) {
    let (a, c) = match result {
        Ok(()) => (0, 0),
        Err(error) => ((-1_i64).cast_unsigned(), error.errno()),
    };
    let entry = Record { handle: number, ..record(Kind::Reply, 0, operation as u8) };
    let Record { b, d, context, layer, .. } = fill;
    trace.exit(call, Record { a, b, c, d, context, layer, ..entry }, texts);
}
