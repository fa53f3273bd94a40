//! A command of which something is tried, how it is asked for, and what comes of that.

use std::time::Duration;

use crate::client::asked::Asked;
use crate::deadline::Deadline;
use crate::server::haproxy::HaproxyServer;
use crate::server::haproxy::asking::{Answered, Pace, converse, text_of};

/// How long an answer may take that nothing disturbs: many times what it takes where the server has a fifth of a processor.
pub(super) const UNDISTURBED: Duration = Duration::from_secs(5);
/// What stands in a command for the directory of the run.
pub(super) const DIRECTORY: &str = "{dir}";

/// What came of a trial.
pub(super) enum Outcome {
    /// It went as it should.
    Holds,
    /// The rule is not about this command.
    NotMeant,
    /// It is, and for this reason nothing can be said.
    Unjudged(&'static str),
    /// What was expected, and what came instead.
    Broken { expected: &'static str, actual: String },
}

impl Outcome {
    pub(super) fn broken(expected: &'static str, actual: impl Into<String>) -> Outcome {
        Outcome::Broken { expected, actual: actual.into() }
    }
}

/// A command, with the words of its keyword.
pub(super) struct Command {
    pub(super) words: String,
    pub(super) asked: Asked,
}

pub(super) fn directory_of(server: &HaproxyServer) -> String {
    server.file("").to_string_lossy().trim_end_matches('/').to_owned()
}

/// Asks at this socket, or over HTTP, and reads at this pace.
pub(super) fn ask_at(
    server: &mut HaproxyServer,
    socket: &str,
    (number, asked): (u32, &Asked),
    (pace, known): (Pace, Option<usize>),
    patience: Duration,
) -> Answered {
    let socket = match asked {
        Asked::Command(_) => socket,
        Asked::Request(_) => "http",
    };
    let text = text_of(asked).replace(DIRECTORY, &directory_of(server));
    match server.connect(number, socket, Deadline::after(patience)) {
        Ok(client) => converse(client, server, (asked, &text), pace, known),
        Err(error) => Answered::Cut(format!("no connection: {error}")),
    }
}
