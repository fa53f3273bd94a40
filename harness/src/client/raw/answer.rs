//! What the server answers (the NBD protocol, "Handshake", "Option reply", "Simple reply" and "Structured reply").

use layers_trace::{Breach, Field, Operation, Speaker};

use super::super::breach::breach;
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
const META_CONTEXT: u32 = 4;
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

/// A message whose last answer is here, what became of it, and who says so.
type Outcome = (Asked, Result<(), ClientError>, Option<Speaker>);

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
            return Err(no_message("a greeting"));
        }
        match self.socket.take()? {
            NEWSTYLE => {
                let _server_flags = u16::from_be_bytes(self.socket.take()?);
                self.phase = Phase::Options;
                self.socket.send(&CLIENT_FLAGS.to_be_bytes())
            }
            OLDSTYLE => {
                self.size = u64::from_be_bytes(self.socket.take()?);
                let _server_flags = u16::from_be_bytes(self.socket.take()?);
                self.flags = u16::from_be_bytes(self.socket.take()?).into();
                let _reserved = self.socket.take::<ZEROES>()?;
                self.phase = Phase::Transmission;
                Ok(())
            }
            _ => Err(no_message("a greeting")),
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
            Ok(Some((asked, result, speaker))) => {
                self.answered(&asked, &result, speaker);
                result
            }
            Ok(None) => Ok(()),
            Err(ClientError::Timeout) => self.over(&ClientError::Timeout),
            Err(error) => {
                self.phase = Phase::Over;
                let error = self.cut_short(error);
                self.complain(&error);
                self.over(&error)
            }
        }
    }

    /// A connection that ends in the middle of a message, or after bytes that begin none, where nothing is to come.
    fn cut_short(&self, error: ClientError) -> ClientError {
        let left = self.socket.unread();
        let over = self.asked.iter().all(Asked::ends);
        match error {
            ClientError::Gone if over && left > 0 => {
                breach(Breach::Unasked, format!("{left} bytes that nobody has asked for, and the end"))
            }
            other => other,
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
            self.answered(&asked, &result, None);
            first = first.and(result);
        }
        first
    }

    fn option_answer(&mut self) -> Result<Option<Outcome>, ClientError> {
        if self.asked.front().is_some_and(|asked| asked.operation == Operation::ExportName) {
            self.size = u64::from_be_bytes(self.socket.take()?);
            self.flags = u16::from_be_bytes(self.socket.take()?).into();
            self.phase = Phase::Transmission;
            return Ok(self.asked.pop_front().map(|asked| (Asked { types: 1, ..asked }, Ok(()), None)));
        }
        if u64::from_be_bytes(self.socket.take()?) != OPTION_REPLY {
            return Err(no_message("a reply to an option"));
        }
        let option = u32::from_be_bytes(self.socket.take()?);
        let kind = u32::from_be_bytes(self.socket.take()?);
        let length = u32::from_be_bytes(self.socket.take()?) as usize;
        let Some(asked) = self.asked.front() else {
            return Err(breach(
                Breach::Option,
                format!("a reply to option {option}, and none is waited for"),
            ));
        };
        if let Some(other) = asked.option.filter(|own| *own != option) {
            return Err(breach(Breach::Option, format!("a reply to option {option} instead of {other}")));
        }
        if length > LONGEST || kind == ACK && length > 0 {
            let what = format!("a reply of type {kind} to option {option} with {length} bytes");
            return Err(breach(Breach::Message, what));
        }
        if !kinds(asked.operation).contains(&kind) && kind & ERROR == 0 {
            return Err(breach(Breach::Option, format!("a reply of type {kind} to option {option}")));
        }
        let data = self.socket.take_all(length)?;
        if kind & ERROR != 0 {
            let result = Err(option_error(kind & !ERROR));
            let refused = |asked| (Asked { refusal: Some(kind), ..asked }, result, None);
            return Ok(self.asked.pop_front().map(refused));
        }
        match kind {
            ACK => {
                // The end of the connection is still to come.
                if self.asked.front().is_some_and(Asked::ends) {
                    return Ok(None);
                }
                let asked = self.asked.pop_front();
                if asked_is(asked.as_ref(), Operation::Go) {
                    self.phase = Phase::Transmission;
                }
                self.structured |= asked_is(asked.as_ref(), Operation::StructuredReply);
                return Ok(asked.map(|asked| (asked, Ok(()), None)));
            }
            SERVER => self.listed(&data),
            INFO => self.informed(&data),
            META_CONTEXT => {
                if let Some((id, name)) = data.split_first_chunk() {
                    if asked_is(self.asked.front(), Operation::SetMetaContext) {
                        self.contexts.push(u32::from_be_bytes(*id));
                    }
                    self.tell(Field::Name, name);
                }
            }
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
        let kind = u16::from_be_bytes(*kind);
        if let Some(asked) = self.asked.front_mut() {
            asked.types |= 1_u32.checked_shl(kind.into()).unwrap_or(0);
        }
        match kind {
            0 => {
                if let Some((size, rest)) = rest.split_first_chunk()
                    && let Some(flags) = rest.first_chunk()
                {
                    self.size = u64::from_be_bytes(*size);
                    self.flags = u16::from_be_bytes(*flags).into();
                }
            }
            super::info::NAME => self.tell(Field::Export, rest),
            super::info::DESCRIPTION => self.tell(Field::Description, rest),
            super::info::BLOCK_SIZE => {
                let sizes = rest.as_chunks().0.iter().map(|size| u32::from_be_bytes(*size));
                self.tell(Field::BlockSizes, &sizes.flat_map(u32::to_le_bytes).collect::<Vec<_>>());
            }
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
            SIMPLE_REPLY => self.simple_answer(),
            STRUCTURED_REPLY => self.structured_answer(),
            _ => Err(no_message("a reply to a request")),
        }
    }

    fn simple_answer(&mut self) -> Result<Option<Outcome>, ClientError> {
        let error = u32::from_be_bytes(self.socket.take()?);
        let cookie = u64::from_be_bytes(self.socket.take()?);
        let asked = self.with_cookie(cookie)?;
        let wrong = match asked.operation {
            Operation::Read if self.structured => Some("a simple reply to a read"),
            Operation::BlockStatus if self.structured && error == 0 => {
                Some("a simple reply with a block status")
            }
            _ => None,
        };
        if let Some(what) = wrong.or(asked.chunks.is_some().then_some("a simple reply after a chunk")) {
            self.asked.push_front(asked);
            return Err(breach(Breach::Shape, what));
        }
        let speaker = Some(Speaker::Simple);
        if error != 0 {
            return Ok(Some((asked, Err(request_error(error)), speaker)));
        }
        if asked.operation == Operation::Read {
            let count = (asked.command.count as usize).min(MOST_DATA);
            // Still waited for, should the data not come.
            self.asked.push_front(asked);
            let bytes = self.socket.take_all(count)?;
            return Ok(self.asked.pop_front().map(|mut asked| {
                asked.covered.add(asked.command.offset, bytes.len() as u64);
                asked.bytes = bytes;
                (asked, Ok(()), speaker)
            }));
        }
        Ok(Some((asked, Ok(()), speaker)))
    }

    fn structured_answer(&mut self) -> Result<Option<Outcome>, ClientError> {
        let done = u16::from_be_bytes(self.socket.take()?) & 1 != 0;
        let kind = u16::from_be_bytes(self.socket.take()?);
        let cookie = u64::from_be_bytes(self.socket.take()?);
        let length = u32::from_be_bytes(self.socket.take()?) as usize;
        if !self.structured {
            return Err(breach(Breach::Shape, "a structured reply, which has not been negotiated"));
        }
        if length > MOST_DATA {
            return Err(breach(Breach::Message, format!("a chunk of {length} bytes")));
        }
        let mut asked = self.with_cookie(cookie)?;
        let mut chunks = asked.chunks.take().unwrap_or_default();
        // Still waited for, should it not come to its end.
        self.asked.push_front(asked);
        let data = self.socket.take_all(length)?;
        let Some(asked) = self.asked.front_mut() else { return Ok(None) };
        chunks.take(asked.request(), &self.contexts, kind, done, &data)?;
        asked.chunk(kind, &data);
        if !done {
            asked.chunks = Some(chunks);
            return Ok(None);
        }
        let result = chunks.outcome(asked.request())?.map_or(Ok(()), |error| Err(request_error(error)));
        Ok(self.asked.pop_front().map(|asked| (asked, result, Some(Speaker::Structured))))
    }

    fn with_cookie(&mut self, cookie: u64) -> Result<Asked, ClientError> {
        let index = self.asked.iter().position(|asked| asked.cookie == cookie);
        let asked = index.and_then(|index| self.asked.remove(index));
        asked.ok_or_else(|| {
            let sent = (1..=self.cookie).contains(&cookie);
            let what = if sent { "a request that has its reply" } else { "a request that nobody has sent" };
            breach(Breach::Cookie, format!("a reply with cookie {cookie}, to {what}"))
        })
    }
}

fn asked_is(asked: Option<&Asked>, operation: Operation) -> bool {
    asked.is_some_and(|asked| asked.operation == operation)
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

/// Types of the replies that an option has, besides errors.
fn kinds(option: Operation) -> &'static [u32] {
    match option {
        Operation::List => &[ACK, SERVER],
        Operation::Info | Operation::Go => &[ACK, INFO],
        Operation::SetMetaContext | Operation::ListMetaContext => &[ACK, META_CONTEXT],
        _ => &[ACK],
    }
}

fn no_message(what: &str) -> ClientError {
    breach(Breach::Message, format!("bytes that are not {what}"))
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
