//! What a client asks, how it reads, and what becomes of it.

use std::time::Duration;

use super::HaproxyServer;
use crate::client::asked::Asked;
use crate::client::haproxy_cli::{CliClient, CliError};
use crate::client::http;
use crate::deadline::Deadline;

const SIP: usize = 1;
const IDLE: Duration = Duration::from_millis(200);
/// An answer that is so much longer than it was has no end.
const MORE: usize = 1 << 16;
/// Bytes of an answer of which the length is not known.
const MOST: usize = 64 << 20;

/// How a client reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As fast as it can.
    #[default]
    Quick,
    /// Little at a time, so many times, each when the server waits for it; and then as fast as it can.
    Slow(usize),
    /// Nothing for so long, and then as fast as it can.
    Pausing(Duration),
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// It was answered: a command's text, or status and body of a service's answer.
    Whole(Vec<u8>),
    /// No end came in time.
    Late,
    /// It goes on behind its end.
    Endless,
    /// The connection has ended, and the answer had not.
    Cut(String),
}

impl Answered {
    /// What came, where it came.
    pub(crate) fn said(&self) -> String {
        match self {
            Answered::Whole(bytes) => format!("an answer of {} bytes", bytes.len()),
            Answered::Late => "no end of an answer in time".to_owned(),
            Answered::Endless => "an answer without an end".to_owned(),
            Answered::Cut(how) => how.clone(),
        }
    }
}

/// What a client sends.
pub(crate) fn text_of(asked: &Asked) -> String {
    match asked {
        Asked::Command(command) => format!("{command}\n"),
        Asked::Request(request) => request.text(true),
    }
}

/// Sends this, and reads at this pace; `known` is how long the answer was before.
pub(crate) fn converse(
    mut client: CliClient,
    server: &mut HaproxyServer,
    (asked, text): (&Asked, &str),
    pace: Pace,
    known: Option<usize>,
) -> Answered {
    if let Err(error) = client.send(text.as_bytes()) {
        return Answered::Cut(format!("nothing could be sent: {error}"));
    }
    let mut got = Vec::new();
    match pace {
        Pace::Quick => {}
        Pace::Slow(sips) => {
            for _ in 0..sips {
                server.wait_idle(Deadline::after(IDLE));
                match client.read_bytes(SIP) {
                    Ok(bytes) => got.extend(bytes),
                    Err(error) => return over(asked, got, error),
                }
            }
        }
        // Only the end of the server ends it early.
        Pace::Pausing(pause) => {
            server.process.wait_until(Deadline::after(pause), || false);
        }
    }
    let most = known.map_or(MOST, |known| known.saturating_mul(2).saturating_add(MORE));
    read_on(client, asked, got, most)
}

/// Asks, and reads the answer to its end.
pub(crate) fn read_all(mut client: CliClient, asked: &Asked) -> Answered {
    match client.send(text_of(asked).as_bytes()) {
        Ok(()) => read_rest(client, asked, Vec::new()),
        Err(error) => Answered::Cut(format!("nothing could be sent: {error}")),
    }
}

/// Reads the rest of an answer of which this has come.
pub(crate) fn read_rest(client: CliClient, asked: &Asked, got: Vec<u8>) -> Answered {
    read_on(client, asked, got, MOST)
}

fn read_on(mut client: CliClient, asked: &Asked, mut got: Vec<u8>, most: usize) -> Answered {
    let answered = loop {
        match client.read_bytes(SIP) {
            Ok(bytes) => got.extend(bytes),
            Err(error) => break over(asked, got, error),
        }
        if got.len() > most {
            break Answered::Endless;
        }
    };
    client.hang_up();
    answered
}

fn over(asked: &Asked, got: Vec<u8>, error: CliError) -> Answered {
    match error {
        CliError::Closed => whole(asked, got),
        CliError::Timeout => Answered::Late,
        error => Answered::Cut(error.to_string()),
    }
}

/// An answer of HTTP by status and body, however it was cut into pieces.
fn whole(asked: &Asked, got: Vec<u8>) -> Answered {
    match asked {
        // There is an empty line behind whatever is answered.
        Asked::Command(_) if got.is_empty() => {
            Answered::Cut("the connection ends without an answer".to_owned())
        }
        Asked::Command(_) => Answered::Whole(got),
        Asked::Request(_) => match http::whole(&got) {
            Some(response) => Answered::Whole(response.told()),
            None => Answered::Cut(format!(
                "the connection ends in the middle of the answer, after {} bytes",
                got.len()
            )),
        },
    }
}

/// Says where two answers differ.
pub(crate) fn difference(expected: &[u8], got: &[u8]) -> String {
    let place = expected.iter().zip(got).position(|(one, other)| one != other);
    let place = place.unwrap_or(expected.len().min(got.len()));
    let line = expected.get(..place).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count() + 1;
    format!("{} bytes, which differ from byte {place} on, in line {line}", got.len())
}

/// Arguments that are most likely to be refused, each behind the words of a keyword; the first are none.
pub(crate) fn odd_arguments() -> Vec<String> {
    let few = ["", "bad", "no-such-thing", "-1", "0", "99999999999999999999", "1.5x", "#", "a/b"];
    few.map(str::to_owned).into_iter().chain(["x".repeat(1000), ["many"; 40].join(" ")]).collect()
}

/// Verbs of commands that change something.
const CHANGING: &[&str] = &[
    "set", "clear", "del", "add", "enable", "disable", "shutdown", "update", "commit", "new", "abort",
    "reset", "flush", "kill", "drop", "write", "delete", "remove", "create", "stop", "start", "reload",
];

/// Returns the word by which a keyword says that it changes something.
pub(crate) fn changing(words: &str) -> Option<&str> {
    words.split(' ').find(|word| CHANGING.contains(word))
}
