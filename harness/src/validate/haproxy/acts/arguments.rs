//! Arguments that are refused, and the level of whoever asks.

use super::super::bench::{Bench, Conditions};
use super::super::discovery::Handler;
use super::super::said::Said;
use super::super::written::Written;
use super::common::{asked, is_alive, on_server};
use crate::client::asked::Asked;
use crate::server::haproxy::HaproxyError;
use crate::server::haproxy::asking::{Answered, Pace, changing, odd_arguments};

/// After arguments that are refused it goes on working.
pub(in super::super) fn after_refused(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    if entry.service {
        return Ok(Said::Unfit("a service has no arguments".to_owned()));
    }
    let good = asked(entry);
    on_server(bench, &Conditions::default(), |server| {
        match bench.ask(server, &good) {
            Answered::Whole(_) => {}
            other => return Said::Undecided(format!("`{good}` alone: {}", other.said())),
        }
        for argument in odd_arguments() {
            let odd = Asked::Command(format!("{} {argument}", entry.name).trim_end().to_owned());
            let shown: String = odd.to_string().chars().take(60).collect();
            match bench.ask(server, &odd) {
                Answered::Whole(_) if is_alive(server) => {}
                Answered::Whole(_) => {
                    return Said::broken(format!("`{shown}` is refused, or answered"), "the server is gone");
                }
                other => return Said::broken(format!("`{shown}` is refused, or answered"), other.said()),
            }
            match bench.ask(server, &good) {
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

/// A command that changes something is not for everybody.
pub(in super::super) fn level(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    if entry.service {
        return Ok(Said::Unfit("a service has no level".to_owned()));
    }
    let asked = asked(entry);
    on_server(bench, &Conditions::default(), |server| {
        let written = Written::of(bench.modules(), server.process.pid());
        let mut states = Vec::new();
        for _ in 0..4 {
            states.push(written.look());
            match bench.ask_at(server, &asked, "user", Pace::Quick, None) {
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
        let verb = changing(&entry.name);
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
