//! Ways in which a server ends.

use layers_trace::{Callback, Operation};

use super::super::{Ending, Scenario, Step, command};
use super::{connect, go};
use crate::run::Start;
use crate::stack::Stack;

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
        single(),
        single_hang_up(),
        single_silent(),
        captive(),
        captive_ends_first(),
        killed(),
        connect_at_signal(),
        hang_up_with_requests(),
    ]);
    all
}

fn read(client: u32) -> Step {
    Step::Request(client, command(Operation::Read, 0, 512, 0))
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
fn unextended() -> Stack {
    Stack::reference(2).with(2, |filter| {
        filter.answers.insert(Callback::CanExtents, 0);
    })
}

fn connected(name: &str, signal: i32) -> Scenario {
    Scenario::new(format!("end/{name}/connected"), "this signal while a client is connected", unextended())
        .script([connect(1), go(1, ""), read(1)])
        .ending(Ending::Interrupt(signal))
}

fn single() -> Scenario {
    Scenario::new("single/disconnect", "-s: one client, which says goodbye", Stack::reference(2))
        .start(Start::Single)
        .script([connect(1), go(1, ""), read(1), Step::Disconnect(1)])
        .ending(Ending::ByItself)
}

fn single_hang_up() -> Scenario {
    Scenario::new("single/hang-up", "-s: one client, which closes its socket", Stack::reference(2))
        .start(Start::Single)
        .script([connect(1), go(1, ""), read(1), Step::HangUp(1)])
        .ending(Ending::ByItself)
}

fn single_silent() -> Scenario {
    Scenario::new("single/silent", "-s: the other end closes before a byte is sent", Stack::reference(2))
        .start(Start::Single)
        .ending(Ending::ByItself)
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
