//! Answers that are read at once and slowly against those of servers whose buffers hold all of it.

use std::collections::BTreeSet;

use super::super::session::Tried;
use super::acting::Acting;
use super::tried::{DIRECTORY, Outcome, UNDISTURBED, ask_at, directory_of};
use crate::client::asked::Asked;
use crate::client::haproxy_cli::{CliClient, CliError};
use crate::client::http::get;
use crate::deadline::Deadline;
use crate::server::haproxy::HaproxyServer;
use crate::server::haproxy::asking::{Answered, Pace, difference};
use crate::server::process::Woken;

/// What makes the buffers of a server large enough for any answer: of two sizes, as what depends on them cannot be compared.
const HUGE: [&str; 2] = ["tune.bufsize 1048576", "tune.bufsize 524288"];
/// An answer that is longer does not fit into small ones.
const FITS: usize = 1500;
/// Reads of a client that takes its time.
const SIPS: usize = 12;
/// What differs is asked for again, so often in all.
const ROUNDS: usize = 3;
const EXPECTED: &str = "the same answer as from buffers that hold all of it";
/// Of the answers of these the manual says that small buffers break them (configuration manual, "tune.bufsize").
const STATISTICS: &[&str] = &["show info", "show stat", "show schema", "GET /stats", "GET /metrics"];
/// Commands that are not compared, and why.
const NOT_COMPARED: &[(&str, &str)] = &[
    ("show pools", "what it says depends on the size of the buffers"),
    ("show sess all", "what it says depends on the moment"),
];
const SMALL_BREAK_IT: &str =
    "the manual says that small buffers break it (configuration manual, \"tune.bufsize\")";
const DIFFERS: &str = "two servers that nothing disturbs do not answer the same";
const NOT_ANSWERED: &str = "it has no whole answer through large buffers, either";
/// These tell of the connection on which they are asked for, and of those before it, which a server may close a little later than
/// another one does: their lines are counted, and what they are about.
const OF_THEMSELVES: &[&str] = &["show fd", "show sess"];
/// Entries of a table, pages in a cache; and sessions.
const MANY: usize = 120;
const SESSIONS: usize = 30;
/// The sockets of frontends, each with a number behind it.
const FRONT: &str = "front";
const FIRST_FRONT: &str = "{dir}/front1";
/// Commands in one line: with more it would be too long for a small buffer.
const IN_LINE: usize = 10;
/// Letters of a line that are quoted.
const LINE: usize = 60;
/// A request that is none, to be shown as an error.
const NONE: &str = "this is no request\r\n\r\n";

/// Two servers with large buffers, which show what an answer is when nothing disturbs it.
pub(super) struct Controls {
    servers: Vec<HaproxyServer>,
    /// All servers have sessions to show as long as these clients stay.
    clients: Vec<CliClient>,
    is_filled: bool,
}

impl Controls {
    pub(super) fn start(acting: &mut Acting<'_>, tried: Tried) -> Result<Controls, CliError> {
        let mut controls =
            Controls { servers: Vec::new(), clients: Vec::new(), is_filled: !matches!(tried, Tried::Own(_)) };
        if controls.is_filled {
            let (deadline, to_fill) =
                (Deadline::after(acting.timeout), (acting.session.configuration, &*acting.server));
            controls.clients.extend(filled(to_fill, &mut acting.own, deadline)?);
        }
        controls.start_servers(acting)?;
        Ok(controls)
    }

    fn start_servers(&mut self, acting: &mut Acting<'_>) -> Result<(), CliError> {
        self.servers.clear();
        for buffers in HUGE {
            let mut server = acting.another(buffers)?;
            let deadline = Deadline::after(acting.timeout);
            if server.wait_ready(deadline) != Woken::Happened {
                let complaint = server.complaint();
                return Err(CliError::Other(format!("no server with large buffers: {complaint}")));
            }
            if self.is_filled {
                let to_fill = (acting.session.configuration, &server);
                self.clients.extend(filled(to_fill, &mut acting.own, deadline)?);
            }
            self.servers.push(server);
        }
        Ok(())
    }

    /// Has the clients leave.
    pub(super) fn end(self) {
        self.clients.into_iter().for_each(CliClient::hang_up);
    }

    /// Compares what the server of the session answers.
    pub(super) fn compare(&mut self, acting: &mut Acting<'_>, asked: &Asked) -> Result<Outcome, CliError> {
        let is_small = acting.session.buffers.contains("tune.bufsize");
        let command = asked.to_string();
        if let Some((_, why)) = NOT_COMPARED.iter().find(|(one, _)| command.starts_with(one)) {
            return Ok(Outcome::Unjudged(why));
        }
        if is_small && is_one_of(STATISTICS, asked) {
            return Ok(Outcome::Unjudged(SMALL_BREAK_IT));
        }
        let mut outcome = Outcome::Holds;
        for _ in 0..ROUNDS {
            let Some((one, other)) = self.undisturbed(acting, asked) else {
                return self.without_control(acting, asked);
            };
            if one.shape != other.shape {
                return Ok(Outcome::Unjudged(DIFFERS));
            }
            outcome = self.disturbed(acting, asked, &one, &other);
            if !matches!(outcome, Outcome::Broken { .. }) {
                break;
            }
        }
        Ok(outcome)
    }

    /// What the servers with large buffers answer.
    fn undisturbed(&mut self, acting: &mut Acting<'_>, asked: &Asked) -> Option<(Answer, Answer)> {
        let mut answers = self.servers.iter_mut().map(|server| ask_one(server, acting.number(), asked));
        Some((answers.next()??, answers.next()??))
    }

    /// What has no whole answer through large buffers has one through those of the session, or nowhere.
    fn without_control(&mut self, acting: &mut Acting<'_>, asked: &Asked) -> Result<Outcome, CliError> {
        let number = acting.number();
        let answered = ask_at(acting.server, "cli", (number, asked), (Pace::Quick, None), UNDISTURBED);
        let Answered::Whole(_) = answered else {
            return Ok(Outcome::broken(EXPECTED, answered.said()));
        };
        self.start_servers(acting)?;
        Ok(Outcome::Unjudged(NOT_ANSWERED))
    }

    /// What the server of the session answers, read at once and slowly.
    fn disturbed(&mut self, acting: &mut Acting<'_>, asked: &Asked, one: &Answer, other: &Answer) -> Outcome {
        let paces: &[(Pace, &str)] = match one.length {
            ..FITS => &[(Pace::Quick, "")],
            _ => &[(Pace::Quick, "read at once: "), (Pace::Slow(SIPS), "read slowly: ")],
        };
        for (pace, how) in paces {
            let (number, patience) = (acting.number(), acting.deadline.left());
            let answered = ask_at(acting.server, "cli", (number, asked), (*pace, Some(one.length)), patience);
            let actual = match answered {
                Answered::Whole(bytes) => {
                    let got = Answer::of(&bytes, acting.server);
                    let has_subjects = is_one_of(OF_THEMSELVES, asked) && got.subjects() == one.subjects();
                    if got.text == one.text || has_subjects {
                        continue;
                    }
                    // Numbers may be those of a moment, or count clients; lines are no more and no less.
                    if got.shape == one.shape
                        && (one.text != other.text
                            || got.distinct() == one.distinct()
                            || self.is_live(acting, asked, one))
                    {
                        continue;
                    }
                    differing(&one.text, &got.text)
                }
                other => other.said(),
            };
            return Outcome::broken(EXPECTED, format!("{how}{actual}"));
        }
        Outcome::Holds
    }

    /// The first server does not answer the same again.
    fn is_live(&mut self, acting: &mut Acting<'_>, asked: &Asked, before: &Answer) -> bool {
        let number = acting.number();
        let again = self.servers.first_mut().and_then(|server| ask_one(server, number, asked));
        again.is_none_or(|again| again.text != before.text)
    }
}

/// Says where two answers differ, and what stands there in each.
fn differing(expected: &[u8], got: &[u8]) -> String {
    let lines = |text: &[u8]| -> Vec<String> {
        let shown = |line: &[u8]| String::from_utf8_lossy(line).chars().take(LINE).collect();
        text.split(|byte| *byte == b'\n').map(shown).collect()
    };
    let (expected_lines, got_lines) = (lines(expected), lines(got));
    let place = expected_lines.iter().zip(&got_lines).position(|(one, other)| one != other);
    let place = place.unwrap_or(expected_lines.len().min(got_lines.len()));
    let line = |lines: &[String]| lines.get(place).map_or("nothing".to_owned(), |line| format!("`{line}`"));
    format!("{}, {} in place of {}", difference(expected, got), line(&got_lines), line(&expected_lines))
}

fn is_one_of(list: &[&str], asked: &Asked) -> bool {
    let command = asked.to_string();
    list.iter().any(|one| command.starts_with(one))
}

fn ask_one(server: &mut HaproxyServer, number: u32, asked: &Asked) -> Option<Answer> {
    match ask_at(server, "cli", (number, asked), (Pace::Quick, None), UNDISTURBED) {
        Answered::Whole(bytes) => Some(Answer::of(&bytes, server)),
        _ => None,
    }
}

/// An answer, without what is the server's own each time.
struct Answer {
    length: usize,
    /// Without addresses, and with `{dir}` for the directory of the run.
    text: Vec<u8>,
    /// Without numbers, too.
    shape: Vec<u8>,
}

impl Answer {
    fn of(bytes: &[u8], server: &HaproxyServer) -> Answer {
        let text = String::from_utf8_lossy(bytes).replace(&directory_of(server), DIRECTORY);
        let (text, shape) = (masked(&text, false), masked(&text, true));
        Answer { length: bytes.len(), text: text.into_bytes(), shape: shape.into_bytes() }
    }

    /// How many lines there are, each counted once.
    fn distinct(&self) -> usize {
        self.text.split(|byte| *byte == b'\n').collect::<BTreeSet<_>>().len()
    }

    /// How many lines there are, and about how many things: by their first word.
    fn subjects(&self) -> (usize, usize) {
        let first = |line: &'_ [u8]| line.iter().position(|byte| *byte != b' ').unwrap_or(0);
        let word = |line: &'_ [u8]| {
            first(line) + line.iter().skip(first(line)).take_while(|byte| **byte != b' ').count()
        };
        let lines = self.text.split(|byte| *byte == b'\n');
        let subjects: Vec<&[u8]> = lines.filter_map(|line| line.get(..word(line))).collect();
        (subjects.len(), subjects.iter().collect::<BTreeSet<_>>().len())
    }
}

/// The text with `#` for each address, or for each number.
fn masked(text: &str, numbers: bool) -> String {
    let (mut masked, mut letters) = (String::new(), text.chars().peekable());
    while let Some(letter) = letters.next() {
        let is_address = letter == '0' && letters.next_if_eq(&'x').is_some();
        if !(is_address || numbers && letter.is_ascii_digit()) {
            masked.push(letter);
            continue;
        }
        masked.push('#');
        while letters.next_if(char::is_ascii_hexdigit).is_some() {}
    }
    masked
}

/// Has the server have something to show, as far as its configuration has room for it; returns the clients of its sessions.
pub(super) fn filled(
    (configuration, server): (&str, &HaproxyServer),
    number: &mut u32,
    deadline: Deadline,
) -> Result<Vec<CliClient>, CliError> {
    let mut connect = |socket: &str| {
        *number += 1;
        server.connect(*number, socket, deadline)
    };
    let entries: Vec<String> =
        (1..=MANY).map(|n| format!("set table shop key 10.0.0.{n} data.gpc0 {n}")).collect();
    let lines = entries.chunks(IN_LINE).map(|line| ("cli", format!("{}\n", line.join(";"))));
    // Pages are shown where nothing else is.
    let has_fronts = configuration.contains(FIRST_FRONT);
    let pages =
        (1..=if has_fronts { IN_LINE } else { MANY }).map(|n| ("http", get(&format!("/page{n}"), true)));
    let fronts: Vec<String> = (1..=IN_LINE).map(|n| format!("{FRONT}{n}")).collect();
    let errors = fronts.iter().filter(|_| has_fronts).map(|front| (front.as_str(), NONE.to_owned()));
    for (socket, text) in lines.chain(pages).chain(errors) {
        let mut client = connect(socket)?;
        client.send(text.as_bytes())?;
        client.read_to_end()?;
        client.hang_up();
    }
    (0..SESSIONS).map(|_| connect("cli")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_and_what_they_are_about() {
        let answer = |text: &str| Answer { length: 0, text: text.into(), shape: Vec::new() }.subjects();
        let usual = answer("  7 : one\n 12 : other\n");
        assert_eq!(usual, answer("  7 : other\n 13 : one\n"));
        // One of them is shown again, or not at all.
        assert_ne!(usual, answer("  7 : one\n  7 : one\n"));
        assert_ne!(usual, answer("  7 : one\n"));
    }

    #[test]
    fn addresses_and_numbers_are_masked() {
        assert_eq!(masked("0x55d0 key17 value17 0", false), "# key17 value17 0");
        assert_eq!(masked("0x55d0 key17 value17 0", true), "# key# value# #");
    }
}
