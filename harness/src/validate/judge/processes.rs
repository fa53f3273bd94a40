//! What every case shows about the server as a process, whatever it was played for.

use std::borrow::Cow;

use layers_trace::{Callback, Event, Field, Kind, Probe};

use super::judging::own_trouble;
use super::quoted;
use crate::outcome::Verdict;
use crate::protocol::is_told;
use crate::rules::CallRef;
use crate::run::Start;
use crate::validate::checks::check::CasePlan;
use crate::validate::play::in_flight::in_flight;
use crate::validate::play::played::{Played, Trouble, outlived, signal_name, threads_left};
use crate::validate::play::stop::{Stop, Wrong};
use crate::validate::script::op::Op;
use crate::validate::subject::stock;

/// The number of a plugin.
const PLUGIN: u8 = 0;
/// In `handle` of its registration: it has errno_is_preserved.
const PRESERVED: u32 = 1 << 31;

/// One thing that is wrong with the process.
pub(in crate::validate) struct Seen {
    /// The check that it breaks.
    pub(in crate::validate) id: &'static str,
    /// A crash and a hang are verdicts of their own.
    pub(in crate::validate) verdict: Option<Verdict>,
    pub(in crate::validate) wrong: Wrong,
    /// The calls that show it; without any, those in flight do.
    pub(in crate::validate) calls: Vec<CallRef>,
}

impl Seen {
    fn new(id: &'static str, expected: &str, actual: impl Into<String>) -> Seen {
        Seen { id, verdict: None, wrong: Wrong::new(expected, actual), calls: Vec::new() }
    }

    /// With the last calls before the shutdown.
    fn with_last_calls(self, played: &Played) -> Seen {
        Seen { calls: quoted::calls(&played.events, &self.wrong).0, ..self }
    }
}

/// Everything that is wrong with the process; the subject's innermost layer is `from`.
pub(in crate::validate) fn look(plan: &CasePlan, played: &Played, from: u8) -> Vec<Seen> {
    let mut all: Vec<Seen> = reported(played);
    // The run-time of a sanitizer ends the process once it has told of an error.
    let ended_by_report = !all.is_empty() && played.stderr.contains("Sanitizer: ");
    let memory = match &played.trouble {
        Some(Trouble::Memory(bytes)) => Some(*bytes),
        _ => None,
    };
    // Of a request that is sent on and on our own plugin says each time that it has failed.
    let floods = played.floods && !(from > 0 && matches!(played.trouble, Some(Trouble::Hang(_))));
    let trouble = played.trouble.as_ref().filter(|_| own_trouble(plan, played).is_none());
    match trouble {
        Some(Trouble::Crash(_) | Trouble::Exit(_)) if ended_by_report => {}
        Some(Trouble::Crash(signal)) => {
            let how = format!("the server is killed by signal {signal} ({})", signal_name(*signal));
            let how = how + before_any_call(played);
            let verdict = Some(Verdict::Crash(how.clone()));
            all.push(Seen {
                verdict,
                ..Seen::new("process.crash", "the server lives until it is told to end", how)
            });
        }
        Some(Trouble::Hang(what)) if !floods => {
            let what = what.clone() + before_any_call(played);
            let verdict = Some(Verdict::Hang(what.clone()));
            let seen = Seen::new("process.hang", "an end before the deadline (--timeout)", what);
            all.push(Seen { verdict, calls: played.in_flight.clone(), ..seen });
        }
        Some(Trouble::Exit(code)) => {
            let how = format!("it ends by itself, with status {code}");
            all.push(Seen::new(
                "process.exit",
                "the server lives until it is told to end, and ends with status 0",
                how,
            ));
        }
        _ => {}
    }
    if let Some(bytes) = memory {
        let how = format!("it held {} MiB when it was killed", bytes >> 20);
        all.push(Seen::new("process.memory", "the server stays within its memory (--memory)", how));
    }
    if floods {
        let seen = Seen::new("process.output", "less than 16 MiB of messages", "the room for them is full");
        all.push(seen.with_last_calls(played));
    }
    if let [first, others @ ..] = played.children.as_slice() {
        let how = match others.len() {
            0 => format!("1 left behind: `{first}`"),
            more => format!("{} left behind: `{first}` and {more} more", more + 1),
        };
        let seen = Seen::new("process.children", "no child process is left when the server has ended", how);
        all.push(seen.with_last_calls(played));
    }
    if let (None, Some((index, Stop::Gone(what)))) = (&played.trouble, &played.stop)
        && plan.script.get(*index).is_some_and(Op::asks_for_data)
    {
        let how = format!("the connection ends in the middle of `{what}`, and the server lives");
        let seen = Seen::new("process.descriptors", "the connection stays until the client leaves", how);
        all.push(seen.with_last_calls(played));
    }
    if let Some(threads) = threads_left(played).filter(|_| outlived(played)) {
        let how = format!("{threads} threads are left, and the main thread is one of them");
        all.push(Seen::new(
            "resources.after-unload",
            "only the main thread is left after the last .unload",
            how,
        ));
    }
    all.extend(volatile(played, from));
    // What is refused to a module is an error that hardly ever comes.
    if plan.conditions.fails.is_none() {
        all.extend(numbers(played, from));
    }
    if let Some(call) = silent_failure(played, from).filter(|_| is_heard(plan)) {
        let how = format!("{call}, and no message");
        let seen = Seen::new("errors.message", "a message that says why the call fails", how);
        all.push(Seen { calls: vec![call], ..seen });
    }
    all
}

/// What the server prints can be read: in the background it tells syslog(3).
fn is_heard(plan: &CasePlan) -> bool {
    plan.start != Start::Daemon
}

/// This case says something about this check.
pub(in crate::validate) fn is_judged(id: &str, plan: &CasePlan, played: &Played) -> bool {
    match id {
        "memory.reported" => played.reported.is_some(),
        "resources.after-unload" => threads_left(played).is_some(),
        "flush.syncs" => of_all(played).flatten().any(|event| event.probe() == Some(Probe::Durable)),
        "errors.number" | "errors.protocol" => failures(played).next().is_some(),
        "errors.message" => {
            let fails = |event: &Event| event.kind == Kind::Exit && event.result() < 0;
            is_heard(plan) && played.events.iter().any(fails)
        }
        // A server that went away at once is nobody's to look at.
        "process.memory" => played.memory_was_seen || played.end.is_some(),
        _ => true,
    }
}

/// The events of each server of a case.
fn of_all(played: &Played) -> impl Iterator<Item = &[Event]> {
    [&*played.before, &*played.events].into_iter()
}

/// A flush, or a call with FUA, that has promised what nothing has made durable.
fn volatile(played: &Played, from: u8) -> Option<Seen> {
    let broken =
        |event: &&Event| event.probe() == Some(Probe::Durable) && event.layer >= from && event.result() == 0;
    let (events, probe) = of_all(played).find_map(|events| Some((events, events.iter().find(broken)?)))?;
    let enter = |position: u64| {
        events.iter().find(|event| event.kind == Kind::Enter && u64::from(event.position) == position)
    };
    let promise = CallRef::from(enter(probe.call.into())?);
    let wrote = enter(probe.context).map(CallRef::from).filter(|wrote| wrote.position != promise.position);
    let name = probe.text(Field::Name).map_or(Cow::Borrowed(""), |name| String::from_utf8_lossy(&name.bytes));
    let file = if name.is_empty() { "a file".to_owned() } else { format!("the file `{name}`") };
    let actual = match &wrote {
        Some(wrote) => format!("`{promise}` succeeds, and none was called for {file} since `{wrote}`"),
        None => format!("`{promise}` succeeds, and none was called for {file}"),
    };
    let expected = "fdatasync, fsync or the like for each file that was written to";
    let calls = wrote.into_iter().chain([promise]).collect();
    Some(Seen { calls, ..Seen::new("flush.syncs", expected, actual) })
}

/// Requests that have failed in a plugin, each with its error, where that is known; 0 for one that nobody has set.
fn failures(played: &Played) -> impl Iterator<Item = (&Event, i32)> {
    let events = &played.events;
    let of_plugin = |event: &&Event| event.layer == PLUGIN;
    let registered = events.iter().filter(of_plugin).find(|event| event.kind == Kind::Layer);
    // What an interpreter makes of a script that fails is not the script's.
    let name = registered.and_then(|layer| layer.text(Field::Name));
    let is_script = name.is_some_and(|name| stock::runs_code(&String::from_utf8_lossy(&name.bytes)));
    let is_watched = |event: &Event| event.probe() == Some(Probe::Watched);
    let is_seen = !is_script && events.iter().filter(of_plugin).any(is_watched);
    let preserved = registered.is_some_and(|layer| layer.handle & PRESERVED != 0);
    let failed = move |event: &&Event| {
        let of_data = event.kind == Kind::Exit && event.callback().is_some_and(Callback::is_data);
        is_seen && of_data && event.result() < 0
    };
    events.iter().filter(of_plugin).filter(failed).map(move |event| {
        let left = if preserved { event.errno() } else { 0 };
        (event, if event.d == 0 { left } else { event.d }.cast_signed())
    })
}

/// A request that has failed without an error, or with one that cannot be told.
fn numbers(played: &Played, from: u8) -> Vec<Seen> {
    if from > PLUGIN {
        return Vec::new();
    }
    let first = |wanted: fn(i32) -> bool| failures(played).find(|(_, error)| wanted(*error));
    let with = |event: &Event, seen: Seen| Seen { calls: vec![CallRef::from(event)], ..seen };
    let without = first(|error| error == 0).map(|(event, _)| {
        let actual = format!("`{}` without either: the client is told EIO", CallRef::from(event));
        let expected = "nbdkit_set_error, or errno where errno_is_preserved is set";
        with(event, Seen::new("errors.number", expected, actual))
    });
    // ERANGE is what nbdkit_add_extent says of extents that do not fit together: how it is told is not the plugin's choice.
    let untold =
        first(|error| ![0, libc::ERANGE].contains(&error) && !is_told(error)).map(|(event, error)| {
            let said = std::io::Error::from_raw_os_error(error).to_string();
            let said = said.split(" (os error").next().unwrap_or_default();
            let actual = format!("`{}` with {said}: the client is told EINVAL", CallRef::from(event));
            with(event, Seen::new("errors.protocol", "an error that the protocol has", actual))
        });
    without.into_iter().chain(untold).collect()
}

/// What valgrind or a sanitizer has said of the modules.
fn reported(played: &Played) -> Vec<Seen> {
    let all = played.reported.iter().flatten();
    all.map(|one| {
        let actual = format!("{} in {}", one.what, one.place);
        let seen = Seen::new("memory.reported", "nothing is reported of the module", actual);
        Seen { calls: named(&one.place, &played.events), ..seen }
    })
    .collect()
}

/// The calls in flight, when the process has ended in them; else the first call whose callback the place names.
fn named(place: &str, events: &[Event]) -> Vec<CallRef> {
    let in_flight = in_flight(events);
    if !in_flight.is_empty() {
        return in_flight;
    }
    let is_named = |event: &&Event| {
        event.kind == Kind::Enter && event.callback().is_some_and(|callback| place.contains(callback.name()))
    };
    events.iter().find(is_named).map(CallRef::from).into_iter().collect()
}

/// A callback that failed although the server has printed no error at all.
fn silent_failure(played: &Played, from: u8) -> Option<CallRef> {
    if played.stderr.contains("error:") || played.stderr.contains("error ") {
        return None;
    }
    let failed = |event: &&Event| {
        let expects = |callback| {
            matches!(
                callback,
                Callback::Config | Callback::ConfigComplete | Callback::GetReady | Callback::Open
            )
        };
        // A filter's error is what it leaves in *err.
        let of_filter = if event.layer > 0 { event.err() } else { None };
        let error = of_filter.unwrap_or(event.errno()).cast_signed();
        let not_supported = error == libc::ENOTSUP;
        event.kind == Kind::Exit
            && event.layer >= from
            && event.callback().is_some_and(|callback| match callback {
                Callback::Open => event.result() == 0,
                callback if callback.is_data() => event.result() < 0 && !not_supported,
                callback => expects(callback) && event.result() < 0,
            })
    };
    played.events.iter().find(failed).map(CallRef::from)
}

fn before_any_call(played: &Played) -> &'static str {
    let called = played.events.iter().any(|event| event.kind == Kind::Enter);
    if called { "" } else { ", before any call: while it is loaded" }
}
