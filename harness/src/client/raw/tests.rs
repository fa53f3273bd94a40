//! The client against bytes that a server would send, each time after the client has asked.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use layers_trace::{Breach, Event, Kind, Operation, Reader, Speaker, Writer};
use rustix::fs::{MemfdFlags, memfd_create};

use super::{ClientError, Command, Message, Raw};
use crate::deadline::Deadline;

struct Talk {
    client: Raw,
    server: UnixStream,
    trace: Arc<Writer>,
}

/// A client that has got a newstyle greeting.
fn talk() -> Talk {
    let memory = std::fs::File::from(memfd_create("trace", MemfdFlags::CLOEXEC).unwrap());
    let trace = Arc::new(Writer::create(&memory, 1 << 10, 1).unwrap());
    let (ours, mut server) = UnixStream::pair().unwrap();
    server.write_all(b"NBDMAGICIHAVEOPT\0\x03").unwrap();
    let deadline = Deadline::after(Duration::from_secs(5));
    let mut client = Raw::on(1, ours.into(), Arc::clone(&trace), deadline).unwrap();
    client.greeting().unwrap();
    Talk { client, server, trace }
}

impl Talk {
    /// The client says this, and the server sends these bytes.
    fn say(&mut self, messages: &[Message], answers: &[&[u8]]) -> Result<(), ClientError> {
        self.client.send(messages)?;
        self.server.write_all(&answers.concat()).unwrap();
        self.client.answers()
    }

    /// An export is chosen; with structured replies, and a metadata context.
    fn chosen(structured: bool) -> Talk {
        let mut talk = talk();
        if structured {
            talk.say(&[Message::StructuredReply], &[&option_reply(8, 1, &[])]).unwrap();
            talk.client.contexts.push(0);
        }
        talk.say(&[go()], &[&option_reply(7, 1, &[])]).unwrap();
        talk
    }

    /// What the client complains of, in the trace.
    fn complaints(&self) -> Vec<Breach> {
        self.events().iter().filter_map(Event::breach).collect()
    }

    /// What the client has sent after its flags; it can send no more.
    fn sent(&mut self) -> Vec<u8> {
        self.client.half_close().unwrap();
        let mut bytes = Vec::new();
        self.server.read_to_end(&mut bytes).unwrap();
        bytes.split_off(4)
    }

    fn events(&self) -> Vec<Event> {
        Reader::of(&self.trace).events().map(Result::unwrap).collect()
    }

    fn reply_to(&self, operation: Operation) -> Event {
        let is = |event: &Event| event.kind == Kind::Reply && event.operation() == Some(operation);
        self.events().into_iter().find(is).unwrap()
    }
}

fn option_reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = 0x0003_e889_0455_65a9_u64.to_be_bytes().to_vec();
    for word in [option, kind, data.len() as u32] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(data);
    bytes
}

fn simple_reply(error: u32, cookie: u64) -> Vec<u8> {
    [&0x6744_6698_u32.to_be_bytes()[..], &error.to_be_bytes(), &cookie.to_be_bytes()].concat()
}

fn read(count: u32) -> Message {
    Message::Request(Command { operation: Operation::Read, offset: 0, count, flags: 0 })
}

fn write(count: u32) -> Command {
    Command { operation: Operation::Write, offset: 4096, count, flags: 0 }
}

fn go() -> Message {
    Message::Go(String::new(), Vec::new())
}

#[test]
fn a_list_brings_its_exports() {
    let one = [&3_u32.to_be_bytes()[..], b"abc", b"the first"].concat();
    let mut talk = talk();
    talk.say(&[Message::List], &[&option_reply(3, 2, &one), &option_reply(3, 1, &[])]).unwrap();
    assert_eq!(talk.sent(), b"IHAVEOPT\0\0\0\x03\0\0\0\0");
    let texts: Vec<_> = talk.reply_to(Operation::List).texts.into_iter().map(|text| text.bytes).collect();
    assert_eq!(texts, [b"abc".to_vec(), b"the first".to_vec()]);
}

#[test]
fn an_option_that_is_refused_is_an_error_and_the_next_one_is_answered() {
    let refused = option_reply(99, (1 << 31) + 1, &[]);
    let mut talk = talk();
    let refused = talk.say(&[Message::UnknownOption(99)], &[&refused]);
    assert!(matches!(refused, Err(ClientError::Refused { errno: libc::EOPNOTSUPP, .. })));
    talk.say(&[Message::StructuredReply], &[&option_reply(8, 1, &[])]).unwrap();
}

#[test]
fn answers_to_requests_come_in_any_order() {
    let data = [0_u8; 4];
    let mut talk = Talk::chosen(false);
    assert!(talk.client.is_ready());
    let answers = [&simple_reply(0, 3)[..], &data, &simple_reply(22, 2)];
    let failed = talk.say(&[read(512), read(4)], &answers);
    assert!(matches!(failed, Err(ClientError::Refused { errno: libc::EINVAL, .. })));
    let replies = talk.events().into_iter().filter(|event| event.kind == Kind::Reply);
    let results: Vec<i64> = replies.skip(2).map(|event| event.result()).collect();
    assert_eq!(results, [0, -1]);
}

fn chunk(flags: u16, kind: u16, cookie: u64, data: &[u8]) -> Vec<u8> {
    let mut bytes = 0x668e_33ef_u32.to_be_bytes().to_vec();
    bytes.extend([flags.to_be_bytes(), kind.to_be_bytes()].concat());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn a_structured_answer_is_over_with_its_last_chunk() {
    let error = [0, 0, 0, 5, 0, 0];
    let mut talk = Talk::chosen(true);
    let failed = talk.say(&[read(4)], &[&chunk(0, 1, 3, &[0; 12]), &chunk(1, 0x8001, 3, &error)]);
    assert!(matches!(failed, Err(ClientError::Refused { errno: libc::EIO, .. })));
}

#[test]
fn the_end_of_the_connection_is_what_a_goodbye_asks_for() {
    let mut talk = Talk::chosen(false);
    talk.client.send(&[read(4), Message::Disconnect]).unwrap();
    talk.server.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(talk.client.answers(), Err(ClientError::Gone));
    assert_eq!(talk.reply_to(Operation::Disconnect).result(), 0);
    assert_eq!(talk.reply_to(Operation::Read).errno(), libc::ENOTCONN.cast_unsigned());
}

#[test]
fn half_a_write_says_what_it_holds_back() {
    let mut talk = Talk::chosen(false);
    talk.client.send(&[Message::Partial(write(512), 100)]).unwrap();
    assert!(talk.client.send(&[read(4)]).is_err());
    assert_eq!(talk.client.answers(), Ok(()));
    let is = |event: &Event| event.kind == Kind::Request && event.operation() == Some(Operation::Write);
    let asked = talk.events().into_iter().find(is).unwrap();
    assert_eq!((asked.offset(), asked.count(), asked.b), (4096, 512, 412));
    let header_of_go = 16 + 4 + 2;
    assert_eq!(talk.sent().len(), header_of_go + 28 + 100);
}

#[test]
fn a_server_that_says_nothing_is_waited_for_until_the_deadline() {
    let (ours, _server) = UnixStream::pair().unwrap();
    let memory = std::fs::File::from(memfd_create("trace", MemfdFlags::CLOEXEC).unwrap());
    let trace = Arc::new(Writer::create(&memory, 1 << 10, 1).unwrap());
    let deadline = Deadline::after(Duration::from_millis(20));
    let mut client = Raw::on(1, ours.into(), trace, deadline).unwrap();
    assert_eq!(client.greeting(), Err(ClientError::Timeout));
}

#[test]
fn bytes_that_are_no_answer_are_an_error() {
    let mut talk = talk();
    let failed = talk.say(&[Message::List], &[b"IHAVEOPT and more"]);
    assert!(matches!(failed, Err(ClientError::Breach { breach: Breach::Message, .. })));
    assert_eq!(talk.client.until_closed(), Ok(()));
    assert_eq!(talk.complaints(), [Breach::Message]);
    assert_eq!(talk.reply_to(Operation::List).errno(), libc::EPROTO.cast_unsigned());
}

/// The client complains of this, and goes no further.
#[track_caller]
fn complains(mut talk: Talk, message: Message, answer: &[u8], of: Breach) {
    let failed = talk.say(&[message], &[answer]);
    assert!(matches!(failed, Err(ClientError::Breach { .. })), "{failed:?}");
    assert_eq!(talk.complaints(), [of]);
}

#[test]
fn a_reply_to_an_option_names_it_and_is_one_that_it_has() {
    complains(talk(), Message::List, &option_reply(7, 1, &[]), Breach::Option);
    complains(talk(), Message::List, &option_reply(3, 3, &[0; 4]), Breach::Option);
    complains(talk(), Message::StructuredReply, &option_reply(8, 2, &[0; 4]), Breach::Option);
    complains(talk(), Message::StructuredReply, &option_reply(8, 1, &[0; 4]), Breach::Message);
}

#[test]
fn a_reply_is_to_a_request_that_waits_for_it() {
    let whole = [&simple_reply(0, 2)[..], &[0; 4]].concat();
    complains(Talk::chosen(false), read(4), &simple_reply(0, 99), Breach::Cookie);
    complains(Talk::chosen(false), read(4), &simple_reply(0, 1), Breach::Cookie);
    // A second one shows with whatever comes next.
    let mut talk = Talk::chosen(false);
    talk.say(&[read(4)], &[&whole, &whole]).unwrap();
    assert!(talk.client.send(&[read(4)]).is_err());
    assert_eq!(talk.complaints(), [Breach::Unasked]);
    let mut talk = Talk::chosen(false);
    talk.say(&[read(4)], &[&whole, b"!"]).unwrap();
    let (client, trace) = (talk.client, talk.trace);
    client.hang_up();
    let breaches: Vec<_> = Reader::of(&trace).events().filter_map(|event| event.unwrap().breach()).collect();
    assert_eq!(breaches, [Breach::Unasked]);
}

#[test]
fn replies_are_structured_where_that_has_been_negotiated() {
    let data = [&[0; 8][..], &[0; 4]].concat();
    complains(Talk::chosen(true), read(4), &simple_reply(22, 3), Breach::Shape);
    complains(Talk::chosen(false), read(4), &chunk(1, 1, 2, &data), Breach::Shape);
    let mut talk = Talk::chosen(true);
    talk.say(&[read(4)], &[&chunk(1, 1, 3, &data)]).unwrap();
    talk.say(
        &[Message::Request(Command { operation: Operation::Flush, offset: 0, count: 0, flags: 0 })],
        &[&simple_reply(0, 4)],
    )
    .unwrap();
    assert_eq!(talk.complaints(), []);
    let speakers = talk.events().iter().filter_map(Event::speaker).collect::<Vec<_>>();
    assert_eq!(speakers, [Speaker::Structured, Speaker::Simple]);
}

#[test]
fn chunks_fit_the_request() {
    let at = |offset: u64, length: usize| [&offset.to_be_bytes()[..], &vec![0; length]].concat();
    let error = |number: u32, length: u16| [&number.to_be_bytes()[..], &length.to_be_bytes()].concat();
    for wrong in [
        chunk(1, 1, 3, &at(1, 4)),
        chunk(1, 1, 3, &at(0, 3)),
        chunk(1, 1, 3, &at(0, 0)),
        chunk(1, 1, 3, &at(u64::MAX, 4)),
        [chunk(0, 1, 3, &at(0, 3)), chunk(1, 1, 3, &at(2, 2))].concat(),
        chunk(1, 0, 3, &[]),
        chunk(0, 0, 3, &[]),
        chunk(1, 5, 3, &[0; 12]),
        chunk(1, 9, 3, &[]),
        chunk(1, 0x8001, 3, &error(0, 0)),
        chunk(1, 0x8001, 3, &error(5, 7)),
        chunk(1, 0x8001, 3, &[0; 3]),
    ] {
        complains(Talk::chosen(true), read(4), &wrong, Breach::Chunk);
    }
    let status =
        || Message::Request(Command { operation: Operation::BlockStatus, offset: 0, count: 4, flags: 0 });
    let of_another = [&9_u32.to_be_bytes()[..], &[0; 8]].concat();
    for wrong in [
        chunk(1, 0, 3, &[]),
        chunk(1, 5, 3, &[0; 4]),
        chunk(1, 5, 3, &[0; 13]),
        chunk(1, 1, 3, &at(0, 4)),
        chunk(1, 5, 3, &of_another),
        [chunk(0, 5, 3, &[0; 12]), chunk(1, 5, 3, &[0; 12])].concat(),
    ] {
        complains(Talk::chosen(true), status(), &wrong, Breach::Chunk);
    }
    let mut talk = Talk::chosen(true);
    talk.say(&[status()], &[&chunk(1, 5, 3, &[0; 20])]).unwrap();
    let pieces = [chunk(0, 1, 4, &at(2, 2)), chunk(0, 1, 4, &at(0, 2)), chunk(1, 0, 4, &[])];
    talk.say(&[read(4)], &[&pieces.concat()]).unwrap();
    assert_eq!(talk.complaints(), []);
}
