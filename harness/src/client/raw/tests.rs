//! The client against bytes that a server would send: they lie ready before it asks.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use layers_trace::{Event, Kind, Operation, Reader, Writer};
use rustix::fs::{MemfdFlags, memfd_create};

use super::{ClientError, Command, Message, Raw};
use crate::deadline::Deadline;

struct Talk {
    client: Raw,
    server: UnixStream,
    trace: Arc<Writer>,
}

/// A client that has got a newstyle greeting, then these bytes.
fn talk(answers: &[&[u8]]) -> Talk {
    let memory = std::fs::File::from(memfd_create("trace", MemfdFlags::CLOEXEC).unwrap());
    let trace = Arc::new(Writer::create(&memory, 1 << 10, 1).unwrap());
    let (ours, mut server) = UnixStream::pair().unwrap();
    server.write_all(b"NBDMAGICIHAVEOPT\0\x03").unwrap();
    server.write_all(&answers.concat()).unwrap();
    let deadline = Deadline::after(Duration::from_secs(5));
    let mut client = Raw::on(1, ours.into(), Arc::clone(&trace), deadline).unwrap();
    client.greeting().unwrap();
    Talk { client, server, trace }
}

impl Talk {
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
    let mut talk = talk(&[&option_reply(3, 2, &one), &option_reply(3, 1, &[])]);
    talk.client.say(&[Message::List]).unwrap();
    assert_eq!(talk.sent(), b"IHAVEOPT\0\0\0\x03\0\0\0\0");
    let texts: Vec<_> = talk.reply_to(Operation::List).texts.into_iter().map(|text| text.bytes).collect();
    assert_eq!(texts, [b"abc".to_vec(), b"the first".to_vec()]);
}

#[test]
fn an_option_that_is_refused_is_an_error_and_the_next_one_is_answered() {
    let refused = option_reply(99, (1 << 31) + 1, &[]);
    let mut talk = talk(&[&refused, &option_reply(8, 1, &[])]);
    let refused = talk.client.say(&[Message::UnknownOption(99)]);
    assert!(matches!(refused, Err(ClientError::Refused { errno: libc::EOPNOTSUPP, .. })));
    talk.client.say(&[Message::StructuredReply]).unwrap();
}

#[test]
fn answers_to_requests_come_in_any_order() {
    let data = [0_u8; 4];
    let mut talk = talk(&[&option_reply(7, 1, &[]), &simple_reply(0, 3), &data, &simple_reply(22, 2)]);
    talk.client.say(&[go()]).unwrap();
    assert!(talk.client.is_ready());
    let failed = talk.client.say(&[read(512), read(4)]);
    assert!(matches!(failed, Err(ClientError::Refused { errno: libc::EINVAL, .. })));
    let replies = talk.events().into_iter().filter(|event| event.kind == Kind::Reply);
    let results: Vec<i64> = replies.skip(2).map(|event| event.result()).collect();
    assert_eq!(results, [0, -1]);
}

#[test]
fn a_structured_answer_is_over_with_its_last_chunk() {
    let chunk = |flags: u16, kind: u16, data: &[u8]| {
        let mut bytes = 0x668e_33ef_u32.to_be_bytes().to_vec();
        bytes.extend([flags.to_be_bytes(), kind.to_be_bytes()].concat());
        bytes.extend(2_u64.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        bytes
    };
    let error = [0, 0, 0, 5, 0, 0];
    let mut talk = talk(&[&option_reply(7, 1, &[]), &chunk(0, 1, &[0; 12]), &chunk(1, 0x8001, &error)]);
    talk.client.say(&[go()]).unwrap();
    let failed = talk.client.say(&[read(4)]);
    assert!(matches!(failed, Err(ClientError::Refused { errno: libc::EIO, .. })));
}

#[test]
fn the_end_of_the_connection_is_what_a_goodbye_asks_for() {
    let mut talk = talk(&[&option_reply(7, 1, &[])]);
    talk.client.say(&[go()]).unwrap();
    talk.client.send(&[read(4), Message::Disconnect]).unwrap();
    talk.server.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(talk.client.answers(), Err(ClientError::Gone));
    assert_eq!(talk.reply_to(Operation::Disconnect).result(), 0);
    assert_eq!(talk.reply_to(Operation::Read).errno(), libc::ENOTCONN.cast_unsigned());
}

#[test]
fn half_a_write_says_what_it_holds_back() {
    let mut talk = talk(&[&option_reply(7, 1, &[])]);
    talk.client.say(&[go()]).unwrap();
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
    let mut talk = talk(&[b"IHAVEOPT and more"]);
    let failed = talk.client.say(&[Message::List]);
    assert!(matches!(failed, Err(ClientError::Refused { errno: libc::EPROTO, .. })));
    assert_eq!(talk.client.until_closed(), Ok(()));
}
