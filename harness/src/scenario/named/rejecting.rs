//! What no honest client says: requests that are refused, bytes that are no message, and half of a message.

use layers_trace::{Callback, Operation};

use super::super::{Scenario, Step, command, flag};
use super::{connect, go, read, say};
use crate::client::raw::Message;
use crate::protocol::MOST_SERVED;
use crate::run::stack::Stack;

/// Bytes of the reference plugin's disk.
const SIZE: u64 = 1 << 20;

pub(super) fn all() -> Vec<Scenario> {
    vec![
        requests(),
        large_read(),
        oversize_write(),
        options(),
        partial_write(),
        garbage(),
        fast_zero_unoffered(),
    ]
}

/// Each is refused, no layer sees it, and the connection goes on.
fn requests() -> Scenario {
    use Operation::{Cache, Read, Trim, Write, Zero};
    let refused = [
        command(Read, 0, 0, 0),
        command(Read, SIZE - 511, 512, 0),
        command(Read, SIZE, 1, 0),
        command(Read, u64::MAX - 511, 512, 0),
        command(Read, u64::MAX, 512, 0),
        command(Read, 0, MOST_SERVED + 512, 0),
        command(Read, 0, 512, 1 << 15),
        command(Read, 0, 512, flag::FAST_ZERO),
        command(Write, SIZE - 511, 512, 0),
        command(Write, 0, 512, flag::NO_HOLE),
        // What follows the payload is the next request, whatever the server reads at a time to skip it.
        command(Write, SIZE, 1, 0),
        command(Write, SIZE - 512, 8193, 0),
        command(Trim, u64::MAX - 511, 512, 0),
        command(Zero, SIZE, 512, 0),
        command(Zero, 0, 512, flag::REQ_ONE),
        command(Cache, SIZE - 511, 512, 0),
    ];
    let mut script = vec![Step::ConnectRaw(1), go(1, ""), read(1)];
    script.extend(refused.map(|request| Step::Request(1, request).fails()));
    script.extend([say(1, [Message::UnknownCommand(99)]).fails(), read(1), Step::Disconnect(1)]);
    Scenario::new(
        "reject/requests",
        "requests that the server must refuse: range, size, flags and type",
        Stack::reference(2),
    )
    .script(script)
}

/// It lies on the disk, and is more than the server reads at once.
fn large_read() -> Scenario {
    let stack = Stack::reference(1).with(0, |plugin| {
        plugin.answers.insert(Callback::GetSize, i64::from(3 * MOST_SERVED));
    });
    let large = command(Operation::Read, 0, MOST_SERVED + 512, 0);
    Scenario::new("reject/large-read", "a read of more than the server reads at once", stack).script([
        Step::ConnectRaw(1),
        go(1, ""),
        Step::Request(1, large).fails(),
        read(1),
        Step::Disconnect(1),
    ])
}

/// More data than the server is willing to skip: it ends the connection instead.
fn oversize_write() -> Scenario {
    let huge = command(Operation::Write, 0, 2 * MOST_SERVED + 512, 0);
    Scenario::new(
        "reject/oversize-write",
        "a write with more data than the server skips",
        Stack::reference(2),
    )
    .script([
        Step::ConnectRaw(1),
        go(1, ""),
        Step::Send(1, vec![Message::Partial(huge, 4096)]),
        Step::Dropped(1),
        Step::HangUp(1),
    ])
}

/// nbdkit 1.32 aborts instead of refusing it.
fn fast_zero_unoffered() -> Scenario {
    let stack = Stack::reference(0).with(0, |plugin| {
        plugin.absent.insert(Callback::CanFastZero);
    });
    let zero = command(Operation::Zero, 0, 4096, flag::FAST_ZERO);
    Scenario::new(
        "reject/fast-zero-unoffered",
        "a request to zero only if that is fast, which the server has not offered",
        stack,
    )
    .script([Step::ConnectRaw(1), go(1, ""), Step::Request(1, zero).fails(), Step::HangUp(1)])
    .unordered()
}

/// Each is refused, and the negotiation goes on.
fn options() -> Scenario {
    let contexts = vec!["base:allocation".to_owned()];
    let cut = |option, missing| say(1, [Message::Cut(Box::new(option), missing)]).fails();
    Scenario::new(
        "reject/options",
        "options that the server must refuse, after which the client is served",
        Stack::reference(2),
    )
    .script([
        Step::ConnectRaw(1),
        say(1, [Message::UnknownOption(99)]).fails(),
        say(1, [Message::StartTls]).fails(),
        say(1, [Message::SetMetaContext(String::new(), contexts)]).fails(),
        say(1, [Message::Info("a".to_owned(), vec![77])]),
        cut(Message::Info("a".to_owned(), Vec::new()), 1),
        cut(Message::Go("a".to_owned(), Vec::new()), 2),
        cut(Message::ListMetaContext("a".to_owned(), Vec::new()), 4),
        go(1, ""),
        read(1),
        Step::Disconnect(1),
    ])
}

fn partial_write() -> Scenario {
    let write = |offset| command(Operation::Write, offset, 4096, 0);
    let half = |client, sent| {
        [
            Step::ConnectRaw(client),
            go(client, ""),
            Step::Request(client, write(8192)),
            Step::Send(client, vec![Message::Partial(write(0), sent)]),
            Step::HangUp(client),
        ]
    };
    let script = [half(1, 2048), half(2, 0), half(3, 4095)].concat();
    Scenario::new(
        "leave/partial-write",
        "a client that vanishes in the middle of the data of a write",
        Stack::reference(2),
    )
    .script(script)
}

fn garbage() -> Scenario {
    Scenario::new(
        "reject/garbage",
        "bytes that are no message, instead of an option and instead of a request",
        Stack::reference(2),
    )
    .script([
        Step::ConnectRaw(1),
        say(1, [Message::Garbage]).fails(),
        Step::HangUp(1),
        Step::ConnectRaw(2),
        go(2, ""),
        read(2),
        say(2, [Message::Garbage]).fails(),
        Step::HangUp(2),
        connect(3),
        go(3, ""),
        Step::Entered(2, Callback::Open, 2),
        Step::Disconnect(3),
    ])
}
