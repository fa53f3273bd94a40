//! The server's own ways to try what uses its pools: allocations that fail, and memory that is looked at when it comes back.

use std::time::Duration;

use super::super::bench::{Bench, Conditions};
use super::super::discovery::Handler;
use super::super::said::Said;
use super::common::{asked, dies, is_alive, on_server};
use crate::client::asked::Asked;
use crate::deadline::Deadline;
use crate::server::haproxy::asking::{Answered, text_of};
use crate::server::haproxy::{HaproxyError, HaproxyServer};
use crate::version::Version;

/// The versions that can do it.
const FAILING_SINCE: Version = Version(2, 6, 0);
const LOOKING_SINCE: Version = Version(2, 6, 0);
/// The first version whose packages can tell memory that is used after it was freed.
const USE_AFTER_FREE_SINCE: Version = Version(2, 8, 0);
/// Commands under each of them.
const TIMES: usize = 60;
const TIMES_WITHOUT_MEMORY: usize = 250;
/// Requests without memory: most of them fail before they come to a service, in one of 60 it is the service whose allocation fails.
const REQUESTS_WITHOUT_MEMORY: usize = 700;
/// So many of a hundred allocations fail: fewer, where more come before the handler's own.
const FAILING: &[&str] = &["tune.fail-alloc 10"];
const FAILING_FOR_REQUESTS: &[&str] = &["tune.fail-alloc 4"];
/// Servers that are started for the sake of one that has enough memory for that.
const STARTS: usize = 10;
/// A command that does nothing, and one that is answered at some length: HAProxy keeps clients for whose answer there was no room.
const HARMLESS: &[&str] = &["layers plain", "show info"];
/// So often it is tried whether the server dies in the handler, or for reasons of its own.
const TRIES: usize = 3;
/// Why nothing is said.
const NEITHER: &str = "this server does not bear it with a command that does no harm, either";
/// How long a client waits for an answer for which there may be no memory.
const PATIENCE: Duration = Duration::from_millis(200);
/// So often is asked whether anything is answered at all.
const QUESTIONS: usize = 20;

/// When the server has no memory for what it asks for it gives up, and what comes later works.
pub(in super::super) fn without_memory(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    if bench.version() < FAILING_SINCE {
        return Ok(Said::Unfit(format!("HAProxy before {FAILING_SINCE} cannot let allocations fail")));
    }
    if entry.lua {
        return Ok(Said::Unfit(
            "it is written in Lua, and asks for no memory of the server's itself".to_owned(),
        ));
    }
    let asked = asked(entry);
    let mut said = Said::Holds;
    for _ in 0..TRIES {
        said = failing(bench, &asked)?;
        // Dead in the middle of its call, it is to blame whatever else the server does not bear.
        if !matches!(said, Said::Broken { .. }) || bench.has_died_in_a_handler() {
            return Ok(said);
        }
    }
    // The same with commands that do no harm: the server's own share.
    for harmless in HARMLESS {
        match failing(bench, &Asked::Command((*harmless).to_owned()))? {
            Said::Broken { .. } => return Ok(Said::Unfit(NEITHER.to_owned())),
            Said::Holds => {}
            other => return Ok(other),
        }
    }
    Ok(said)
}

fn failing(bench: &Bench<'_>, asked: &Asked) -> Result<Said, HaproxyError> {
    for _ in 1..STARTS {
        let said = failing_once(bench, asked)?;
        if !matches!(said, Said::Undecided(_)) {
            return Ok(said);
        }
    }
    failing_once(bench, asked)
}

fn failing_once(bench: &Bench<'_>, asked: &Asked) -> Result<Said, HaproxyError> {
    let (times, settings) = match asked {
        Asked::Command(_) => (TIMES_WITHOUT_MEMORY, FAILING),
        Asked::Request(_) => (REQUESTS_WITHOUT_MEMORY, FAILING_FOR_REQUESTS),
    };
    let conditions = Conditions { arguments: &["-dMfail"], settings, fails: true, ..Conditions::default() };
    on_server(bench, &conditions, |server| {
        for _ in 0..times {
            if let Ok(mut client) = bench.connect(server, asked, "cli") {
                client.hurry(Deadline::after(PATIENCE));
                let _ = client.send(text_of(asked).as_bytes()).and_then(|()| client.read_to_end());
                client.hang_up();
            }
            if !is_alive(server) {
                return Said::broken("the server lives when an allocation fails", "it is gone");
            }
        }
        let is_answered = (0..QUESTIONS).any(|_| {
            let Ok(mut client) = bench.connect(server, asked, "cli") else { return false };
            client.hurry(Deadline::after(PATIENCE));
            let sent = client.send(text_of(asked).as_bytes());
            let answered = sent.is_ok() && client.read_bytes(1).is_ok();
            client.hang_up();
            answered
        });
        if is_answered {
            return Said::Holds;
        }
        if dies(server) {
            return Said::broken("the server lives when an allocation fails", "it is gone");
        }
        Said::broken(
            format!("`{asked}` is answered again after allocations have failed"),
            format!("{QUESTIONS} clients in a row have got nothing"),
        )
    })
}

/// The server's checks of its memory find nothing.
pub(in super::super) fn integrity(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    if bench.version() < LOOKING_SINCE {
        return Ok(Said::Unfit(format!("HAProxy before {LOOKING_SINCE} does not look")));
    }
    let all: &[&'static [&'static str]] = &[&["-dMno-merge,cold-first,integrity"], &["-dMuaf"]];
    let offered = if bench.version() < USE_AFTER_FREE_SINCE { 1 } else { all.len() };
    for arguments in all.iter().take(offered) {
        let asked = asked(entry);
        let said = looked_at(bench, &asked, arguments, entry.lua)?;
        if !matches!(said, Said::Broken { .. }) {
            continue;
        }
        return Ok(match looked_at(bench, &Asked::Command("layers plain".to_owned()), arguments, false)? {
            Said::Holds => said,
            _ => Said::Unfit(NEITHER.to_owned()),
        });
    }
    Ok(Said::Holds)
}

fn looked_at(
    bench: &Bench<'_>,
    asked: &Asked,
    arguments: &'static [&'static str],
    lua: bool,
) -> Result<Said, HaproxyError> {
    let conditions = Conditions { arguments, ..Conditions::default() };
    on_server(bench, &conditions, |server| {
        for time in 0..TIMES {
            let lost =
                if time % 3 == 2 && !lua { abort(bench, server, asked) } else { ask(bench, server, asked) };
            if lost.is_some() && dies(server) {
                return Said::broken(
                    format!("the server finds nothing under {}", arguments.join(" ")),
                    found(server),
                );
            }
            if let Some(lost) = lost {
                return Said::Unfit(format!("`{asked}` under {}: {lost}", arguments.join(" ")));
            }
        }
        Said::Holds
    })
}

fn ask(bench: &Bench<'_>, server: &mut HaproxyServer, asked: &Asked) -> Option<String> {
    match bench.ask(server, asked) {
        Answered::Whole(_) => None,
        other => Some(other.said()),
    }
}

fn abort(bench: &Bench<'_>, server: &mut HaproxyServer, asked: &Asked) -> Option<String> {
    let mut client = bench.connect(server, asked, "cli").ok()?;
    let _ = client.send(text_of(asked).as_bytes());
    client.hang_up();
    server.wait_until(Deadline::after(bench.patience()), |progress| progress.live() == 0);
    None
}

/// What the server says of what it has found.
fn found(server: &HaproxyServer) -> String {
    let printed = server.printed();
    let said = printed.lines().map(str::trim).find(|line| line.contains("FATAL") || line.contains("BUG"));
    said.map_or_else(|| "the server is gone".to_owned(), |line| format!("the server stops: {line}"))
}
