//! What the server answers (the NBD protocol, "Handshake", "Option reply", "Simple reply" and "Structured reply").

use layers_trace::{Field, Operation};

use super::{Asked, CLIENT_FLAGS, ClientError, Phase, Raw};

const GREETING: [u8; 8] = *b"NBDMAGIC";
const NEWSTYLE: [u8; 8] = *b"IHAVEOPT";
const OLDSTYLE: [u8; 8] = 0x0000_4202_8186_1253_u64.to_be_bytes();
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const SIMPLE_REPLY: u32 = 0x6744_6698;
const STRUCTURED_REPLY: u32 = 0x668e_33ef;

/// Types of option replies.
const ACK: u32 = 1;
const SERVER: u32 = 2;
const INFO: u32 = 3;
/// The option has failed; the rest of the number says why.
const ERROR: u32 = 1 << 31;

/// Reserved bytes after what an oldstyle server, or NBD_OPT_EXPORT_NAME, says of the export.
const ZEROES: usize = 124;
/// An option reply longer than this is not believed.
const LONGEST: usize = 1 << 20;
/// A request may bring this much data, and an answer some more.
const MOST_DATA: usize = (64 << 20) + 64;

/// Types of chunks of a structured reply.
const OFFSET_DATA: u16 = 1;
const OFFSET_HOLE: u16 = 2;
const BLOCK_STATUS: u16 = 5;

/// A message whose last answer is here, and what became of it.
type Outcome = (Asked, Result<(), ClientError>);

impl Raw {
    pub(super) fn read_greeting(&mut self) -> Result<(), ClientError> {
        let result = self.greeted();
        if result.is_err() {
            self.phase = Phase::Over;
        }
        result
    }

    fn greeted(&mut self) -> Result<(), ClientError> {
        if self.socket.take()? != GREETING {
            return Err(not_the_protocol("a greeting"));
        }
        match self.socket.take()? {
            NEWSTYLE => {
                let _server_flags = u16::from_be_bytes(self.socket.take()?);
                self.phase = Phase::Options;
                self.socket.send(&CLIENT_FLAGS.to_be_bytes())
            }
            OLDSTYLE => {
                let _size = u64::from_be_bytes(self.socket.take()?);
                let _server_flags = u16::from_be_bytes(self.socket.take()?);
                self.flags = u16::from_be_bytes(self.socket.take()?).into();
                let _reserved = self.socket.take::<ZEROES>()?;
                self.phase = Phase::Transmission;
                Ok(())
            }
            _ => Err(not_the_protocol("a greeting")),
        }
    }

    /// Reads one answer, or a part of one. When it was the last part the message is no longer waited for, and the
    /// result is that of the message; the end of the connection is the answer to all that are left.
    pub(super) fn next_answer(&mut self) -> Result<(), ClientError> {
        let result = match self.phase {
            Phase::Greeting => return self.greeting(),
            Phase::Options => self.option_answer(),
            Phase::Transmission => self.request_answer(),
            Phase::Over => Err(ClientError::Gone),
        };
        match result {
            Ok(Some((asked, result))) => {
                self.answered(&asked, &result);
                result
            }
            Ok(None) => Ok(()),
            Err(ClientError::Timeout) => self.over(&ClientError::Timeout),
            Err(error) => {
                self.phase = Phase::Over;
                self.over(&error)
            }
        }
    }

    /// Nothing more will be answered, for this reason.
    fn over(&mut self, why: &ClientError) -> Result<(), ClientError> {
        let mut first = if *why == ClientError::Timeout { Err(ClientError::Timeout) } else { Ok(()) };
        for asked in std::mem::take(&mut self.asked) {
            let result = match why {
                ClientError::Gone if asked.ends() => Ok(()),
                error => Err(error.clone()),
            };
            self.answered(&asked, &result);
            first = first.and(result);
        }
        first
    }

    fn option_answer(&mut self) -> Result<Option<Outcome>, ClientError> {
        if self.asked.front().is_some_and(|asked| asked.operation == Operation::ExportName) {
            let _size = u64::from_be_bytes(self.socket.take()?);
            self.flags = u16::from_be_bytes(self.socket.take()?).into();
            self.phase = Phase::Transmission;
            return Ok(self.asked.pop_front().map(|asked| (asked, Ok(()))));
        }
        if u64::from_be_bytes(self.socket.take()?) != OPTION_REPLY {
            return Err(not_the_protocol("an answer to an option"));
        }
        let _option = u32::from_be_bytes(self.socket.take()?);
        let kind = u32::from_be_bytes(self.socket.take()?);
        let length = u32::from_be_bytes(self.socket.take()?) as usize;
        if length > LONGEST {
            return Err(not_the_protocol("an answer to an option"));
        }
        let data = self.socket.take_all(length)?;
        if kind & ERROR != 0 {
            let result = Err(option_error(kind & !ERROR));
            return Ok(self.asked.pop_front().map(|asked| (asked, result)));
        }
        match kind {
            ACK => {
                // The end of the connection is still to come.
                if self.asked.front().is_some_and(Asked::ends) {
                    return Ok(None);
                }
                let asked = self.asked.pop_front();
                if asked.as_ref().is_some_and(|asked| asked.operation == Operation::Go) {
                    self.phase = Phase::Transmission;
                }
                return Ok(asked.map(|asked| (asked, Ok(()))));
            }
            SERVER => self.listed(&data),
            INFO => self.informed(&data),
            _ => {}
        }
        Ok(None)
    }

    /// One export of a list: its name, and perhaps its description.
    fn listed(&mut self, data: &[u8]) {
        let Some((length, rest)) = data.split_first_chunk() else { return };
        let length = u32::from_be_bytes(*length) as usize;
        let Some((name, description)) = rest.split_at_checked(length) else { return };
        if let Some(asked) = self.asked.front_mut() {
            asked.told.push((Field::Export, name.to_vec()));
            asked.told.push((Field::Description, description.to_vec()));
        }
    }

    /// One fact of an export.
    fn informed(&mut self, data: &[u8]) {
        let Some((kind, rest)) = data.split_first_chunk() else { return };
        match u16::from_be_bytes(*kind) {
            0 => {
                if let Some(flags) = rest.last_chunk() {
                    self.flags = u16::from_be_bytes(*flags).into();
                }
            }
            super::info::NAME => self.tell(Field::Export, rest),
            super::info::DESCRIPTION => self.tell(Field::Description, rest),
            _ => {}
        }
    }

    fn tell(&mut self, field: Field, text: &[u8]) {
        if let Some(asked) = self.asked.front_mut() {
            asked.told.push((field, text.to_vec()));
        }
    }

    fn request_answer(&mut self) -> Result<Option<Outcome>, ClientError> {
        match u32::from_be_bytes(self.socket.take()?) {
            SIMPLE_REPLY => {
                let error = u32::from_be_bytes(self.socket.take()?);
                let cookie = u64::from_be_bytes(self.socket.take()?);
                let Some(mut asked) = self.with_cookie(cookie) else {
                    return Err(not_the_protocol("an answer to a request of ours"));
                };
                if error != 0 {
                    return Ok(Some((asked, Err(request_error(error)))));
                }
                if asked.operation == Operation::Read {
                    asked.bytes = self.socket.take_all((asked.command.count as usize).min(MOST_DATA))?;
                    asked.covered.add(asked.command.offset, asked.bytes.len() as u64);
                }
                Ok(Some((asked, Ok(()))))
            }
            STRUCTURED_REPLY => self.structured_answer(),
            _ => Err(not_the_protocol("an answer to a request")),
        }
    }

    fn structured_answer(&mut self) -> Result<Option<Outcome>, ClientError> {
        let done = u16::from_be_bytes(self.socket.take()?) & 1 != 0;
        let kind = u16::from_be_bytes(self.socket.take()?);
        let failed = kind & (1 << 15) != 0;
        let cookie = u64::from_be_bytes(self.socket.take()?);
        let length = u32::from_be_bytes(self.socket.take()?) as usize;
        if length > MOST_DATA {
            return Err(not_the_protocol("an answer to a request"));
        }
        let data = self.socket.take_all(length)?;
        let Some(mut asked) = self.with_cookie(cookie) else {
            return Err(not_the_protocol("an answer to a request of ours"));
        };
        if failed && asked.error.is_none() {
            let error = data.first_chunk().map_or(libc::EIO.cast_unsigned(), |e| u32::from_be_bytes(*e));
            asked.error = Some(request_error(error));
        }
        asked.chunk(kind, &data);
        if !done {
            self.asked.push_front(asked);
            return Ok(None);
        }
        let result = asked.error.take().map_or(Ok(()), Err);
        Ok(Some((asked, result)))
    }

    fn with_cookie(&mut self, cookie: u64) -> Option<Asked> {
        let index = self.asked.iter().position(|asked| asked.cookie == cookie)?;
        self.asked.remove(index)
    }
}

impl Asked {
    /// Takes what this chunk tells of data.
    fn chunk(&mut self, kind: u16, data: &[u8]) {
        match (self.operation, kind) {
            (Operation::Read, OFFSET_DATA) => {
                let Some((offset, bytes)) = data.split_first_chunk() else { return };
                self.take(u64::from_be_bytes(*offset), bytes.len() as u64, bytes.iter().copied());
            }
            (Operation::Read, OFFSET_HOLE) => {
                let Some((offset, length)) = data.split_first_chunk() else { return };
                let Some(length) = length.first_chunk().map(|length| u32::from_be_bytes(*length)) else {
                    return;
                };
                self.take(u64::from_be_bytes(*offset), length.into(), std::iter::repeat(0));
            }
            (Operation::BlockStatus, BLOCK_STATUS) => {
                let word = |bytes: &[u8; 4]| u32::from_be_bytes(*bytes);
                // The first word is the context.
                let words: Vec<u32> = data.as_chunks().0.iter().skip(1).map(word).collect();
                self.extents
                    .0
                    .push(words.as_chunks().0.iter().map(|[length, flags]| (*length, *flags)).collect());
            }
            _ => {}
        }
    }

    /// These bytes belong there; what lies beside the range is only counted.
    fn take(&mut self, offset: u64, length: u64, bytes: impl Iterator<Item = u8>) {
        self.covered.add(offset, length);
        self.bytes.resize((self.command.count as usize).min(MOST_DATA), 0);
        let before = self.command.offset.saturating_sub(offset);
        let at = usize::try_from(offset.saturating_sub(self.command.offset)).unwrap_or(usize::MAX);
        let bytes = bytes
            .take(usize::try_from(length).unwrap_or(0))
            .skip(usize::try_from(before).unwrap_or(usize::MAX));
        for (to, from) in self.bytes.iter_mut().skip(at).zip(bytes) {
            *to = from;
        }
    }
}

fn not_the_protocol(what: &str) -> ClientError {
    ClientError::Refused { message: format!("what the server sent is not {what}"), errno: libc::EPROTO }
}

/// Error numbers of requests are those of Linux.
fn request_error(error: u32) -> ClientError {
    let errno = error.cast_signed();
    ClientError::Refused { message: format!("the request was refused: error {error}"), errno }
}

/// The number that stands in the trace for an option that was refused.
fn option_error(error: u32) -> ClientError {
    let errno = match error {
        1 => libc::EOPNOTSUPP,
        2 => libc::EPERM,
        4 => libc::ENOSYS,
        5 => libc::ENOKEY,
        6 => libc::ENOENT,
        7 => libc::ESHUTDOWN,
        9 => libc::E2BIG,
        _ => libc::EINVAL,
    };
    ClientError::Refused { message: format!("the option was refused: NBD_REP_ERR {error}"), errno }
}
