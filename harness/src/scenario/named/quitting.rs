//! Servers and connections that are told to end while they are at work.

use layers_behaviour::Deed;
use layers_trace::{Callback, Operation};

use super::super::{Ending, Scenario, Step, command};
use super::{act, act_nth, connect, go};
use crate::client::raw::{Message, info};
use crate::run::stack::Stack;

pub(super) fn all() -> Vec<Scenario> {
    vec![
        shut_down_in_open(),
        shut_down_in_request(),
        shut_down_with_two_clients(),
        signal_while_running(),
        signal_while_negotiating(),
        sleep_cut_short(),
        sleep_to_the_end(),
        disconnected("soft", false),
        disconnected("hard", true),
        exit_in_get_ready(),
    ]
}

fn read(client: u32) -> Step {
    Step::Request(client, command(Operation::Read, 0, 512, 0))
}

fn write(client: u32) -> Step {
    Step::Request(client, command(Operation::Write, 4096, 512, 0))
}

fn shut_down_in_open() -> Scenario {
    let stack = Stack::reference(2).with(0, |plugin| plugin.acts.push(act(Callback::Open, Deed::Shutdown)));
    Scenario::new("quit/shutdown-in-open", "a plugin that calls nbdkit_shutdown in open", stack)
        .script([connect(1), go(1, "").perhaps(), read(1).perhaps()])
        .ending(Ending::ByItself)
        .unordered()
}

fn shutting_down() -> Stack {
    Stack::reference(2).with(0, |plugin| plugin.acts.push(act_nth(Callback::Pread, 2, Deed::Shutdown)))
}

fn shut_down_in_request() -> Scenario {
    Scenario::new(
        "quit/shutdown-in-pread",
        "a plugin that calls nbdkit_shutdown in a request",
        shutting_down(),
    )
    .script([connect(1), go(1, ""), read(1), read(1), read(1).fails()])
    .ending(Ending::ByItself)
    .unordered()
}

fn shut_down_with_two_clients() -> Scenario {
    Scenario::new(
        "quit/shutdown-two-clients",
        "a plugin that calls nbdkit_shutdown in a request, while another client is connected",
        shutting_down(),
    )
    .script([
        connect(1),
        go(1, ""),
        connect(2),
        go(2, ""),
        read(1),
        read(2),
        read(1).fails(),
        read(2).fails(),
    ])
    .ending(Ending::ByItself)
    .unordered()
}

/// The request takes long enough for the signal to come while it is running.
fn signal_while_running() -> Scenario {
    let slow = Stack::reference(2).with(0, |plugin| {
        plugin.sleep.insert(Callback::Pread, 100);
    });
    Scenario::new("quit/signal-while-running", "SIGTERM while a request is running, whose client waits", slow)
        .script([
            Step::ConnectRaw(1),
            go(1, ""),
            Step::Running(1, command(Operation::Read, 0, 512, 0)),
            Step::Signal(libc::SIGTERM),
            Step::Answers(1),
        ])
        .ending(Ending::ByItself)
        .unordered()
}

fn signal_while_negotiating() -> Scenario {
    let slow = Stack::reference(2).with(0, |plugin| {
        plugin.sleep.insert(Callback::Open, 50);
    });
    Scenario::new("quit/signal-while-negotiating", "SIGTERM while a client's export is being opened", slow)
        .script([
            Step::ConnectRaw(1),
            Step::Send(1, vec![Message::Go(String::new(), vec![info::BLOCK_SIZE])]),
            Step::Entered(0, Callback::Open, 1),
            Step::Signal(libc::SIGTERM),
            Step::Answers(1).perhaps(),
        ])
        .ending(Ending::ByItself)
        .unordered()
}

/// Far longer than the run may take.
fn sleep_cut_short() -> Scenario {
    let stack = Stack::reference(2).with(0, |plugin| {
        plugin.acts.push(act(Callback::Pread, Deed::Nanosleep(60_000)));
    });
    Scenario::new("quit/nanosleep", "SIGTERM while a plugin is in nbdkit_nanosleep", stack)
        .script([
            Step::ConnectRaw(1),
            go(1, ""),
            Step::Running(1, command(Operation::Read, 0, 512, 0)),
            Step::Signal(libc::SIGTERM),
            Step::Answers(1).fails(),
        ])
        .ending(Ending::ByItself)
        .unordered()
}

fn sleep_to_the_end() -> Scenario {
    let stack = Stack::reference(2).with(0, |plugin| {
        plugin.acts.push(act(Callback::Pread, Deed::Nanosleep(20)));
    });
    Scenario::new("quit/nanosleep-whole", "a plugin that sleeps with nbdkit_nanosleep, and is let", stack)
        .script([connect(1), go(1, ""), read(1), Step::Disconnect(1)])
}

/// Servers before 1.34 have no such function: to them this is an ordinary client.
fn disconnected(how: &str, force: bool) -> Scenario {
    let stack = Stack::reference(2).with(0, |plugin| {
        plugin.sleep.insert(Callback::Pread, 50);
        plugin.acts.push(act(Callback::Pwrite, Deed::Disconnect(force)));
    });
    let name = format!("quit/disconnect-{how}");
    Scenario::new(name, "a plugin that ends a connection in a request while another one is running", stack)
        .script([
            Step::ConnectRaw(1),
            go(1, ""),
            Step::Running(1, command(Operation::Read, 0, 512, 0)),
            write(1).perhaps(),
            Step::Answers(1).perhaps(),
            Step::Request(1, command(Operation::Flush, 0, 0, 0)).perhaps(),
        ])
        .unordered()
}

fn exit_in_get_ready() -> Scenario {
    let stack =
        Stack::reference(2).with(1, |filter| filter.acts.push(act(Callback::GetReady, Deed::Exit(1))));
    let about = "a filter that calls exit in get_ready, where it may";
    let scenario = Scenario::new("start-fails/exit-in-get_ready", about, stack);
    Scenario { start_fails: true, ..scenario }
}
