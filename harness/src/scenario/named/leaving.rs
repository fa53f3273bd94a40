//! How a client leaves: with how much said, and with how much still to come.

use layers_trace::{Callback, Operation};

use super::super::{Ending, Scenario, Step, command};
use super::ending::unextended;
use super::{connect, go, info, read, say};
use crate::client::raw::Message;
use crate::run::stack::Stack;

pub(super) fn all() -> Vec<Scenario> {
    let mut all: Vec<Scenario> = [0, 1, 4].map(disconnect).into();
    all.extend([
        pipelined_disconnect(),
        half_close(),
        half_close_running(),
        hang_up_pipelined(),
        signal_running(),
        signal_negotiating(),
        signal_waiting(),
    ]);
    all
}

/// Reads take their time.
fn slow() -> Stack {
    Stack::reference(2).with(0, |plugin| {
        plugin.sleep.insert(Callback::Pread, 20);
    })
}

fn reads(count: u64) -> Vec<Message> {
    (0..count).map(|n| Message::Request(command(Operation::Read, n * 4096, 512, 0))).collect()
}

/// libnbd closes its own direction when it says goodbye; this client does not.
fn disconnect(running: u64) -> Scenario {
    Scenario::new(
        format!("leave/disconnect-open/{running}"),
        "a client that says goodbye with so many requests running, and leaves its socket open",
        slow(),
    )
    .script([
        Step::ConnectRaw(1),
        go(1, ""),
        Step::Send(1, reads(running)),
        Step::Entered(0, Callback::Pread, running),
        say(1, [Message::Disconnect]),
    ])
}

fn pipelined_disconnect() -> Scenario {
    let write = |n: u64| Message::Request(command(Operation::Write, n * 4096, 4096, 0));
    let messages = (0..8).map(write).chain([Message::Disconnect]).collect();
    Scenario::new(
        "leave/pipelined-disconnect",
        "eight writes and the goodbye in one write",
        Stack::reference(2),
    )
    // All are carried out; the replies may be lost once the server has read the goodbye.
    .script([Step::ConnectRaw(1), go(1, ""), Step::Say(1, messages).perhaps(), Step::HangUp(1)])
    .unordered()
}

fn half_close() -> Scenario {
    Scenario::new(
        "leave/half-close",
        "a client that closes its direction of the socket, in negotiation and when it is served",
        Stack::reference(2),
    )
    .script([
        Step::ConnectRaw(1),
        info(1, "a"),
        Step::HalfClose(1),
        Step::Dropped(1),
        Step::HangUp(1),
        Step::ConnectRaw(2),
        go(2, ""),
        read(2),
        Step::HalfClose(2),
        Step::Dropped(2),
        Step::HangUp(2),
    ])
}

/// Whether the reply still comes is the server's business.
fn half_close_running() -> Scenario {
    Scenario::new(
        "leave/half-close-running",
        "a client that closes its direction of the socket while a request is running",
        slow(),
    )
    .script([
        Step::ConnectRaw(1),
        go(1, ""),
        Step::Send(1, reads(1)),
        Step::Entered(0, Callback::Pread, 1),
        Step::HalfClose(1),
        Step::Answers(1).perhaps(),
        Step::Dropped(1),
        Step::HangUp(1),
    ])
}

fn hang_up_pipelined() -> Scenario {
    let one = vec![Message::Request(command(Operation::Read, 0, 512, 0))];
    let options = vec![Message::Info("a".to_owned(), Vec::new())];
    Scenario::new(
        "leave/hang-up-unread",
        "clients that ask and do not stay for the answer",
        Stack::reference(2),
    )
    .script([
        Step::ConnectRaw(1),
        Step::Send(1, options),
        Step::Entered(0, Callback::Open, 1),
        Step::HangUp(1),
        Step::ConnectRaw(2),
        go(2, ""),
        Step::Send(2, one),
        Step::Entered(0, Callback::Pread, 1),
        Step::HangUp(2),
    ])
    .unordered()
}

/// Reads take their time, and a client can ask whether the server is shutting down.
fn slow_unextended() -> Stack {
    unextended().with(0, |plugin| {
        plugin.sleep.insert(Callback::Pread, 50);
    })
}

fn signal_running() -> Scenario {
    let read = command(Operation::Read, 0, 512, 0);
    let about = "SIGTERM while a request is running, whose client asks for more";
    Scenario::new("end/sigterm/running", about, slow_unextended())
        .script([
            connect(1),
            go(1, ""),
            Step::Running(1, read),
            Step::Signal(libc::SIGTERM),
            Step::Noticed(1),
            // The callback returns. Whether its reply still gets out, once others have found the server stopping, varies.
            Step::Answers(1).perhaps(),
        ])
        .ending(Ending::ByItself)
        .unordered()
}

/// What becomes of the one that negotiates is left open.
fn signal_negotiating() -> Scenario {
    Scenario::new(
        "end/sigterm/negotiating",
        "SIGTERM while one client is served and another negotiates, which may go on or not",
        unextended(),
    )
    .script([
        connect(1),
        go(1, ""),
        Step::ConnectRaw(2),
        info(2, "a"),
        Step::Signal(libc::SIGTERM),
        Step::Noticed(1),
        info(2, "b").perhaps(),
        go(2, "").perhaps(),
        Step::HangUp(2),
        Step::Disconnect(1).perhaps(),
    ])
    .ending(Ending::ByItself)
}

/// Under thread model 0 a client waits for its turn before the server even greets it.
fn signal_waiting() -> Scenario {
    let stack = unextended().with(0, |plugin| {
        plugin.answers.insert(Callback::ThreadModel, 0);
    });
    // Whether the server accepts the second one before the signal is a race.
    let scenario = Scenario::new(
        "race/signal-waiting",
        "SIGTERM while one client is served and another waits for its turn",
        stack,
    )
    .script([
        connect(1),
        go(1, ""),
        read(1),
        Step::Dial(2),
        Step::Signal(libc::SIGTERM),
        Step::Noticed(1),
        Step::Disconnect(1).perhaps(),
        Step::Greeting(2).perhaps(),
        Step::HangUp(2),
    ])
    .ending(Ending::ByItself);
    Scenario { tries: 8, ..scenario }
}
