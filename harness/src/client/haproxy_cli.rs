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

/// Bytes of an answer that are kept, from its beginning; what comes after is read and counted.
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

/// What has come so far.
#[derive(Debug, Default)]
struct Got {
    kept: Vec<u8>,
    /// All bytes, kept or not.
    count: usize,
    /// The last bytes.
    last: Vec<u8>,
    /// The server has closed the connection.
    closed: bool,
}

impl Got {
    fn take(&mut self, bytes: &[u8], longest: usize) {
        self.count += bytes.len();
        self.kept.extend(bytes.iter().take(MOST_KEPT.saturating_sub(self.kept.len())));
        self.last.extend(bytes);
        self.last.drain(..self.last.len().saturating_sub(longest));
    }
}

/// One connection.
#[derive(Debug)]
pub struct CliClient {
    number: u32,
    stream: UnixStream,
    trace: Arc<Writer>,
    deadline: Deadline,
}

impl CliClient {
    /// Connects.
    pub fn connect(
        number: u32,
        socket: &Path,
        trace: Arc<Writer>,
        deadline: Deadline,
    ) -> Result<CliClient, CliError> {
        let call = begin(&trace, number, Operation::Connect, &[]);
        let stream = UnixStream::connect(socket);
        end(&trace, number, Operation::Connect, call, if stream.is_ok() { 0 } else { -1 }, &[]);
        if stream.is_err() {
            // It has gone, so that nobody takes it for one that stays.
            let call = begin(&trace, number, Operation::Hangup, &[]);
            end(&trace, number, Operation::Hangup, call, 0, &[]);
        }
        Ok(CliClient { number, stream: stream?, trace, deadline })
    }

    /// A client of a connection that is there already.
    pub fn connected(number: u32, stream: UnixStream, trace: Arc<Writer>, deadline: Deadline) -> CliClient {
        CliClient { number, stream, trace, deadline }
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

    /// Reads until what was read ends like this. However long that is, its deadline ends it.
    pub fn read_until(&mut self, ending: &[u8]) -> Result<Vec<u8>, CliError> {
        self.receive(ending.len(), |got| got.last.ends_with(ending))
    }

    /// Reads at least so many bytes.
    pub fn read_bytes(&mut self, count: usize) -> Result<Vec<u8>, CliError> {
        self.receive(0, |got| got.count >= count)
    }

    /// Reads until the server closes the connection.
    pub fn read_to_end(&mut self) -> Result<Vec<u8>, CliError> {
        self.receive(0, |got| got.closed)
    }

    /// Reads until it is enough; `longest` bytes of the end of what was read are there to tell by. Returns what was kept.
    fn receive(&mut self, longest: usize, is_enough: impl Fn(&Got) -> bool) -> Result<Vec<u8>, CliError> {
        self.recorded(Operation::Receive, &[], |client| {
            let mut got = Got::default();
            while !is_enough(&got) {
                if got.closed {
                    return Err(CliError::Closed);
                }
                client.read_some(&mut got, longest)?;
            }
            Ok((i64::try_from(got.count).unwrap_or(i64::MAX), got.kept))
        })
    }

    fn read_some(&mut self, got: &mut Got, longest: usize) -> Result<(), CliError> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        let mut buffer = [0; 16384];
        let count = match self.stream.read(&mut buffer).map_err(CliError::from) {
            Err(CliError::Closed) => 0,
            other => other?,
        };
        got.closed = count == 0;
        got.take(buffer.get(..count).unwrap_or_default(), longest);
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
        let CliClient { number, stream, trace, .. } = self;
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
        act: impl FnOnce(&mut CliClient) -> Result<(i64, Vec<u8>), CliError>,
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

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    /// A client, to which this is said so often before its peer hangs up.
    fn told(what: &'static [u8], times: usize) -> CliClient {
        let (stream, mut server) = UnixStream::pair().unwrap();
        std::thread::spawn(move || (0..times).try_for_each(|_| server.write_all(what)));
        let memory = std::fs::File::from(memfd_create("trace", MemfdFlags::CLOEXEC).unwrap());
        let trace = Arc::new(Writer::create(&memory, 1 << 10, 1).unwrap());
        CliClient::connected(1, stream, trace, Deadline::after(Duration::from_secs(60)))
    }

    #[test]
    fn the_end_of_an_answer_is_seen_beyond_what_is_kept() {
        let line = b"All work and no play.\n";
        let times = 3 * MOST_KEPT / line.len();
        let mut client = told(line, times);
        assert!(client.read_bytes(2 * MOST_KEPT).unwrap().len() == MOST_KEPT);
        let mut client = told(line, times);
        assert!(matches!(client.read_until(b"\n\n"), Err(CliError::Closed)));
        let mut client = told(line, times);
        assert!(client.read_to_end().unwrap().starts_with(line));
        let (stream, mut server) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            (0..times).try_for_each(|_| server.write_all(line)).and_then(|()| server.write_all(b"\n"))?;
            // Open until the client has gone.
            server.read(&mut [0])
        });
        client.stream = stream;
        assert_eq!(client.read_until(b"\n\n").unwrap().len(), MOST_KEPT);
    }
}
