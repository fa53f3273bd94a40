//! Clients that leave in the middle: one for each call at which the server waits for its client to read on.
//!
//! Where the buffers are small, a handler fills them in the same few calls each time, and then waits. There the client
//! reads a little, or leaves: at which call that is depends on sizes alone, never on time.

use super::super::named::haproxy::{DUMPS, NOT_SWEPT};
use super::super::session::{ARGUMENTS, Socket};
use super::acting::{Acting, IDLE};
use crate::client::haproxy_cli::{CliClient, CliError};
use crate::deadline::Deadline;
use crate::server::haproxy::Progress;

/// Clients that leave in one sweep, at most.
const MOST_VISITS: u64 = 32;
/// What is read at a time: less than a buffer of those configurations, which a handler fills in one call.
const SIP: usize = 1024;

/// How far a visit has come.
enum Visit {
    /// The server waits, and has made so many calls for this client.
    Waits(u64),
    /// It has answered to the end.
    Over,
}

/// A keyword that has a scenario of its own, or that no client leaves in the middle of, or that is ours.
fn is_swept(words: &str) -> bool {
    let command = |(_, command): &(&str, &str)| command.split(';').any(|one| one.starts_with(words));
    let strange = words.contains(['@', '<', '|']) || words.starts_with("layers ");
    strange || DUMPS.iter().any(command) || NOT_SWEPT.iter().any(|(left_out, _)| *left_out == words)
}

impl Acting<'_> {
    pub(super) fn leave_others_at_every_call(&mut self) -> Result<(), CliError> {
        self.server.look();
        let all = self.server.progress().handled_keywords().to_vec();
        for words in all.iter().filter(|words| !is_swept(words)) {
            if self.is_silent(words) {
                continue;
            }
            let arguments = ARGUMENTS.iter().find(|(keyword, _)| keyword == words);
            let command = arguments.map_or(words.clone(), |(_, arguments)| format!("{words} {arguments}"));
            self.of_keyword(words, |acting| acting.leave_at_every_call(Socket::Cli, &command))?;
        }
        Ok(())
    }

    pub(super) fn leave_at_every_call(&mut self, socket: Socket, text: &str) -> Result<(), CliError> {
        let text = match socket {
            Socket::Http => text.to_owned(),
            _ => format!("{}\n", self.placed(text)),
        };
        let mut goal = 1;
        for _ in 0..MOST_VISITS {
            self.server.look();
            let before = self.server.progress().youngest();
            let mut client = self.connect(socket)?;
            client.send(text.as_bytes())?;
            let visit = self.read_until_call(&mut client, goal, |progress| match socket {
                Socket::Http => progress.served_since(before),
                _ => progress.handled_since(before),
            });
            client.hang_up();
            match visit? {
                Visit::Waits(calls) => goal = calls + 1,
                Visit::Over => break,
            }
        }
        self.await_release();
        Ok(())
    }

    /// Reads on until the server has made so many calls for this client, and waits for it.
    fn read_until_call(
        &mut self,
        client: &mut CliClient,
        goal: u64,
        calls: impl Fn(&Progress) -> u64,
    ) -> Result<Visit, CliError> {
        loop {
            self.server.wait_idle(Deadline::after(IDLE.min(self.deadline.left())));
            self.server.look();
            let made = calls(self.server.progress());
            if made >= goal {
                return Ok(Visit::Waits(made));
            }
            match client.read_bytes(SIP) {
                Ok(_) => {}
                Err(CliError::Closed) => return Ok(Visit::Over),
                Err(error) => return Err(error),
            }
        }
    }
}
