//! Answers in the middle of which what they show is changed, and commands while requests wait.

use std::time::Duration;

use super::acting::Acting;
use super::tried::{Command, DIRECTORY, Outcome, UNDISTURBED, directory_of};
use crate::client::asked::Asked;
use crate::client::haproxy_cli::{CliClient, CliError};
use crate::client::http::get;
use crate::deadline::Deadline;
use crate::server::haproxy::asking::{Answered, changing, read_rest, text_of};

const ENDS: &str = "an answer with an end, whatever is changed meanwhile";
const GOES_ON: &str = "an answer while requests wait, and after it";
/// Why nothing is said of a command.
const NOTHING: &str = "it has no answer in the middle of which something could be changed";
const NONE_WAITS: &str = "no request could be made to wait";
/// How long the server is watched for a moment in which it has nothing to do.
const IDLE: Duration = Duration::from_millis(100);
/// Clients whose answers wait at the same time, and requests that wait.
const READERS: usize = 2;

/// What is added, changed and deleted meanwhile, each on a connection of its own. A version may refuse some.
const CHANGES: &[&str] = &[
    "add map {dir}/map new value;set map {dir}/map one other;del map {dir}/map key5;clear map {dir}/map",
    "add map {dir}/map <<\none value\nkey5 value5\nkey6 value6\nkey7 value7\n",
    "add acl {dir}/acl new;del acl {dir}/acl key5;clear acl {dir}/acl",
    "add acl {dir}/acl <<\none\nkey5\nkey6\nkey7\n",
    "clear table shop key 10.0.0.5;clear table shop;set table shop key 10.0.0.200 data.gpc0 1",
    "add server shop/new 127.0.0.1:9;del server shop/many5;del server shop/new",
    "set server shop/many7 addr 127.0.0.2;set weight shop/many8 7;clear counters all",
];
/// What gives back to requests what a command has taken from them.
const RESTORED: &str = "enable frontend busy;enable server slow/one;set server slow/one state ready;\
                        set maxconn frontend busy 100;set maxconn server slow/one 1";
/// States of a server that requests do not like.
const STATES: &[&str] = &["set server slow/one state maint", "set server slow/one state drain"];

impl Acting<'_> {
    /// Begins to read answers, and has what they show changed before their end.
    pub(super) fn changed(&mut self, command: &Command) -> Outcome {
        let mut readers = Vec::new();
        for _ in 0..READERS {
            match self.begin(&command.asked) {
                Ok(reader) => readers.push(reader),
                // It has said nothing, and that was all.
                Err(CliError::Closed) => return Outcome::Unjudged(NOTHING),
                Err(error) => return Outcome::broken(ENDS, error.to_string()),
            }
        }
        for change in CHANGES {
            let changed = self.ask_admin(&Asked::Command((*change).to_owned()));
            if !matches!(changed, Answered::Whole(_)) {
                let first = change.split(['\n', ';']).next().unwrap_or_default();
                return Outcome::broken(ENDS, format!("`{first}` and so on meanwhile: {}", changed.said()));
            }
        }
        for (mut client, got) in readers {
            client.hurry(Deadline::after(UNDISTURBED));
            match read_rest(client, &command.asked, got) {
                Answered::Whole(_) => {}
                other => return Outcome::broken(ENDS, other.said()),
            }
        }
        Outcome::Holds
    }

    /// Asks, and reads a little once the server waits for its client.
    fn begin(&mut self, asked: &Asked) -> Result<(CliClient, Vec<u8>), CliError> {
        let socket = if matches!(asked, Asked::Request(_)) { "http" } else { "cli" };
        let (number, text) = (self.number(), text_of(asked).replace(DIRECTORY, &directory_of(self.server)));
        let mut client = self.server.connect(number, socket, Deadline::after(UNDISTURBED))?;
        client.send(text.as_bytes())?;
        self.server.wait_idle(Deadline::after(IDLE));
        let got = client.read_bytes(1)?;
        Ok((client, got))
    }

    /// Has requests wait, one at a server that does not answer and the others in its queue, and asks for the command.
    pub(super) fn while_requests_wait(&mut self, command: &Command) -> Outcome {
        let mut waiting = Vec::new();
        for _ in 0..READERS {
            let number = self.number();
            let Ok(mut client) = self.server.connect(number, "busy", Deadline::after(UNDISTURBED)) else {
                return Outcome::Unjudged(NONE_WAITS);
            };
            if client.send(get("/", true).as_bytes()).is_err() {
                return Outcome::Unjudged(NONE_WAITS);
            }
            waiting.push(client);
        }
        self.server.wait_idle(Deadline::after(IDLE));
        let answered = self.ask_admin(&command.asked);
        waiting.into_iter().for_each(CliClient::hang_up);
        let restored = self.ask_admin(&Asked::Command(RESTORED.to_owned()));
        match (answered, restored) {
            (Answered::Whole(_), Answered::Whole(_)) => Outcome::Holds,
            (Answered::Whole(_), other) => Outcome::broken(GOES_ON, format!("and then: {}", other.said())),
            (other, _) => Outcome::broken(GOES_ON, other.said()),
        }
    }
}

/// The command, aimed at what requests wait for; none where it changes nothing.
pub(super) fn aimed(words: &str, command: &str) -> Vec<String> {
    if changing(words).is_none() {
        return Vec::new();
    }
    let states = STATES.iter().filter(|_| words == "set server").map(|state| (*state).to_owned());
    let aimed = command.replace("shop", "slow").replace("idle", "busy").replace("spare", "busy");
    states.chain([aimed]).collect()
}
