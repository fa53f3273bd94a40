//! What is tried of each command of the server, beside asking for it. What comes of that goes into the trace, and rules judge it.

use std::time::Duration;

use layers_trace::appctx::UNJUDGED;
use layers_trace::writer::record;
use layers_trace::{Field, Kind, Probe, Trial};

use super::super::named::haproxy::{DUMPS, NOT_SWEPT};
use super::super::session::{ARGUMENTS, LEFT_OUT, Tried};
use super::acting::Acting;
use super::again::restricted_commands;
use super::meanwhile::aimed;
use super::tried::{Command, Outcome, UNDISTURBED, ask_at};
use super::whole::{Controls, filled};
use crate::client::asked::Asked;
use crate::client::haproxy_cli::{CliClient, CliError};
use crate::deadline::Deadline;
use crate::server::haproxy::asking::{Answered, Pace, changing};

/// How long a server that has not answered may take to be dead: HAProxy's watchdog looks every second.
const DEATH: Duration = Duration::from_secs(5);
/// Requests for services of the server's own, by the frontend of those configurations.
const SERVICES: &[&str] = &["GET /stats;csv", "GET /metrics", "GET /page1"];
/// Why nothing is said of a command.
const SILENT: &str = "it had no answer before, and is not called again";
const CHANGES: &str = "it says that it changes something, and is not a dump";
const ENDLESS: &str = "it ends the session or the server, or never answers";

impl Acting<'_> {
    /// Tries this of each of these commands. One that ends the server, or its answers, ends the session.
    pub(super) fn try_each(&mut self, trial: Trial, tried: Tried) -> Result<(), CliError> {
        self.server.look();
        let (commands, left_out) = self.commands(trial, tried);
        for (words, why) in left_out {
            self.tell(trial, &Asked::Command(words), Outcome::Unjudged(why));
        }
        let mut controls = match trial {
            Trial::Whole => Some(Controls::start(self, tried)?),
            _ => None,
        };
        let mut shown = Vec::new();
        if trial == Trial::Changed && tried == Tried::Found {
            let to_fill = (self.session.configuration, &*self.server);
            shown = filled(to_fill, &mut self.own, Deadline::after(self.timeout))?;
        }
        for command in commands {
            if self.is_silent(&command.words) {
                self.tell(trial, &command.asked, Outcome::Unjudged(SILENT));
                continue;
            }
            self.renew();
            let outcome = match (trial, &mut controls) {
                (Trial::Whole, Some(controls)) => controls.compare(self, &command.asked)?,
                (Trial::AfterRefused, _) => self.after_refused(&command),
                (Trial::Counted, _) => self.counted(&command),
                (Trial::Restricted, _) => self.restricted(&command),
                (Trial::Changing, _) => self.changing(&command),
                (Trial::Changed, _) => self.changed(&command),
                (Trial::Waiting, _) => self.while_requests_wait(&command),
                (Trial::Whole, None) => Outcome::NotMeant,
            };
            let is_broken = matches!(outcome, Outcome::Broken { .. });
            self.tell(trial, &command.asked, outcome);
            if is_broken && !self.goes_on() {
                self.give_up(&command.words);
                return self.end_at_once();
            }
        }
        controls.into_iter().for_each(Controls::end);
        shown.into_iter().for_each(CliClient::hang_up);
        self.renew();
        Ok(())
    }

    /// Returns true where the server answers others; where it does not, it has had some time to die.
    fn goes_on(&mut self) -> bool {
        let (number, plain) = (self.number(), Asked::Command("layers plain".to_owned()));
        let answered = ask_at(self.server, "cli", (number, &plain), (Pace::Quick, None), UNDISTURBED);
        matches!(answered, Answered::Whole(_)) || {
            self.server.process.wait_for_end(Deadline::after(DEATH));
            false
        }
    }

    /// The server is of no use any more: what is wrong with it is told.
    fn end_at_once(&mut self) -> Result<(), CliError> {
        self.is_over = true;
        // What has hung may have used up the time of its end.
        self.renew();
        match self.server.process.end() {
            Some(_) => Ok(()),
            None => self.signal(libc::SIGKILL),
        }
    }

    /// Commands of which this is tried, and those of which it is not, with the reason.
    fn commands(&self, trial: Trial, tried: Tried) -> (Vec<Command>, Vec<(String, &'static str)>) {
        if let Tried::Only(command) | Tried::Own(command) = tried {
            return (vec![Command { words: command.to_owned(), asked: Asked::from(command) }], Vec::new());
        }
        let progress = self.server.progress();
        let all = match trial {
            Trial::Whole | Trial::Changed => progress.handled_keywords(),
            _ => progress.keywords(),
        };
        let dumps = matches!(trial, Trial::Whole | Trial::Changed);
        let (mut commands, mut left_out) = (Vec::new(), Vec::new());
        for words in all.iter().filter(|words| !is_strange(words)) {
            let why = why_left_out(words).or((dumps && changing(words).is_some()).then_some(CHANGES));
            if let Some(why) = why {
                left_out.push((words.clone(), why));
                continue;
            }
            let command = |text: String| Command { words: words.clone(), asked: Asked::Command(text) };
            match trial {
                Trial::Whole | Trial::Changed => {
                    commands.extend(variants(words).into_iter().map(command));
                }
                Trial::Waiting => commands.extend(aimed(words, &complete(words)).into_iter().map(command)),
                Trial::Restricted => {
                    let is_of = |one: &&str| of_keyword(one, words);
                    commands.extend(restricted_commands().filter(is_of).map(str::to_owned).map(command));
                }
                _ => commands.push(command(complete(words))),
            }
        }
        // After it no request can wait there any more.
        commands
            .sort_by_key(|command: &Command| trial == Trial::Waiting && command.words == "shutdown frontend");
        if dumps {
            let service =
                |request: &&str| Command { words: (*request).to_owned(), asked: Asked::from(*request) };
            commands.extend(SERVICES.iter().map(service));
        }
        (commands, left_out)
    }

    /// Writes down what came of it.
    fn tell(&self, trial: Trial, asked: &Asked, outcome: Outcome) {
        let Some(trace) = self.server.trace() else { return };
        let asked = asked.to_string();
        let mut note = record(Kind::Probe, 0, Probe::Tried as u8);
        note.b = trial as u64;
        let keyword = (Field::Keyword, asked.as_bytes());
        match outcome {
            Outcome::NotMeant => {}
            Outcome::Unjudged(why) => {
                note.a = UNJUDGED;
                trace.note(note, &[keyword, (Field::Message, why.as_bytes())]);
            }
            Outcome::Holds => {
                note.a = 1;
                trace.note(note, &[keyword]);
            }
            Outcome::Broken { expected, actual } => {
                let actual = format!("`{asked}`: {actual}");
                let texts =
                    [keyword, (Field::Message, expected.as_bytes()), (Field::Value, actual.as_bytes())];
                trace.note(note, &texts);
            }
        }
    }
}

/// No client of the server's types it like this, or it is the harness's own.
fn is_strange(words: &str) -> bool {
    words.contains(['@', '<', '|']) || words.starts_with("layers ")
}

/// Says why nothing is tried of it, where that is so: it is not for everybody, or has no end.
fn why_left_out(words: &str) -> Option<&'static str> {
    let named = NOT_SWEPT.iter().find(|(left_out, _)| *left_out == words).map(|(_, why)| *why);
    named.or(LEFT_OUT.iter().any(|left_out| words.starts_with(left_out)).then_some(ENDLESS))
}

/// The command begins with the words of this keyword.
fn of_keyword(command: &str, words: &str) -> bool {
    command.strip_prefix(words).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// The keyword with arguments, where some are known.
fn complete(words: &str) -> String {
    let known = ARGUMENTS.iter().find(|(keyword, _)| *keyword == words);
    known.map_or_else(|| words.to_owned(), |(_, arguments)| format!("{words} {arguments}"))
}

/// The keyword alone, and with each of the arguments that are known.
fn variants(words: &str) -> Vec<String> {
    let dumps = DUMPS.iter().map(|(_, command)| *command);
    let is_of = |command: &&str| !command.contains(';') && of_keyword(command, words);
    let mut all = vec![words.to_owned(), complete(words)];
    all.extend(dumps.filter(is_of).map(str::to_owned));
    all.sort();
    all.dedup();
    all
}
