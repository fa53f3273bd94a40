//! Several clients at the same time, on several threads.

use super::super::bench::{Bench, Buffers, Conditions};
use super::super::discovery::Handler;
use super::super::said::Said;
use super::common::{Undisturbed, asked, dies, on_server};
use crate::client::asked::Asked;
use crate::server::haproxy::asking::{Answered, difference, read_all};
use crate::server::haproxy::{HaproxyError, HaproxyServer};

/// Clients at a time, and how often each of them asks.
const CLIENTS: u32 = 8;
const TIMES: usize = 20;
/// Threads of the server.
const THREADS: u32 = 4;

/// What came of a crowd.
struct Crowd {
    /// The first answer that is none.
    lost: Option<Answered>,
    /// The first one that is not what comes alone.
    other: Option<Vec<u8>>,
}

/// Clients at the same time are all answered, and the server lives.
pub(in super::super) fn crowd(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    let asked = asked(entry);
    for buffers in [Buffers::Usual, Buffers::Small] {
        let conditions = Conditions { buffers, threads: THREADS, ..Conditions::default() };
        let said = on_server(bench, &conditions, |server| {
            let alone = match Undisturbed::of(bench, server, &asked) {
                Ok(alone) => alone,
                Err(said) => return said,
            };
            let crowd = crowded(bench, server, &asked, &alone);
            let expected =
                format!("whole answers to {CLIENTS} clients that ask for `{asked}` at the same time");
            if crowd.lost.is_some() && dies(server) {
                return Said::broken(expected, "the server is gone");
            }
            match crowd.lost {
                Some(answered) => Said::broken(expected, answered.said()),
                None => Said::Holds,
            }
        })?;
        if said != Said::Holds {
            return Ok(said);
        }
    }
    Ok(Said::Holds)
}

/// Clients at the same time get what one alone gets.
pub(in super::super) fn shared(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    let asked = asked(entry);
    let conditions = Conditions { buffers: Buffers::Small, threads: THREADS, ..Conditions::default() };
    on_server(bench, &conditions, |server| {
        let alone = match Undisturbed::of(bench, server, &asked) {
            Ok(alone) => alone,
            Err(said) => return said,
        };
        let crowd = crowded(bench, server, &asked, &alone);
        let Some(other) = crowd.other else {
            return match crowd.lost {
                Some(_) => Said::Unfit("not all clients are answered: see handler.crowd".to_owned()),
                None if alone.stable => Said::Holds,
                None => Said::Unfit("what it answers differs from one time to the next".to_owned()),
            };
        };
        // What has changed for good is no matter of how many ask.
        match Undisturbed::of(bench, server, &asked) {
            Ok(after) if after.answer == alone.answer => Said::broken(
                format!(
                    "the same {} bytes for each of {CLIENTS} clients at the same time",
                    alone.answer.len()
                ),
                difference(&alone.answer, &other),
            ),
            _ => Said::Unfit("what it answers differs from one time to the next".to_owned()),
        }
    })
}

fn crowded(bench: &Bench<'_>, server: &HaproxyServer, asked: &Asked, alone: &Undisturbed) -> Crowd {
    let visit = || {
        let mut answers = Vec::new();
        for _ in 0..TIMES {
            let answered = match bench.connect(server, asked, "cli") {
                Ok(client) => read_all(client, asked),
                Err(error) => Answered::Cut(format!("no connection: {error}")),
            };
            let is_lost = !matches!(answered, Answered::Whole(_));
            answers.push(answered);
            if is_lost {
                break;
            }
        }
        answers
    };
    let answers: Vec<Answered> = std::thread::scope(|scope| {
        let visits: Vec<_> = (0..CLIENTS)
            .filter_map(|_| std::thread::Builder::new().spawn_scoped(scope, visit).ok())
            .collect();
        visits.into_iter().flat_map(|visit| visit.join().unwrap_or_default()).collect()
    });
    let mut crowd = Crowd { lost: None, other: None };
    for answered in answers {
        match answered {
            Answered::Whole(bytes) if alone.stable && bytes != alone.answer => {
                crowd.other.get_or_insert(bytes);
            }
            Answered::Whole(_) => {}
            lost => {
                crowd.lost.get_or_insert(lost);
            }
        }
    }
    crowd
}
