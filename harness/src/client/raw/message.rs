//! What a client can say, byte by byte (the NBD protocol, "Client flags" to "Request message").

use layers_trace::record::Record;
use layers_trace::{Field, Operation};

use super::super::pattern;
use super::Command;

/// Types of NBD_INFO that a client asks for.
pub mod info {
    /// Canonical name of the export.
    pub const NAME: u16 = 1;
    /// Its description.
    pub const DESCRIPTION: u16 = 2;
    /// Its block sizes.
    pub const BLOCK_SIZE: u16 = 3;
}

/// Before each option.
const OPTION_MAGIC: &[u8] = b"IHAVEOPT";
/// Bytes before the data of an option: magic, number and length.
const OPTION_HEADER: usize = 16;
/// Before each request.
const REQUEST_MAGIC: u32 = 0x2560_9513;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// NBD_OPT_EXPORT_NAME: select this export, and end the negotiation.
    ExportName(String),
    /// NBD_OPT_ABORT.
    Abort,
    /// NBD_OPT_LIST.
    List,
    /// NBD_OPT_STARTTLS.
    StartTls,
    /// NBD_OPT_INFO for this export, with these types of [`info`], as often as they stand here.
    Info(String, Vec<u16>),
    /// NBD_OPT_GO, likewise.
    Go(String, Vec<u16>),
    /// NBD_OPT_STRUCTURED_REPLY.
    StructuredReply,
    /// NBD_OPT_SET_META_CONTEXT: these contexts of this export.
    SetMetaContext(String, Vec<String>),
    /// NBD_OPT_LIST_META_CONTEXT, likewise.
    ListMetaContext(String, Vec<String>),
    /// This option, and its data without the last so many bytes, as its length says.
    Cut(Box<Message>, u32),
    /// An option with a number that the protocol does not know, and no data.
    UnknownOption(u32),
    /// A request, whatever its operands are. A write has all its data.
    Request(Command),
    /// A write with only the first so many bytes of its data. Nothing can be sent after it.
    Partial(Command, u32),
    /// A request with this type, which the protocol does not know.
    UnknownCommand(u16),
    /// As many bytes as a request has, which begin no message.
    Garbage,
    /// NBD_CMD_DISC. The socket stays open.
    Disconnect,
}

impl Message {
    /// What stands in the trace for it.
    pub(super) fn operation(&self) -> Operation {
        match self {
            Message::ExportName(_) => Operation::ExportName,
            Message::Abort => Operation::Abort,
            Message::List => Operation::List,
            Message::StartTls => Operation::StartTls,
            Message::Info(..) => Operation::Info,
            Message::Go(..) => Operation::Go,
            Message::StructuredReply => Operation::StructuredReply,
            Message::SetMetaContext(..) => Operation::SetMetaContext,
            Message::ListMetaContext(..) => Operation::ListMetaContext,
            Message::Cut(option, _) => option.operation(),
            Message::UnknownOption(_) => Operation::UnknownOption,
            Message::Request(command) | Message::Partial(command, _) => command.operation,
            Message::UnknownCommand(_) => Operation::UnknownCommand,
            Message::Garbage => Operation::Garbage,
            Message::Disconnect => Operation::Disconnect,
        }
    }

    /// Operands for the record of it, and its texts.
    pub(super) fn record(&self) -> (Record, Vec<(Field, Vec<u8>)>) {
        let name = |name: &str| vec![(Field::Export, name.as_bytes().to_vec())];
        let request = |command: &Command, held_back: u32| Record {
            a: command.offset,
            b: held_back.into(),
            c: command.count,
            d: command.flags,
            ..Record::default()
        };
        match self {
            Message::ExportName(export) => (Record::default(), name(export)),
            Message::Info(export, infos) | Message::Go(export, infos) => {
                let bits = infos.iter().filter(|info| **info < 64).fold(1, |bits, info| bits | 1 << info);
                let count = u32::try_from(infos.len()).unwrap_or(u32::MAX);
                (Record { b: bits, c: count, ..Record::default() }, name(export))
            }
            Message::SetMetaContext(export, contexts) | Message::ListMetaContext(export, contexts) => {
                let mut texts = name(export);
                texts.extend(contexts.iter().map(|context| (Field::Name, context.as_bytes().to_vec())));
                (Record::default(), texts)
            }
            Message::Cut(option, missing) => {
                let (record, texts) = option.record();
                (Record { d: *missing, ..record }, texts)
            }
            Message::UnknownOption(number) => {
                (Record { b: u64::from(*number), ..Record::default() }, Vec::new())
            }
            Message::UnknownCommand(number) => {
                (Record { b: u64::from(*number), ..Record::default() }, Vec::new())
            }
            Message::Request(command) => (request(command, 0), Vec::new()),
            Message::Partial(command, sent) => {
                (request(command, command.count.saturating_sub(*sent)), Vec::new())
            }
            Message::Abort
            | Message::List
            | Message::StartTls
            | Message::StructuredReply
            | Message::Garbage
            | Message::Disconnect => (Record::default(), Vec::new()),
        }
    }

    /// The number of the option that it is.
    pub(super) fn option(&self) -> Option<u32> {
        Some(match self {
            Message::ExportName(_) => 1,
            Message::Abort => 2,
            Message::List => 3,
            Message::StartTls => 5,
            Message::Info(..) => 6,
            Message::Go(..) => 7,
            Message::StructuredReply => 8,
            Message::ListMetaContext(..) => 9,
            Message::SetMetaContext(..) => 10,
            Message::Cut(option, _) => return option.option(),
            Message::UnknownOption(number) => *number,
            _ => return None,
        })
    }

    /// Appends its bytes.
    pub(super) fn write(&self, cookie: u64, to: &mut Vec<u8>) {
        match self {
            Message::ExportName(export) => option(1, export.as_bytes(), to),
            Message::Abort => option(2, &[], to),
            Message::List => option(3, &[], to),
            Message::StartTls => option(5, &[], to),
            Message::Info(export, infos) => option(6, &selection(export, infos), to),
            Message::Go(export, infos) => option(7, &selection(export, infos), to),
            Message::StructuredReply => option(8, &[], to),
            Message::ListMetaContext(export, contexts) => option(9, &queries(export, contexts), to),
            Message::SetMetaContext(export, contexts) => option(10, &queries(export, contexts), to),
            Message::Cut(whole, missing) => {
                let mut bytes = Vec::new();
                whole.write(cookie, &mut bytes);
                let data = bytes.get(OPTION_HEADER..).unwrap_or_default();
                let left = data.len().saturating_sub(*missing as usize);
                option(whole.option().unwrap_or_default(), data.get(..left).unwrap_or_default(), to);
            }
            Message::UnknownOption(number) => option(*number, &[], to),
            Message::Request(command) => {
                request(number_of(command.operation), cookie, command, to);
                if command.operation == Operation::Write {
                    to.extend(pattern(command.offset, command.count as usize));
                }
            }
            Message::Partial(command, sent) => {
                request(number_of(command.operation), cookie, command, to);
                to.extend(pattern(command.offset, *sent.min(&command.count) as usize));
            }
            Message::UnknownCommand(number) => request(*number, cookie, &NOTHING, to),
            Message::Garbage => to.extend([0xff; 28]),
            Message::Disconnect => request(2, cookie, &NOTHING, to),
        }
    }
}

/// A request without operands.
const NOTHING: Command = Command { operation: Operation::Disconnect, offset: 0, count: 0, flags: 0 };

/// Type of a request in the protocol; of what is none, one that the protocol does not know.
fn number_of(operation: Operation) -> u16 {
    match operation {
        Operation::Read => 0,
        Operation::Write => 1,
        Operation::Disconnect => 2,
        Operation::Flush => 3,
        Operation::Trim => 4,
        Operation::Cache => 5,
        Operation::Zero => 6,
        Operation::BlockStatus => 7,
        _ => u16::MAX,
    }
}

fn request(number: u16, cookie: u64, command: &Command, to: &mut Vec<u8>) {
    to.extend(REQUEST_MAGIC.to_be_bytes());
    to.extend((command.flags as u16).to_be_bytes());
    to.extend(number.to_be_bytes());
    to.extend(cookie.to_be_bytes());
    to.extend(command.offset.to_be_bytes());
    to.extend(command.count.to_be_bytes());
}

fn option(number: u32, data: &[u8], to: &mut Vec<u8>) {
    to.extend(OPTION_MAGIC);
    to.extend(number.to_be_bytes());
    to.extend(length(data));
    to.extend(data);
}

fn length(data: &[u8]) -> [u8; 4] {
    u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// Data of NBD_OPT_INFO and NBD_OPT_GO.
fn selection(export: &str, infos: &[u16]) -> Vec<u8> {
    let mut data = text(export);
    data.extend(u16::try_from(infos.len()).unwrap_or(u16::MAX).to_be_bytes());
    data.extend(infos.iter().flat_map(|info| info.to_be_bytes()));
    data
}

/// Data of NBD_OPT_SET_META_CONTEXT and NBD_OPT_LIST_META_CONTEXT.
fn queries(export: &str, contexts: &[String]) -> Vec<u8> {
    let mut data = text(export);
    data.extend(u32::try_from(contexts.len()).unwrap_or(u32::MAX).to_be_bytes());
    data.extend(contexts.iter().flat_map(|context| text(context)));
    data
}

/// A string with its length before it.
fn text(string: &str) -> Vec<u8> {
    [&length(string.as_bytes()), string.as_bytes()].concat()
}
