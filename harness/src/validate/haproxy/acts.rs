//! What each check does with an entry.

use super::bench::{Answered, Bench, Buffers, Conditions, text_of};
use super::discovery::Handler;
use super::memory::grows;
use super::written::Written;
use crate::client::asked::Asked;
use crate::deadline::Deadline;
use crate::outcome::Verdict;
use crate::server::haproxy::{HaproxyError, HaproxyServer};
use crate::server::process::Woken;
use crate::validate::check::ModuleCheck;
use crate::validate::verdicts::broken;

/// What is said of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Holds,
    Broken {
        expected: String,
        actual: String,
        hint: Option<String>,
    },
    /// The check is not about it.
    Unfit(String),
    /// It is, and it cannot be told.
    Undecided(String),
}

impl Said {
    fn broken(expected: impl Into<String>, actual: impl Into<String>) -> Said {
        Said::Broken { expected: expected.into(), actual: actual.into(), hint: None }
    }

    pub(super) fn verdict(&self, check: &ModuleCheck) -> Verdict {
        match self {
            Said::Holds => Verdict::Pass,
            Said::Broken { .. } => broken(check.level),
            Said::Unfit(why) => Verdict::NotApplicable(why.clone()),
            Said::Undecided(why) => Verdict::Inconclusive(why.clone()),
        }
    }
}

/// Plays a check with one entry.
pub(super) type Act = fn(&Bench<'_>, &Handler) -> Result<Said, HaproxyError>;

/// Calls of one act on a server of its own.
fn on_server(
    bench: &Bench<'_>,
    buffers: Buffers,
    act: impl FnOnce(&mut HaproxyServer) -> Said,
) -> Result<Said, HaproxyError> {
    let conditions = Conditions { buffers, ..Conditions::default() };
    let mut server = match bench.start(&conditions)? {
        Ok(server) => server,
        Err(complaint) => return Ok(Said::Undecided(format!("the server does not start: {complaint}"))),
    };
    let said = act(&mut server);
    bench.end(server);
    Ok(said)
}

fn asked(entry: &Handler) -> Asked {
    entry.asked.clone().unwrap_or_else(|| Asked::Command(entry.name.clone()))
}

/// An undisturbed question is answered, twice.
pub(super) fn answers(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    let asked = asked(entry);
    on_server(bench, Buffers::Usual, |server| {
        for time in ["", " again"] {
            match bench.ask(server, &asked, false, None) {
                Answered::Whole(_) => {}
                // A command may wait for what nobody does here.
                Answered::Late if !entry.service => {
                    let seconds = bench.patience().as_secs();
                    return Said::Undecided(format!(
                        "no end of the answer to `{asked}`{time} within {seconds} s: does it wait for something, or need arguments (--keyword)?"
                    ));
                }
                other => return Said::broken(format!("a whole answer to `{asked}`{time}"), other.said()),
            }
        }
        Said::Holds
    })
}

/// The answer is the same however it is read, and whatever the buffers are.
pub(super) fn whole(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    let asked = asked(entry);
    let first = |buffers, slow, known| {
        let mut answered = Answered::Late;
        let said = on_server(bench, buffers, |server| {
            answered = bench.ask(server, &asked, slow, known);
            Said::Holds
        })?;
        Ok::<_, HaproxyError>((said, answered))
    };
    let (_, one) = first(Buffers::Huge, false, None)?;
    let (_, another) = first(Buffers::Huge, false, None)?;
    let (Answered::Whole(one), Answered::Whole(another)) = (one, another) else {
        return Ok(Said::Unfit(format!("`{asked}` has no whole answer: see handler.answers")));
    };
    if one != another {
        return Ok(Said::Unfit("what it answers differs from one server to the next".to_owned()));
    }
    for (buffers, slow, how) in [
        (Buffers::Usual, true, "read slowly"),
        (Buffers::Small, false, "through buffers of 2 KiB"),
        (Buffers::Small, true, "through buffers of 2 KiB, read slowly"),
    ] {
        let (said, answered) = first(buffers, slow, Some(one.len()))?;
        if said != Said::Holds {
            return Ok(said);
        }
        let expected = format!("the same {} bytes {how} as at once", one.len());
        match answered {
            Answered::Whole(bytes) if bytes == one => {}
            Answered::Whole(bytes) => return Ok(Said::broken(expected, difference(&one, &bytes))),
            other => return Ok(Said::broken(expected, other.said())),
        }
    }
    Ok(Said::Holds)
}

fn difference(expected: &[u8], got: &[u8]) -> String {
    let place = expected.iter().zip(got).position(|(one, other)| one != other);
    let place = place.unwrap_or(expected.len().min(got.len()));
    let line = expected.get(..place).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count() + 1;
    format!("{} bytes, which differ from byte {place} on, in line {line}", got.len())
}

/// Arguments that are most likely to be refused, each behind the words of the keyword.
fn arguments() -> Vec<String> {
    let mut all: Vec<String> =
        ["bad", "no-such-thing", "-1", "0", "99999999999999999999", "1.5x", "#", "a/b"]
            .map(str::to_owned)
            .into();
    all.push("x".repeat(1000));
    all.push(["many"; 40].join(" "));
    all
}

/// After arguments that are refused it goes on working.
pub(super) fn after_refused(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    if entry.service {
        return Ok(Said::Unfit("a service has no arguments".to_owned()));
    }
    let good = asked(entry);
    on_server(bench, Buffers::Usual, |server| {
        match bench.ask(server, &good, false, None) {
            Answered::Whole(_) => {}
            other => return Said::Undecided(format!("`{good}` alone: {}", other.said())),
        }
        let words = std::iter::once(String::new()).chain(arguments());
        for argument in words {
            let odd = Asked::Command(format!("{} {argument}", entry.name).trim_end().to_owned());
            let shown: String = odd.to_string().chars().take(60).collect();
            match bench.ask(server, &odd, false, None) {
                Answered::Whole(_) if server.process.end().is_none() => {}
                Answered::Whole(_) => {
                    return Said::broken(format!("`{shown}` is refused, or answered"), "the server is gone");
                }
                other => return Said::broken(format!("`{shown}` is refused, or answered"), other.said()),
            }
            match bench.ask(server, &good, false, None) {
                Answered::Whole(_) if is_alive(server) => {}
                Answered::Whole(_) => {
                    return Said::broken(
                        format!("`{good}` is answered after `{shown}`"),
                        "the server is gone",
                    );
                }
                other => return Said::broken(format!("`{good}` is answered after `{shown}`"), other.said()),
            }
        }
        Said::Holds
    })
}

fn is_alive(server: &mut HaproxyServer) -> bool {
    server.process.end().is_none()
}

/// Clients that leave at every call, or as soon as they have asked.
pub(super) fn leave(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    const MOST: usize = 12;
    let asked = asked(entry);
    on_server(bench, Buffers::Small, |server| {
        for sips in 0..MOST {
            let Ok(mut client) = bench.connect(server, &asked, "cli") else {
                return Said::broken("the server takes new clients after one has left", "no connection");
            };
            if client.send(text_of(&asked).as_bytes()).is_err() {
                return Said::broken(
                    "the server takes new clients after one has left",
                    "nothing could be sent",
                );
            }
            let mut over = false;
            for _ in 0..sips {
                server.wait_idle(Deadline::after(std::time::Duration::from_millis(100)));
                over |= client.read_bytes(1).is_err();
            }
            if sips == 1 {
                server.wait_idle(Deadline::after(std::time::Duration::from_millis(100)));
            }
            client.hang_up();
            let deadline = Deadline::after(bench.patience());
            if server.wait_until(deadline, |progress| progress.live() == 0) == Woken::Late {
                let seconds = bench.patience().as_secs();
                return Said::broken(
                    "the command ends when its client has gone",
                    format!(
                        "{seconds} s later it still runs: its handler does not look whether anybody is there"
                    ),
                );
            }
            if over {
                break;
            }
        }
        match server.ask(u32::MAX, "show version", Deadline::after(bench.patience())) {
            Ok(_) if is_alive(server) => Said::Holds,
            _ => Said::broken("the server answers after clients have left", "it does not"),
        }
    })
}

/// What is used grows with every round.
pub(super) fn memory(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    let asked = asked(entry);
    let of = |asked: &Asked| {
        let mut grown = Ok(None);
        let said = on_server(bench, Buffers::Usual, |server| {
            grown = grows(bench, server, asked, entry.lua);
            Said::Holds
        })?;
        Ok::<_, HaproxyError>(if said == Said::Holds {
            grown
        } else {
            Err("the server does not start".to_owned())
        })
    };
    Ok(match of(&asked)? {
        Err(why) => Said::Undecided(why),
        Ok(None) => Said::Holds,
        Ok(Some(grown)) => {
            // The server's own share, of the same clients with a command that does nothing.
            let own = if entry.service { Ok(None) } else { of(&Asked::Command("layers plain".to_owned()))? };
            match own {
                Ok(Some(own)) if own.saturating_mul(2) >= grown => {
                    Said::Unfit("the memory of this server grows with clients alone".to_owned())
                }
                _ => Said::broken(
                    "what is in use after each further round is no more than after the one before",
                    format!("each `{asked}` keeps {grown} bytes"),
                ),
            }
        }
    })
}

/// Verbs of commands that change something.
const CHANGING: &[&str] = &[
    "set", "clear", "del", "add", "enable", "disable", "shutdown", "update", "commit", "new", "abort",
    "reset", "flush", "kill", "drop", "write", "delete", "remove", "create", "stop", "start", "reload",
];

/// A command that changes something is not for everybody.
pub(super) fn level(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    if entry.service {
        return Ok(Said::Unfit("a service has no level".to_owned()));
    }
    let asked = asked(entry);
    on_server(bench, Buffers::Usual, |server| {
        let written = Written::of(bench.modules(), server.process.pid());
        let mut states = Vec::new();
        for _ in 0..4 {
            states.push(written.look());
            match bench.ask_at(server, &asked, "user", false, None) {
                Answered::Whole(answer) if String::from_utf8_lossy(&answer).contains("Permission denied") => {
                    return Said::Holds;
                }
                Answered::Whole(_) => {}
                other => return Said::Undecided(format!("`{asked}` at level user: {}", other.said())),
            }
        }
        // The first time something may be made that is kept.
        let changes =
            states.windows(2).skip(1).all(|pair| pair.first() != pair.last() && pair.first() != Some(&None));
        let verb = entry.name.split(' ').find(|word| CHANGING.contains(word));
        let expected = "a command that changes something is refused at level user";
        match (verb, changes) {
            (Some(verb), _) => Said::broken(
                expected,
                format!("`{asked}` is done for everybody, and `{verb}` says that it changes something"),
            ),
            (None, true) => Said::broken(
                expected,
                format!("`{asked}` is done for everybody, and changes data of its module each time"),
            ),
            (None, false) => Said::Holds,
        }
    })
}
