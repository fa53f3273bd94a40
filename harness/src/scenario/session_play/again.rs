//! Commands again: after arguments that are refused, in rounds, and at other levels than admin.

use super::acting::Acting;
use super::tried::{Command, Outcome, UNDISTURBED, ask_at};
use crate::client::asked::Asked;
use crate::client::haproxy_cli::CliClient;
use crate::deadline::Deadline;
use crate::server::haproxy::HaproxyServer;
use crate::server::haproxy::asking::{Answered, Pace, changing, odd_arguments, text_of};
use crate::server::haproxy::rounds::{Counted, Counting, Grown, grown};
use crate::version::Version;

const ANSWERED: &str = "an answer after arguments that are refused, as before them";
const NO_MORE: &str = "what is in use after each further round is no more than after the one before";
const REFUSED: &str = "Permission denied, as the manual restricts the command";
const NOT_FOR_ALL: &str = "a command that changes something is refused at level user";
/// Why nothing is said of a command.
const NOT_ANSWERED: &str = "it has no answer when nothing disturbs it";
const ADDS: &str = "it adds something each time, and what it keeps was asked for";
const GROWS: &str = "what the server itself uses grows meanwhile";
const NO_VERB: &str = "its words do not tell whether it changes something";
const SAYS: &str = "its answer does not tell whether it was done";
/// As a command shows that is refused for its level.
const DENIED: &str = "Permission denied";
/// Letters of an argument that are quoted.
const QUOTED: usize = 40;

/// Verbs of commands that add something each time: what they keep is what was asked for.
const ADDING: &[&str] = &["add", "new", "prepare"];

/// Frontends are named by numbers, too, and 0 is that of the command line.
const NUMBERED: &[&str] = &["disable frontend", "shutdown frontend"];

/// Commands that the management guide restricts, each with the sockets of those levels at which it is to be refused, and the first
/// version of the guide that says so.
const RESTRICTED: &[(&str, &[&str], Version)] = &[
    ("clear counters", USER, OLDEST),
    ("clear counters all", OPERATOR, OLDEST),
    ("disable agent shop/one", OPERATOR, OLDEST),
    ("disable frontend idle", OPERATOR, OLDEST),
    ("disable health shop/one", OPERATOR, OLDEST),
    ("disable server shop/one", OPERATOR, OLDEST),
    ("enable agent shop/one", OPERATOR, OLDEST),
    ("enable frontend idle", OPERATOR, OLDEST),
    ("enable health shop/one", OPERATOR, OLDEST),
    ("enable server shop/one", OPERATOR, OLDEST),
    ("get var proc.layers", USER, Version(2, 6, 0)),
    ("set weight shop/one 20", OPERATOR, OLDEST),
    ("show env", USER, OLDEST),
    ("show errors", USER, OLDEST),
    ("show libs", USER, Version(2, 6, 0)),
    ("show sess", USER, OLDEST),
    ("shutdown frontend spare", OPERATOR, OLDEST),
    ("layers clear", OPERATOR, OLDEST),
];
const USER: &[&str] = &["user"];
const OPERATOR: &[&str] = &["user", "operator"];
const OLDEST: Version = Version(2, 2, 0);
/// Verbs of commands that say that they change nothing.
const READING: &[&str] = &["show", "get", "help", "dump"];
/// What these change belongs to the session that asks.
const OF_SESSION: &[&str] = &["set timeout", "set severity-output"];

impl Acting<'_> {
    fn ask(&mut self, socket: &str, asked: &Asked) -> Answered {
        let number = self.number();
        ask_at(self.server, socket, (number, asked), (Pace::Quick, None), UNDISTURBED)
    }

    /// Asks with all rights.
    pub(super) fn ask_admin(&mut self, asked: &Asked) -> Answered {
        self.ask("cli", asked)
    }

    /// Asks with odd arguments, and then as before.
    pub(super) fn after_refused(&mut self, command: &Command) -> Outcome {
        if !matches!(self.ask("cli", &command.asked), Answered::Whole(_)) {
            return Outcome::Unjudged(NOT_ANSWERED);
        }
        let is_numbered = NUMBERED.contains(&command.words.as_str());
        let is_number = |argument: &String| {
            argument.starts_with(|letter: char| letter.is_ascii_digit() || "-#".contains(letter))
        };
        for argument in odd_arguments().into_iter().filter(|argument| !is_numbered || !is_number(argument)) {
            let text = format!("{} {argument}", command.words);
            let odd = Asked::Command(text.trim_end().to_owned());
            match self.ask("cli", &odd) {
                Answered::Whole(_) => {}
                other => {
                    let argument: String = argument.chars().take(QUOTED).collect();
                    return Outcome::broken(ANSWERED, format!("to `{argument}`: {}", other.said()));
                }
            }
        }
        match self.ask("cli", &command.asked) {
            Answered::Whole(_) => Outcome::Holds,
            other => Outcome::broken(ANSWERED, other.said()),
        }
    }

    /// Asks again and again, and looks what is in use.
    pub(super) fn counted(&mut self, command: &Command) -> Outcome {
        if changing(&command.words).is_some_and(|verb| ADDING.contains(&verb))
            || ADDING.iter().any(|verb| command.words.starts_with(verb))
        {
            return Outcome::Unjudged(ADDS);
        }
        let (plain, mut found) = (Asked::Command("layers plain".to_owned()), String::new());
        for (counting, asked, is_control) in [
            (Counting::SHORT, &command.asked, false),
            (Counting::LONG, &command.asked, false),
            // Where the server's own share grows, nothing is told from it.
            (Counting::LONG, &plain, true),
            (Counting::LONG, &command.asked, false),
        ] {
            let own = &mut self.own;
            let visit = |server: &mut HaproxyServer, leaves: bool| {
                *own += 1;
                visit(server, (*own, asked), leaves)
            };
            let now = match grown(self.server, UNDISTURBED, (Counted::Keyword, counting), visit) {
                Err(_) => return Outcome::Unjudged(NOT_ANSWERED),
                Ok(now) => now,
            };
            match (is_control, now == Grown::default()) {
                (true, true) => {}
                (true, false) => return Outcome::Unjudged(GROWS),
                (false, true) => return Outcome::Holds,
                (false, false) => found = kept(&now, counting.commands),
            }
        }
        Outcome::broken(NO_MORE, found)
    }

    /// Asks at the levels for which the manual restricts it.
    pub(super) fn restricted(&mut self, command: &Command) -> Outcome {
        let text = command.asked.to_string();
        let row = RESTRICTED.iter().find(|(restricted, ..)| *restricted == text);
        let Some((_, levels, _)) = row.filter(|(.., since)| *since <= self.version()) else {
            return Outcome::NotMeant;
        };
        for level in *levels {
            match self.ask(level, &command.asked) {
                Answered::Whole(answer) if String::from_utf8_lossy(&answer).contains(DENIED) => {}
                other => return Outcome::broken(REFUSED, format!("at level {level}: {}", other.said())),
            }
        }
        Outcome::Holds
    }

    /// Asks for what says that it changes something at level user.
    pub(super) fn changing(&mut self, command: &Command) -> Outcome {
        if OF_SESSION.contains(&command.words.as_str()) {
            return Outcome::NotMeant;
        }
        if changing(&command.words).is_none() {
            let reads = command.words.split(' ').next().is_some_and(|verb| READING.contains(&verb));
            return if reads { Outcome::NotMeant } else { Outcome::Unjudged(NO_VERB) };
        }
        match self.ask("user", &command.asked) {
            Answered::Whole(answer) if String::from_utf8_lossy(&answer).contains(DENIED) => Outcome::Holds,
            // What is done without a word is done.
            Answered::Whole(answer) if answer.trim_ascii().is_empty() => {
                Outcome::broken(NOT_FOR_ALL, "it is done at level user")
            }
            _ => Outcome::Unjudged(SAYS),
        }
    }
}

/// Returns the commands that the manual restricts.
pub(super) fn restricted_commands() -> impl Iterator<Item = &'static str> {
    RESTRICTED.iter().map(|(command, ..)| *command).filter(|command| !command.starts_with("layers "))
}

/// Asks, and reads the answer to its end or leaves at once.
fn visit(server: &mut HaproxyServer, (number, asked): (u32, &Asked), leaves: bool) -> Result<(), String> {
    if !leaves {
        return match ask_at(server, "cli", (number, asked), (Pace::Quick, None), UNDISTURBED) {
            Answered::Whole(_) => Ok(()),
            other => Err(other.said()),
        };
    }
    let client = server.connect(number, "cli", Deadline::after(UNDISTURBED));
    let mut client: CliClient = client.map_err(|error| error.to_string())?;
    let sent = client.send(text_of(asked).as_bytes());
    client.hang_up();
    sent.map_err(|error| error.to_string())
}

fn kept(grown: &Grown, commands: usize) -> String {
    let bytes = grown.bytes.map(|bytes| format!("{bytes} bytes for each command"));
    let pool = grown.pool.as_ref().map(|pool| format!("an object of the pool `{pool}` for each command"));
    let descriptors = grown.descriptors.map(|more| format!("{more} descriptors for {commands} commands"));
    let sessions = grown.sessions.map(|more| format!("{more} sessions for {commands} commands"));
    [bytes, pool, descriptors, sessions].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
