//! A master process and its workers.

use super::super::super::session::{SessionStep, Socket, ask};
use super::super::super::{Ending, Scenario};
use super::{SMALL, send, session, with};
use crate::run::Start;

pub(super) fn all() -> Vec<Scenario> {
    let small = |scenario: Scenario| with(scenario, |session| session.configuration = SMALL);
    let all = vec![
        session(
            "master/commands",
            "commands for the master, and through it for its worker",
            vec![
                ask("show info"),
                SessionStep::Ask(Socket::Master, "show proc".to_owned()),
                SessionStep::Ask(Socket::Master, "@1 show info;@1 layers own-memory".to_owned()),
                SessionStep::Ask(Socket::Master, "@master show version".to_owned()),
            ],
        ),
        small(session("master/reload", "a new worker in the middle of a dump of the old one", {
            let mut steps = dumping();
            // Where the master goes on at once it does not answer, and where it waits for the new worker it says how it went.
            steps.extend([
                SessionStep::Perhaps(Socket::Master, "reload".to_owned()),
                SessionStep::Reloaded,
                SessionStep::ReadToEnd(1),
            ]);
            steps
        })),
        small(session("master/reload-signal", "the same, asked for with a signal", {
            let mut steps = dumping();
            steps.extend([
                SessionStep::Signal(libc::SIGUSR2),
                SessionStep::Reloaded,
                SessionStep::ReadToEnd(1),
            ]);
            steps
        })),
        small(
            session(
                "master/soft-stop",
                "a master that is told to stop in the middle of a dump of its worker",
                dumping(),
            )
            .ending(Ending::Interrupt(libc::SIGUSR1)),
        ),
        small(
            session("master/stop", "a master that is told to stop at once", dumping())
                .ending(Ending::Cut(libc::SIGTERM)),
        ),
        small(session("master/worker-killed", "a worker that is killed in the middle of a dump", {
            let mut steps = dumping();
            steps.push(SessionStep::KillWorker);
            steps
        }))
        .ending(Ending::ByItself),
    ];
    all.into_iter().map(|scenario| scenario.start(Start::MasterWorker).unordered()).collect()
}

fn dumping() -> Vec<SessionStep> {
    vec![
        // The master starts itself anew after its workers, and loses signals meanwhile.
        SessionStep::Ask(Socket::Master, "show proc".to_owned()),
        SessionStep::Connect(1, Socket::Cli),
        send(1, "show servers state\n"),
        SessionStep::Handled(1),
    ]
}
