//! Whatever a server answers, the raw client takes it for an answer, or says what is wrong with it.

#![no_main]

use std::fs::File;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use layers::client::Command;
use layers::client::raw::{Message, Raw, info};
use layers::deadline::Deadline;
use layers::trace::{Operation, Writer};
use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, memfd_create};

/// What a server may send at once before anybody reads.
const MOST: usize = 1 << 16;

/// Everything that a client can ask for: a bit of the first byte each.
fn messages(wanted: u8) -> Vec<Message> {
    let infos = vec![info::NAME, info::DESCRIPTION, info::BLOCK_SIZE];
    let all = [
        Message::List,
        Message::StructuredReply,
        Message::SetMetaContext("a".to_owned(), vec!["base:allocation".to_owned()]),
        Message::ListMetaContext(String::new(), Vec::new()),
        Message::Info("a".to_owned(), infos.clone()),
        Message::Go("a".to_owned(), infos),
        Message::ExportName("a".to_owned()),
        Message::Abort,
    ];
    all.into_iter().enumerate().filter(|(bit, _)| wanted >> bit & 1 == 1).map(|(_, message)| message).collect()
}

fn requests(wanted: u8) -> Vec<Message> {
    let all = [
        (Operation::Read, 0, 512),
        (Operation::Write, 512, 16),
        (Operation::BlockStatus, 0, 1 << 20),
        (Operation::Flush, 0, 0),
        (Operation::Read, 0, 0),
        (Operation::Trim, 0, u32::MAX),
        (Operation::Zero, u64::MAX, 4096),
        (Operation::Cache, 0, 4096),
    ];
    let wanted = all.into_iter().enumerate().filter(|(bit, _)| wanted >> bit & 1 == 1);
    let command = |(operation, offset, count)| Command { operation, offset, count, flags: 0 };
    wanted.map(|(_, one)| Message::Request(command(one))).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&[options, asked], replies)) = bytes.split_first_chunk() else { return };
    let memory = File::from(memfd_create("trace", MemfdFlags::CLOEXEC).unwrap());
    let trace = Arc::new(Writer::create(&memory, 1 << 8, 1).unwrap());
    let (ours, mut server) = UnixStream::pair().unwrap();
    server.write_all(&replies[..replies.len().min(MOST)]).unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    let deadline = Deadline::after(Duration::from_secs(2));
    let Ok(mut client) = Raw::on(1, ours.into(), trace, deadline) else { return };
    if client.greeting().is_err() {
        return;
    }
    for message in messages(options) {
        let _ = client.say(&[message]);
    }
    if client.is_ready() {
        let _ = client.say(&requests(asked));
    }
    let _ = client.disconnect();
    client.hang_up();
});
