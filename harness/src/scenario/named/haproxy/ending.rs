//! Signals while commands are in flight.

use super::super::super::session::{SessionStep, Socket};
use super::super::super::{Ending, Scenario};
use super::{SMALL, send, session, waiting, with};

pub(super) fn all() -> Vec<Scenario> {
    let dumping = || {
        vec![SessionStep::Connect(1, Socket::Cli), send(1, "show servers state\n"), SessionStep::Handled(1)]
    };
    let small = |scenario: Scenario| with(scenario, |session| session.configuration = SMALL);
    let about = "SIGUSR1 in the middle of a dump: the server waits for its client, which leaves";
    let all = vec![
        small(session("stop/soft", about, dumping()).ending(Ending::Interrupt(libc::SIGUSR1))),
        small(
            session("stop/hard", "SIGTERM in the middle of a dump", dumping())
                .ending(Ending::Cut(libc::SIGTERM)),
        ),
        session("stop/hard-waiting", "SIGTERM while a command waits", waiting("layers wait-own"))
            .ending(Ending::Cut(libc::SIGTERM)),
        small(
            session("stop/kill", "SIGKILL in the middle of a dump", {
                let mut steps = dumping();
                steps.push(SessionStep::Signal(libc::SIGKILL));
                steps
            })
            .ending(Ending::ByItself),
        ),
    ];
    all.into_iter().map(Scenario::unordered).collect()
}
