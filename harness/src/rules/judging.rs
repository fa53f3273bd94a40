//! Judges a whole trace, or one that still grows.

use std::collections::HashSet;

use layers_trace::{Event, Kind, ReadError, Reader};

use super::check::{Judge, Judgement, Rule, Trouble};
use super::of;
use crate::history::{End, History};
use crate::run::Run;
use crate::version::{Version, Which};

/// What an exit code is greater than that names a signal.
const KILLED: i32 = 128;
/// SIGKILL, of which a process hears nothing.
const KILL: u64 = 9;

/// Returns a judge of the trace that begins with this event, by those of `rules` that are about its server and that its version
/// promises; without a description of the run, by all.
pub fn judge_of(first: Option<&Event>, rules: impl IntoIterator<Item = &'static Rule>) -> Judge {
    let run = first.filter(|first| first.kind == Kind::Run).and_then(Run::of);
    let version = run.as_ref().map_or(Version(u16::MAX, 0, 0), |run| run.version);
    let of_server = run.as_ref().and_then(|run| Which::named(&run.server));
    let ids: Option<HashSet<&str>> = of_server.map(|server| of(server).map(|rule| rule.id).collect());
    let rules = rules.into_iter().filter(|rule| ids.as_ref().is_none_or(|ids| ids.contains(rule.id)));
    Judge::new(rules, version)
}

/// Returns what was judged when there are no more events, with what is to be said against the trace that they were read from: so
/// many of its records were never published, and it could not be read any further. What a server was writing when somebody killed
/// it is no riddle; and of one that is watched, nobody is sure to hear that.
pub fn judgement_of(
    judge: Judge,
    reader: &Reader<'_>,
    unpublished: u64,
    damaged: Option<ReadError>,
) -> Judgement {
    let stopped = reader.stopped();
    let mut judgement = judge.finish_at(stopped.is_none());
    if let Some(error) = damaged {
        judgement.troubles.insert(0, Trouble::Damaged(error));
    }
    if unpublished > 0 && !was_killed(&judgement.history) {
        judgement.troubles.push(Trouble::Unpublished(unpublished));
    }
    let left_out = reader.left_out().map(|(calls, from)| Trouble::LeftOut { calls, from });
    let lost = (reader.lost() > 0).then(|| Trouble::Lost(reader.lost()));
    for trouble in left_out.into_iter().chain(stopped.map(Trouble::Stopped)).chain(lost) {
        judgement.troubles.insert(0, trouble);
    }
    judgement
}

/// The server, or a worker of a master process, was killed, and may have been about to write; or nobody knows of that, where it is
/// watched.
fn was_killed(history: &History) -> bool {
    // A master process says so of its worker with its exit code.
    let killed = match history.end() {
        Some(End::Killed(_)) => true,
        Some(End::Exited(code)) => code > KILLED,
        None => history.is_watched(),
    };
    killed || history.signals().iter().any(|sent| sent.a == KILL)
}

/// Judges a whole trace.
///
/// The version that gates the rules is that of the run's description; without one every rule applies.
pub fn judge(reader: &Reader<'_>, rules: impl IntoIterator<Item = &'static Rule>) -> Judgement {
    let first = reader.events().next().and_then(Result::ok);
    let mut judge = judge_of(first.as_ref(), rules);
    let mut events = reader.events();
    let mut damaged = reader.header_damage();
    for event in &mut events {
        match event {
            Ok(event) => judge.feed(&event),
            Err(error) => damaged = damaged.or(Some(error)),
        }
    }
    // Whoever watched the server may have been killed before it ended.
    if judge.history().end().is_none()
        && damaged.is_none()
        && let Some(end) = judge.history().noted_end()
    {
        judge.feed(&end.event(events.position()));
    }
    judgement_of(judge, reader, events.unpublished(), damaged)
}
