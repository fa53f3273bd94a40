//! What all acts share: a server of their own, and the questions that an entry is asked.

use std::time::Duration;

use crate::client::asked::Asked;
use crate::deadline::Deadline;
use crate::server::haproxy::{HaproxyError, HaproxyServer};

use super::super::bench::{Bench, Conditions};
use super::super::discovery::Handler;
use super::super::said::Said;
use crate::server::haproxy::asking::{Answered, difference};

/// How long a server that has closed a connection may take to be dead.
const DEATH: Duration = Duration::from_millis(500);

/// Plays a check with one entry.
pub(in super::super) type Act = fn(&Bench<'_>, &Handler) -> Result<Said, HaproxyError>;

/// Plays on a server of its own.
pub(super) fn on_server(
    bench: &Bench<'_>,
    conditions: &Conditions,
    act: impl FnOnce(&mut HaproxyServer) -> Said,
) -> Result<Said, HaproxyError> {
    let mut server = match bench.start(conditions)? {
        Ok(server) => server,
        Err(complaint) => return Ok(Said::Undecided(format!("the server does not start: {complaint}"))),
    };
    let said = act(&mut server);
    bench.end(server, conditions);
    Ok(said)
}

/// Returns how an entry is asked.
pub(super) fn asked(entry: &Handler) -> Asked {
    entry.asked.clone().unwrap_or_else(|| Asked::Command(entry.name.clone()))
}

/// Returns true where the server has not died so far.
pub(super) fn is_alive(server: &mut HaproxyServer) -> bool {
    server.process.wait_for_end(Deadline::after(Duration::ZERO)).is_none()
}

/// Returns true where the server dies: a connection may be closed a little earlier.
pub(super) fn dies(server: &mut HaproxyServer) -> bool {
    server.process.wait_for_end(Deadline::after(DEATH)).is_some()
}

/// What an entry answers when nothing disturbs it.
pub(super) struct Undisturbed {
    /// The first answer.
    pub(super) answer: Vec<u8>,
    /// The second one is the same.
    pub(super) stable: bool,
}

impl Undisturbed {
    /// Asks twice, on a server that nothing else is asked of.
    pub(super) fn of(
        bench: &Bench<'_>,
        server: &mut HaproxyServer,
        asked: &Asked,
    ) -> Result<Undisturbed, Said> {
        let mut ask = || match bench.ask(server, asked) {
            Answered::Whole(bytes) => Ok(bytes),
            _ => Err(Said::Unfit(no_answer(asked))),
        };
        let (answer, second) = (ask()?, ask()?);
        let stable = answer == second;
        Ok(Undisturbed { answer, stable })
    }

    /// Returns what is wrong with this answer, if anything is.
    pub(super) fn differs(&self, answered: &Answered) -> Option<String> {
        match answered {
            Answered::Whole(bytes) if !self.stable || *bytes == self.answer => None,
            Answered::Whole(bytes) => Some(difference(&self.answer, bytes)),
            other => Some(other.said()),
        }
    }

    /// Returns what is expected of an answer that is given like this.
    pub(super) fn expected(&self, asked: &Asked, how: &str) -> String {
        match self.stable {
            true => format!("the same {} bytes for `{asked}` {how} as alone", self.answer.len()),
            false => format!("a whole answer to `{asked}` {how}"),
        }
    }
}

/// Says that there is nothing to compare with.
pub(in super::super) fn no_answer(asked: &Asked) -> String {
    format!("`{asked}` has no whole answer: see handler.answers")
}
