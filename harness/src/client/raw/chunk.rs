//! The chunks of a structured reply (the NBD protocol, "Structured reply types"): what each has to be, and what all of them
//! have to be together.

use layers_trace::{Breach, Operation};

use super::super::breach::breach;
use super::super::{ClientError, Command};
use crate::protocol::flag;

/// Types of chunks.
const NONE: u16 = 0;
const OFFSET_DATA: u16 = 1;
const OFFSET_HOLE: u16 = 2;
const BLOCK_STATUS: u16 = 5;
const ERROR: u16 = 1 << 15 | 1;
const ERROR_OFFSET: u16 = 1 << 15 | 2;
/// Set in the types of all errors.
const IS_ERROR: u16 = 1 << 15;

/// What a structured reply answers: a command, with its offset, count and flags.
pub(super) type Request = (Operation, Command);

/// What the chunks of a reply have brought so far.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    /// First byte and number of bytes of each piece of data.
    pieces: Vec<(u64, u64)>,
    /// Metadata contexts of the chunks with block status.
    statuses: Vec<u32>,
    /// The first error.
    error: Option<u32>,
}

fn wrong(message: impl Into<String>) -> ClientError {
    breach(Breach::Chunk, message)
}

fn number<const N: usize>(data: &[u8]) -> Option<u64> {
    let bytes: &[u8; N] = data.first_chunk()?;
    Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

impl Chunks {
    /// Takes a chunk of this type for the request of a client that has these contexts; `data` is its payload.
    pub(super) fn take(
        &mut self,
        asked: Request,
        contexts: &[u32],
        kind: u16,
        done: bool,
        data: &[u8],
    ) -> Result<(), ClientError> {
        let fitting = |operation: Operation, name: &str| {
            let other = asked.0;
            (other == operation).then_some(()).ok_or_else(|| wrong(format!("{name} for {other:?}")))
        };
        let short = |name: &str| wrong(format!("{name} of {} bytes", data.len()));
        match kind {
            NONE if !done => Err(wrong("NBD_REPLY_TYPE_NONE without NBD_REPLY_FLAG_DONE")),
            NONE if data.is_empty() => Ok(()),
            NONE => Err(short("NBD_REPLY_TYPE_NONE")),
            OFFSET_DATA => {
                fitting(Operation::Read, "NBD_REPLY_TYPE_OFFSET_DATA")?;
                let offset = number::<8>(data).ok_or_else(|| short("NBD_REPLY_TYPE_OFFSET_DATA"))?;
                self.piece(asked, offset, data.len() as u64 - 8)
            }
            OFFSET_HOLE => {
                fitting(Operation::Read, "NBD_REPLY_TYPE_OFFSET_HOLE")?;
                let length = data.get(8..).filter(|rest| rest.len() == 4).and_then(number::<4>);
                let both = number::<8>(data).zip(length);
                let (offset, length) = both.ok_or_else(|| short("NBD_REPLY_TYPE_OFFSET_HOLE"))?;
                self.piece(asked, offset, length)
            }
            BLOCK_STATUS => {
                fitting(Operation::BlockStatus, "NBD_REPLY_TYPE_BLOCK_STATUS")?;
                let context = number::<4>(data).and_then(|context| u32::try_from(context).ok());
                let context = context.ok_or_else(|| short("NBD_REPLY_TYPE_BLOCK_STATUS"))?;
                if !contexts.contains(&context) {
                    return Err(wrong(format!("block status of context {context}, which has not been set")));
                }
                if self.statuses.contains(&context) {
                    return Err(wrong(format!("block status of context {context} twice")));
                }
                self.statuses.push(context);
                let extents = data.len().checked_sub(4).filter(|rest| rest % 8 == 0).map(|rest| rest / 8);
                match extents {
                    Some(1) => Ok(()),
                    Some(2..) if asked.1.flags & flag::REQ_ONE == 0 => Ok(()),
                    Some(several) => {
                        Err(wrong(format!("NBD_REPLY_TYPE_BLOCK_STATUS with {several} extents")))
                    }
                    None => Err(short("NBD_REPLY_TYPE_BLOCK_STATUS")),
                }
            }
            error if error & IS_ERROR != 0 => self.fails(error, data),
            unknown => Err(wrong(format!("a chunk of type {unknown}"))),
        }
    }

    /// A piece of the data of a read.
    fn piece(&mut self, asked: Request, offset: u64, length: u64) -> Result<(), ClientError> {
        let end = offset.checked_add(length);
        let all = asked.1.offset.saturating_add(asked.1.count.into());
        let range = format!("{length} bytes of data from {offset}");
        let inside = length > 0 && offset >= asked.1.offset && end.is_some_and(|end| end <= all);
        if !inside {
            return Err(wrong(format!("{range} for a read of {} from {}", asked.1.count, asked.1.offset)));
        }
        let meets = |(first, count): &(u64, u64)| offset < first + count && *first < offset + length;
        if self.pieces.iter().any(meets) {
            return Err(wrong(format!("{range}, some of which have come before")));
        }
        if asked.1.flags & flag::DF != 0 && !self.pieces.is_empty() {
            return Err(wrong(format!("{range}, the second piece of a read that must not be split")));
        }
        self.pieces.push((offset, length));
        Ok(())
    }

    /// An error chunk.
    fn fails(&mut self, kind: u16, data: &[u8]) -> Result<(), ClientError> {
        let (error, text) = (number::<4>(data), data.get(4..).and_then(number::<2>));
        let after = if kind == ERROR_OFFSET { 8 } else { 0 };
        let (Some(error), Some(text)) = (error, text) else {
            return Err(wrong(format!("an error of {} bytes", data.len())));
        };
        let length = 6 + text + after;
        let known = matches!(kind, ERROR | ERROR_OFFSET);
        if known && length != data.len() as u64 {
            return Err(wrong(format!("an error of {} bytes, whose text has {text}", data.len())));
        }
        if error == 0 {
            return Err(wrong("an error chunk with the error number 0"));
        }
        self.error = self.error.or(u32::try_from(error).ok());
        Ok(())
    }

    /// The error number of the whole reply, whose last chunk has come; `None` for success.
    pub(super) fn outcome(&self, asked: Request) -> Result<Option<u32>, ClientError> {
        if self.error.is_some() {
            return Ok(self.error);
        }
        let come: u64 = self.pieces.iter().map(|(_, length)| length).sum();
        match asked.0 {
            Operation::Read if come != u64::from(asked.1.count) => {
                Err(wrong(format!("{come} bytes of data in all for a read of {}", asked.1.count)))
            }
            Operation::BlockStatus if self.statuses.is_empty() => {
                Err(wrong("success without NBD_REPLY_TYPE_BLOCK_STATUS"))
            }
            _ => Ok(None),
        }
    }
}
