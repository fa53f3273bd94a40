//! Ways in which a server ends.

use layers_trace::{Callback, Operation};

use super::super::{Ending, NBDINFO, Scenario, Step, command};
use super::{always, connect, go, info, read, say};
use crate::client::raw::Message;
use crate::run::Start;
use crate::run::stack::Stack;

pub(super) fn all() -> Vec<Scenario> {
    let signals = [
        ("sigterm", libc::SIGTERM),
        ("sigint", libc::SIGINT),
        ("sigquit", libc::SIGQUIT),
        ("sighup", libc::SIGHUP),
    ];
    let mut all: Vec<Scenario> = signals.map(|(name, signal)| idle(name, signal)).into();
    all.extend(signals.map(|(name, signal)| closed(name, signal)));
    all.extend(
        [("sigterm", libc::SIGTERM), ("sigint", libc::SIGINT)].map(|(name, signal)| connected(name, signal)),
    );
    all.extend([
        captive(),
        captive_ends_first(),
        captive_hang_up(),
        running("true", "true", 0),
        running("exit-3", "exit 3", 3),
        Scenario { needs: &[NBDINFO], ..running("nbdinfo", r#"nbdinfo "$uri""#, 0) },
        captive_start_fails(),
        parent_dies(),
        killed(),
        killed_idle(),
        connect_at_signal(),
        hang_up_with_requests(),
    ]);
    for threads in [None, Some(1)] {
        all.extend([
            single(threads),
            single_hang_up(threads),
            single_negotiating(threads),
            single_silent(threads),
            single_sigterm(threads),
        ]);
    }
    all
}

fn idle(name: &str, signal: i32) -> Scenario {
    Scenario::new(
        format!("end/{name}/idle"),
        "this signal to a server that no client ever came to",
        Stack::reference(2),
    )
    .ending(Ending::Stop(signal))
}

fn closed(name: &str, signal: i32) -> Scenario {
    Scenario::new(
        format!("end/{name}/closed"),
        "this signal after the last client has left",
        Stack::reference(2),
    )
    .script([connect(1), go(1, ""), read(1), Step::Disconnect(1)])
    .ending(Ending::Stop(signal))
}

/// Outermost, this layer has no extents: block status is then answered by the server alone, and a client can ask
/// whether the server is shutting down without any callback.
pub(super) fn unextended() -> Stack {
    Stack::reference(2).with(2, |filter| {
        filter.answers.insert(Callback::CanExtents, 0);
    })
}

fn connected(name: &str, signal: i32) -> Scenario {
    Scenario::new(format!("end/{name}/connected"), "this signal while a client is connected", unextended())
        .script([connect(1), go(1, ""), read(1)])
        .ending(Ending::Interrupt(signal))
}

/// Served by `-s`, by the usual number of threads or by this one alone.
fn alone(how: &str, about: &'static str, threads: Option<u32>, stack: Stack) -> Scenario {
    let suffix = threads.map_or(String::new(), |threads| format!("-t{threads}"));
    let stack = Stack { threads, ..stack };
    Scenario::new(format!("single/{how}{suffix}"), about, stack).start(Start::Single).ending(Ending::ByItself)
}

fn single(threads: Option<u32>) -> Scenario {
    alone("disconnect", "-s: one client, which says goodbye", threads, Stack::reference(2)).script([
        connect(1),
        go(1, ""),
        read(1),
        Step::Disconnect(1),
    ])
}

fn single_hang_up(threads: Option<u32>) -> Scenario {
    alone("hang-up", "-s: one client, which closes its socket", threads, Stack::reference(2)).script([
        connect(1),
        go(1, ""),
        read(1),
        Step::HangUp(1),
    ])
}

fn single_negotiating(threads: Option<u32>) -> Scenario {
    let about = "-s: one client, which closes its socket during negotiation";
    alone("negotiating", about, threads, Stack::reference(2)).script([
        Step::ConnectRaw(1),
        say(1, [Message::List]),
        info(1, "a"),
        Step::HangUp(1),
    ])
}

fn single_silent(threads: Option<u32>) -> Scenario {
    alone("silent", "-s: the other end closes before a byte is sent", threads, Stack::reference(2))
}

fn single_sigterm(threads: Option<u32>) -> Scenario {
    alone("sigterm", "-s: SIGTERM while the client is connected", threads, unextended())
        .script([connect(1), go(1, ""), read(1)])
        .ending(Ending::Interrupt(libc::SIGTERM))
}

fn captive() -> Scenario {
    Scenario::new("captive/closed", "--run: the command ends when its client has left", Stack::reference(2))
        .start(Start::Captive)
        .script([connect(1), go(1, ""), read(1), Step::Disconnect(1)])
        .ending(Ending::ByItself)
}

fn captive_ends_first() -> Scenario {
    Scenario::new("captive/connected", "--run: the command ends while a client is connected", unextended())
        .start(Start::Captive)
        .script([connect(1), go(1, ""), read(1)])
        .ending(Ending::CommandEnds)
}

fn captive_hang_up() -> Scenario {
    Scenario::new("captive/hang-up", "--run: a client that closes its socket", Stack::reference(2))
        .start(Start::Captive)
        .script([connect(1), go(1, ""), read(1), Step::HangUp(1)])
        .ending(Ending::ByItself)
}

/// The command is not ours: what it asks is not in the trace, and when the server is told to stop is a race with it.
fn running(name: &str, command: &'static str, exit_status: i32) -> Scenario {
    let about = "--run: a command that waits for nobody, and whose exit status is the server's";
    let scenario = Scenario::new(format!("captive/{name}"), about, Stack::reference(2))
        .start(Start::Captive)
        .ending(Ending::ByItself)
        .unordered();
    Scenario { command: Some(command), exit_status, ..scenario }
}

fn captive_start_fails() -> Scenario {
    let stack = Stack::reference(2).with(1, |filter| filter.fail.push(always(Callback::AfterFork)));
    let scenario = Scenario::new("start-fails/captive", "--run: after_fork fails", stack);
    Scenario { start_fails: true, start: Start::Captive, ..scenario }
}

fn parent_dies() -> Scenario {
    Scenario::new(
        "end/parent-dies",
        "--exit-with-parent: the server's parent ends while a client is connected",
        unextended(),
    )
    .start(Start::ExitWithParent)
    .script([connect(1), go(1, ""), read(1)])
    .ending(Ending::CommandEnds)
}

fn killed_idle() -> Scenario {
    Scenario::new("end/sigkill-idle", "SIGKILL while a client is connected", Stack::reference(2))
        .script([connect(1), go(1, ""), read(1)])
        .ending(Ending::Cut(libc::SIGKILL))
}

fn killed() -> Scenario {
    let slow = Stack::reference(2).with(0, |plugin| {
        plugin.sleep.insert(Callback::Pread, 10_000);
    });
    Scenario::new("end/sigkill", "SIGKILL while a request is running", slow)
        .script([connect(1), go(1, ""), Step::Running(1, command(Operation::Read, 0, 512, 0))])
        .ending(Ending::Cut(libc::SIGKILL))
}

/// The server counts a connection only once its thread runs: one that is accepted right before the signal can begin
/// after cleanup has. One CPU and a cleanup that takes its time make that likely enough to be counted.
fn connect_at_signal() -> Scenario {
    let stack = Stack::reference(2).with(2, |filter| {
        filter.sleep.insert(Callback::Cleanup, 5);
    });
    let scenario =
        Scenario::new("race/connect-at-signal", "a client that connects in the instant of SIGTERM", stack)
            .script([Step::Knock])
            .ending(Ending::Cut(libc::SIGTERM));
    Scenario { tries: 25, one_cpu: true, ..scenario }
}

/// Each worker finds out for itself, when it wants to send its reply, that the client has gone.
fn hang_up_with_requests() -> Scenario {
    let slow = Stack::reference(0).with(0, |plugin| {
        plugin.sleep.insert(Callback::Pread, 5);
    });
    let running = |block: u64| Step::Running(1, command(Operation::Read, block * 4096, 512, 0));
    let script = [connect(1), go(1, "")].into_iter().chain((0..4).map(running)).chain([Step::HangUp(1)]);
    let about = "a client that closes its socket while several of its requests are running";
    Scenario { tries: 25, ..Scenario::new("race/hang-up-with-requests", about, slow).script(script) }
}
