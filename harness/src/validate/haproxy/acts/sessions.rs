//! Other ways to the command line: several commands in one session, and a master process in between.

use super::super::bench::{Bench, Conditions};
use super::super::discovery::Handler;
use super::super::said::Said;
use super::common::{Undisturbed, asked, on_server};
use crate::client::asked::Asked;
use crate::client::haproxy_cli::{CliClient, CliError};
use crate::deadline::Deadline;
use crate::server::haproxy::asking::{Answered, difference};
use crate::server::haproxy::{HaproxyError, HaproxyServer};

/// What stands before the next command in prompt mode.
const PROMPT: &[u8] = b"\n> ";
/// Commands of a session in prompt mode.
const TIMES: usize = 3;

/// A command is answered in the same way behind another one in its line, and in prompt mode.
pub(in super::super) fn prompt(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    if entry.service {
        return Ok(Said::Unfit("a service has no command line".to_owned()));
    }
    let asked = asked(entry);
    on_server(bench, &Conditions::default(), |server| {
        let alone = match Undisturbed::of(bench, server, &asked) {
            Ok(alone) => alone,
            Err(said) => return said,
        };
        let line = Asked::Command(format!("{asked};{asked}"));
        let twice = Undisturbed { answer: alone.answer.repeat(2), stable: alone.stable };
        let answered = bench.ask(server, &line);
        if let Some(actual) = twice.differs(&answered) {
            return Said::broken(twice.expected(&line, "in one line"), actual);
        }
        let expected = alone.expected(&asked, "in prompt mode");
        match prompted(bench, server, &asked, &alone) {
            Ok(None) => Said::Holds,
            Ok(Some(actual)) => Said::broken(expected, actual),
            Err(CliError::Closed) => Said::broken(expected, "the session has ended, and no prompt came"),
            Err(error) => Said::broken(expected, format!("no prompt: {error}")),
        }
    })
}

/// Returns what is wrong with an answer in prompt mode, if anything is.
fn prompted(
    bench: &Bench<'_>,
    server: &HaproxyServer,
    asked: &Asked,
    alone: &Undisturbed,
) -> Result<Option<String>, CliError> {
    let mut client = bench.connect(server, asked, "cli")?;
    client.send(b"prompt\n")?;
    client.read_until(PROMPT)?;
    for _ in 0..TIMES {
        client.send(format!("{asked}\n").as_bytes())?;
        let got = up_to_prompt(&mut client, alone)?;
        // The empty line behind an answer is the beginning of the prompt.
        let answer = got.strip_suffix(b"> ").unwrap_or(&got);
        if alone.stable && answer != alone.answer {
            return Ok(Some(difference(&alone.answer, answer)));
        }
    }
    client.send(b"quit\n")?;
    client.read_to_end()?;
    client.hang_up();
    Ok(None)
}

/// Reads up to a prompt that stands behind the whole of what is expected: a prompt may stand in an answer, too.
fn up_to_prompt(client: &mut CliClient, alone: &Undisturbed) -> Result<Vec<u8>, CliError> {
    let mut got = Vec::new();
    loop {
        got.extend(client.read_until(PROMPT)?);
        if !alone.stable || got.len() > alone.answer.len() {
            return Ok(got);
        }
    }
}

/// A command that comes by a master process is answered in the same way.
pub(in super::super) fn master(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    if entry.service {
        return Ok(Said::Unfit("a service has no command line".to_owned()));
    }
    let asked = asked(entry);
    let mut alone = None;
    let said = on_server(bench, &Conditions::default(), |server| {
        alone = Undisturbed::of(bench, server, &asked).ok();
        Said::Holds
    })?;
    let Some(alone) = alone.filter(|_| said == Said::Holds) else {
        return Ok(Said::Unfit(super::common::no_answer(&asked)));
    };
    let conditions = Conditions { workers: true, ..Conditions::default() };
    on_server(bench, &conditions, |server| {
        for (how, command) in [("by a worker", None), ("by a master process", Some(format!("@1 {asked}")))] {
            let answered = match &command {
                None => bench.ask(server, &asked),
                Some(command) => by_master(bench, server, command),
            };
            if let Some(actual) = alone.differs(&answered) {
                return Said::broken(alone.expected(&asked, how), actual);
            }
        }
        Said::Holds
    })
}

fn by_master(bench: &Bench<'_>, server: &mut HaproxyServer, command: &str) -> Answered {
    let deadline = Deadline::after(bench.patience());
    match server.ask_master(|| bench.client(), command, deadline, |answer| !answer.is_empty()) {
        Ok(answer) => Answered::Whole(answer),
        Err(CliError::Timeout) => Answered::Late,
        Err(error) => Answered::Cut(error.to_string()),
    }
}
