//! What a user's HAProxy answers to commands and requests, with its tree of calls: stored, and later compared.

use std::path::PathBuf;
use std::time::Duration;

use layers_trace::{Event, Reader};
use rustix::process::Signal;

use super::compare::{CompareError, Compared, Comparison, TreeOutcome, agreed, write};
use super::played::{Played, without_directory};
use super::store::{Store, StoreError};
use super::stored::MadeFrom;
use crate::campaign::halt::{Halt, Limit};
use crate::client::asked::Asked;
use crate::client::haproxy_cli::CliError;
use crate::deadline::Deadline;
use crate::history::End;
use crate::outcome::{Exit, Verdict};
use crate::run::Start;
use crate::server::haproxy::{Configuration, Haproxy, HaproxyError, HaproxyServer, Loading, ServeHaproxy};
use crate::server::nbdkit::ServerError;
use crate::server::process::Woken;
use crate::tree::tree;

/// Records of one run.
const CAPACITY: u64 = 1 << 17;
/// The client that asks.
const CLIENT: u32 = 1;
/// Longest part of a file's name that is made of a command.
const LONGEST: usize = 60;

/// What to compare, and how.
#[derive(Debug)]
pub struct SessionsPlan<'a> {
    /// The server.
    pub server: &'a Haproxy,
    /// Its configuration.
    pub users: &'a Configuration,
    /// Modules that are preloaded.
    pub modules: &'a [PathBuf],
    /// What is asked, each of a server of its own.
    pub asked: &'a [Asked],
    /// As on the command line.
    pub words: &'a str,
    /// Where the trees are.
    pub store: &'a Store,
    /// For one run.
    pub timeout: Duration,
    /// For everything.
    pub limit: Limit,
    /// Records for which the trace of one run has room, where they are not as many as usual.
    pub room: Option<u64>,
    /// Store what is new or differs, and drop what is stale.
    pub update: bool,
}

/// Plays, compares, and writes as [`super::compare`] does.
///
/// # Errors
///
/// The server cannot be run, or a file is no snapshot or cannot be read or written.
pub fn compare_sessions(
    plan: &SessionsPlan<'_>,
    tell: &mut dyn FnMut(&Compared),
) -> Result<Comparison, CompareError> {
    let mut compared: Vec<Compared> = Vec::new();
    for asked in plan.asked {
        let scenario = named(asked, &compared);
        let outcome = match plan.limit.reached() {
            Some(halt) => TreeOutcome::NotPlayed(halt),
            None => outcome(plan, asked, &scenario)?,
        };
        let one = Compared { scenario, outcome };
        if one.outcome.exit(plan.update) == Some(Exit::Violation) {
            plan.limit.found();
        }
        tell(&one);
        compared.push(one);
    }
    let comparison = Comparison { stale: stale(plan, &compared)?, compared, updated: plan.update };
    write(plan.store, plan.update, &comparison)?;
    Ok(comparison)
}

fn outcome(plan: &SessionsPlan<'_>, asked: &Asked, scenario: &str) -> Result<TreeOutcome, CompareError> {
    let made = MadeFrom {
        server: format!("haproxy {}", plan.server.version),
        scenario: asked.to_string(),
        stack: without_directory(plan.words),
    };
    let play = || play(plan, asked).map_err(|error| CompareError::Server(ServerError::from(error)));
    agreed(plan.store.read(scenario)?, made, plan.limit, play).or_else(|error| match &error {
        CompareError::Server(refused) => Halt::of(refused).map(TreeOutcome::NotPlayed).ok_or(error),
        _ => Err(error),
    })
}

/// A name for the file of what is asked: its letters and digits, and a number where it has been there before.
fn named(asked: &Asked, before: &[Compared]) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let text: String = asked.to_string().chars().take(LONGEST).map(letter).collect();
    let words: Vec<&str> = text.split('-').filter(|word| !word.is_empty()).collect();
    let name = words.join("-");
    let is_taken = |name: &str| before.iter().any(|one| one.scenario == name);
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let free =
        std::iter::once(name.clone()).chain(numbered.take(before.len() + 1)).find(|one| !is_taken(one));
    free.unwrap_or(name)
}

/// Stored files of what is not asked any more.
fn stale(plan: &SessionsPlan<'_>, compared: &[Compared]) -> Result<Vec<PathBuf>, StoreError> {
    let made: Vec<PathBuf> = compared.iter().map(|one| plan.store.file(&one.scenario)).collect();
    let mut files = plan.store.files()?;
    files.retain(|file| !made.contains(file));
    Ok(files)
}

/// One run, as a text that is the same on every machine.
fn play(plan: &SessionsPlan<'_>, asked: &Asked) -> Result<Played, HaproxyError> {
    let users = plan.users.clone().without_threads();
    let serve = ServeHaproxy {
        scenario: "snapshot",
        configuration: "global\n    nbthread 1\n",
        users: Some(&users),
        modules: plan.modules,
        arguments: &[],
        start: Start::Foreground,
        load: Loading::Preload,
        capacity: plan.room.unwrap_or(CAPACITY),
        keep: None,
    };
    let deadline = Deadline::after(plan.limit.of(plan.timeout));
    let mut server = plan.server.start(&serve)?;
    match server.wait_ready(deadline) {
        Woken::Happened => {}
        Woken::Dead => return Ok(Played::NotStarted(server.complaint())),
        Woken::Late => {
            return Ok(Played::Astray(Verdict::Hang("the server does not get ready".to_owned())));
        }
    }
    let answered = ask(&server, &users, asked, deadline);
    server.wait_until(deadline, |progress| progress.live() == 0);
    let told = server.process.end().is_none();
    let _ = server.signal(Signal::TERM);
    let end = server.wait_for_end(deadline);
    let answer = match (answered, end) {
        (_, Some(End::Killed(signal))) if !told || signal != libc::SIGTERM => {
            let how = format!("the server was killed by signal {signal}");
            return Ok(Played::Astray(Verdict::Crash(how)));
        }
        (Ok(_), None) => {
            return Ok(Played::Astray(Verdict::Hang("the server does not end after SIGTERM".to_owned())));
        }
        (Ok(answer), Some(_)) => answer,
        (Err(error), _) => {
            return Ok(Played::Astray(Verdict::Hang(format!("no answer to `{asked}`: {error}"))));
        }
    };
    let Some(trace) = server.trace() else { return Ok(Played::NotStarted("there is no trace".to_owned())) };
    let events: Vec<Event> = Reader::of(&trace).events().flatten().collect();
    let directory = server.file("").to_string_lossy().trim_end_matches('/').to_owned();
    let text = format!("{}\n\nanswer to `{asked}`\n{}", tree(&events).trim_end(), indented(&answer));
    Ok(Played::Tree(without_directory(&text.replace(&directory, "{dir}")).trim_end().to_owned()))
}

/// The whole answer, with its head where it is one of HTTP.
fn ask(
    server: &HaproxyServer,
    users: &Configuration,
    asked: &Asked,
    deadline: Deadline,
) -> Result<String, CliError> {
    match asked {
        Asked::Command(command) => server.ask(CLIENT, command, deadline),
        Asked::Request(request) => {
            let frontend = users.frontend(&request.frontend).ok_or(CliError::Closed)?;
            let mut client = server.connect(CLIENT, &frontend.socket, deadline)?;
            client.send(request.text(true).as_bytes())?;
            let answer = client.read_to_end()?;
            client.hang_up();
            Ok(String::from_utf8_lossy(&answer).into_owned())
        }
    }
}

fn indented(answer: &str) -> String {
    answer.lines().map(|line| format!("  {}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_after_what_is_asked() {
        let mut before: Vec<Compared> = Vec::new();
        for (asked, name) in [
            ("show info", "show-info"),
            ("show  info;", "show-info-2"),
            ("GET web/x", "GET-web-x"),
            ("show info", "show-info-3"),
        ] {
            let scenario = named(&Asked::from(asked), &before);
            assert_eq!(scenario, name);
            before.push(Compared { scenario, outcome: TreeOutcome::Same });
        }
    }
}
