//! A client of HAProxy's command line, on a unix socket. What it sends and gets goes into the trace.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use layers_trace::record::Record;
use layers_trace::writer::record;
use layers_trace::{CallId, Field, Kind, Operation, Writer};

use crate::deadline::Deadline;

/// Bytes of an answer that are kept; what comes after is read and counted only.
const MOST_KEPT: usize = 1 << 20;
/// Bytes of what was sent or got that go into the trace.
const MOST_RECORDED: usize = 200;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// No answer before the deadline.
    #[error("no answer before the deadline")]
    Timeout,
    /// The server has closed the connection.
    #[error("the server has closed the connection")]
    Closed,
    /// Anything else.
    #[error(transparent)]
    Io(std::io::Error),
    /// It answers, but not as it should.
    #[error("{0}")]
    Other(String),
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> CliError {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => CliError::Timeout,
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => CliError::Closed,
            _ => CliError::Io(error),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    number: u32,
    stream: UnixStream,
    trace: Arc<Writer>,
    deadline: Deadline,
}

impl Client {
    /// Connects.
    pub fn connect(
        number: u32,
        socket: &Path,
        trace: Arc<Writer>,
        deadline: Deadline,
    ) -> Result<Client, CliError> {
        let call = begin(&trace, number, Operation::Connect, &[]);
        let stream = UnixStream::connect(socket);
        end(&trace, number, Operation::Connect, call, if stream.is_ok() { 0 } else { -1 }, &[]);
        Ok(Client { number, stream: stream?, trace, deadline })
    }

    /// A client of a connection that is there already.
    pub fn connected(number: u32, stream: UnixStream, trace: Arc<Writer>, deadline: Deadline) -> Client {
        Client { number, stream, trace, deadline }
    }

    /// From now on this is its deadline.
    pub fn hurry(&mut self, deadline: Deadline) {
        self.deadline = deadline;
    }

    /// Sends all of it.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.recorded(Operation::Send, bytes, |client| {
            client.stream.write_all(bytes)?;
            Ok((bytes.len() as i64, Vec::new()))
        })
        .map(drop)
    }

    /// Reads until what was read ends like this.
    pub fn read_until(&mut self, ending: &[u8]) -> Result<Vec<u8>, CliError> {
        self.recorded(Operation::Receive, &[], |client| {
            let mut got = Vec::new();
            while !got.ends_with(ending) {
                client.read_some(&mut got)?;
            }
            Ok((got.len() as i64, got))
        })
    }

    /// Reads at least so many bytes.
    pub fn read_bytes(&mut self, count: usize) -> Result<Vec<u8>, CliError> {
        self.recorded(Operation::Receive, &[], |client| {
            let mut got = Vec::new();
            while got.len() < count {
                client.read_some(&mut got)?;
            }
            Ok((got.len() as i64, got))
        })
    }

    /// Reads until the server closes the connection.
    pub fn read_to_end(&mut self) -> Result<Vec<u8>, CliError> {
        self.recorded(Operation::Receive, &[], |client| {
            let mut got = Vec::new();
            loop {
                match client.read_some(&mut got) {
                    Ok(()) => {}
                    Err(CliError::Closed) => return Ok((got.len() as i64, got)),
                    Err(error) => return Err(error),
                }
            }
        })
    }

    fn read_some(&mut self, got: &mut Vec<u8>) -> Result<(), CliError> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        let mut buffer = [0; 16384];
        let count = self.stream.read(&mut buffer)?;
        if count == 0 {
            return Err(CliError::Closed);
        }
        if got.len() < MOST_KEPT {
            got.extend(buffer.iter().take(count));
        }
        Ok(())
    }

    /// Nothing more is sent.
    pub fn half_close(&mut self) -> Result<(), CliError> {
        self.recorded(Operation::HalfClose, &[], |client| {
            client.stream.shutdown(Shutdown::Write)?;
            Ok((0, Vec::new()))
        })
        .map(drop)
    }

    /// Closes the socket without a word.
    pub fn hang_up(self) {
        let Client { number, stream, trace, .. } = self;
        let call = begin(&trace, number, Operation::Hangup, &[]);
        drop(stream);
        end(&trace, number, Operation::Hangup, call, 0, &[]);
    }

    fn left(&self) -> Result<Duration, CliError> {
        Some(self.deadline.left()).filter(|left| !left.is_zero()).ok_or(CliError::Timeout)
    }

    fn recorded(
        &mut self,
        operation: Operation,
        sent: &[u8],
        act: impl FnOnce(&mut Client) -> Result<(i64, Vec<u8>), CliError>,
    ) -> Result<Vec<u8>, CliError> {
        let trace = Arc::clone(&self.trace);
        let call = begin(&trace, self.number, operation, sent);
        let outcome = act(self);
        let (result, got) = match &outcome {
            Ok((result, got)) => (*result, got.as_slice()),
            Err(_) => (-1, &[][..]),
        };
        end(&trace, self.number, operation, call, result, got);
        outcome.map(|(_, got)| got)
    }
}

fn beginning(bytes: &[u8]) -> &[u8] {
    bytes.get(..MOST_RECORDED).unwrap_or(bytes)
}

fn begin(trace: &Writer, client: u32, operation: Operation, bytes: &[u8]) -> CallId {
    let request = Record { handle: client, ..record(Kind::Request, 0, operation as u8) };
    let texts: &[(Field, &[u8])] = &[(Field::Bytes, beginning(bytes))];
    trace.enter(request, if bytes.is_empty() { &[] } else { texts })
}

fn end(trace: &Writer, client: u32, operation: Operation, call: CallId, result: i64, bytes: &[u8]) {
    let reply =
        Record { handle: client, a: result.cast_unsigned(), ..record(Kind::Reply, 0, operation as u8) };
    let texts: &[(Field, &[u8])] = &[(Field::Bytes, beginning(bytes))];
    trace.exit(call, reply, if bytes.is_empty() { &[] } else { texts });
}
