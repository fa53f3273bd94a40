//! Every rule can fail: for each one that the named scenarios exercise there is a change to a trace recorded from a real
//! nbdkit that it rejects.
//!
//! The changes are made by a few operators (drop, double, move, re-thread, change an argument or a result) applied to
//! every call and note of the trace. A rule that survives all of them is a rule that checks nothing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use layers::rules::{Checker, Judge, Rule, all};
use layers::scenario::{Player, named};
use layers::server::Which;
use layers::server::nbdkit::Nbdkit;
use layers::server::process::become_subreaper;
use layers::version::Version;
use layers_trace::{Callback, Event, Kind, Operation};

/// Rules that no single change of these breaks; each has a counter-example, made by hand, beside its check.
const BROKEN_ELSEWHERE: &[(&str, &str)] = &[
    ("open.fail.no-close", "a failed open has no handle, so its close must be invented"),
    ("open.fail.retry", "the second attempt must vanish together with its replies"),
    ("conn.disc-prompt", "the close must move behind the client's own end of the connection"),
];

/// Traces in which a rule is tried with one operator.
const TRACES: usize = 2;
/// Calls of one layer, callback and kind that are tried in one trace.
const CALLS: usize = 1;

type Trace = Vec<Event>;

/// Ids of those of `rules` that this trace breaks, and of those that it exercises.
///
/// Positions are the places in the list; exits follow their enters, wherever those have gone.
fn judged(
    trace: &[Event],
    rules: &[&'static Rule],
    version: layers::version::Version,
) -> [BTreeSet<&'static str>; 2] {
    let mut judge = Judge::new(rules.iter().copied(), version);
    let mut places = vec![u32::MAX; trace.iter().map(|event| event.position as usize + 1).max().unwrap_or(0)];
    for (place, event) in trace.iter().enumerate() {
        places[event.position as usize] = place as u32;
    }
    for (place, event) in trace.iter().enumerate() {
        let position = place as u32;
        let call = match event.kind {
            Kind::Enter | Kind::Request => position,
            _ => places.get(event.call as usize).copied().unwrap_or(u32::MAX),
        };
        if (event.position, event.call) == (position, call) {
            judge.feed(event);
        } else {
            judge.feed(&Event { position, call, ..event.clone() });
        }
    }
    let results = judge.finish().results;
    let ids = |test: fn(&layers::rules::RuleResult) -> bool| {
        results.iter().filter(|result| test(result)).map(|result| result.rule.id).collect()
    };
    [ids(|result| result.broken > 0), ids(|result| result.exercised > 0)]
}

/// Places of the events of one call: enter and exit, or request and reply.
fn both(trace: &[Event], place: usize) -> Vec<usize> {
    let call = trace[place].position;
    let opens = matches!(trace[place].kind, Kind::Enter | Kind::Request);
    let same = |event: &Event| event.position == call || (opens && event.call == call && is_call(event));
    trace.iter().enumerate().filter(|(_, event)| same(event)).map(|(place, _)| place).collect()
}

fn is_call(event: &Event) -> bool {
    matches!(event.kind, Kind::Enter | Kind::Exit | Kind::Request | Kind::Reply)
}

fn without(trace: &[Event], places: &[usize]) -> Trace {
    let kept = trace.iter().enumerate().filter(|(place, _)| !places.contains(place));
    kept.map(|(_, event)| event.clone()).collect()
}

/// These events, in their order, in front of the one at `to`.
fn moved(trace: &[Event], places: &[usize], to: usize) -> Trace {
    let taken: Trace = places.iter().map(|place| trace[*place].clone()).collect();
    let before = places.iter().filter(|place| **place < to).count();
    let mut rest = without(trace, places);
    rest.splice(to - before..to - before, taken);
    rest
}

/// The call once more, in front of the event at `to`.
fn doubled(trace: &[Event], places: &[usize], to: usize) -> Trace {
    let fresh = trace.iter().map(|event| event.position).max().unwrap_or(0) + 1;
    let again = places.iter().enumerate().map(|(n, place)| {
        let event = trace[*place].clone();
        Event { position: fresh + n as u32, call: fresh, ..event }
    });
    let mut trace = trace.to_vec();
    trace.splice(to..to, again.collect::<Trace>());
    trace
}

/// What becomes of each changed trace.
type Try<'a> = dyn FnMut(&[Event]) + 'a;

/// The event (with its other half) dropped, doubled, in another place in space, or with other arguments.
fn altered(trace: &mut Trace, place: usize, attempt: &mut Try<'_>) {
    let here = both(trace, place);
    let (first, last, kind) = (here[0], here[here.len() - 1], trace[place].kind);
    let on_thread = |n: &usize| trace[*n].tid == trace[first].tid && trace[*n].kind != Kind::Probe;
    let nest: Vec<usize> = (first..=last).filter(on_thread).collect();
    attempt(&without(trace, &here));
    attempt(&without(trace, &nest));
    attempt(&doubled(trace, &here, last + 1));
    // The server exits in the middle of it.
    let rest = (first + 1..trace.len()).filter(|n| trace[*n].kind != Kind::End).collect::<Vec<_>>();
    attempt(&without(trace, &rest));
    if here.len() > 1 {
        attempt(&without(trace, &[last]));
    }
    let mut change = |places: &[usize], change: &dyn Fn(&mut Event)| {
        let saved: Trace = places.iter().map(|place| trace[*place].clone()).collect();
        places.iter().for_each(|place| change(&mut trace[*place]));
        attempt(trace);
        places.iter().zip(saved).for_each(|(place, event)| trace[*place] = event);
    };
    let changes: [&dyn Fn(&mut Event); 22] = [
        &|e| e.tid ^= 0x1_0000,
        &|e| e.pid ^= 0x1_0000,
        &|e| (e.tid, e.pid) = (e.tid ^ 0x1_0000, e.pid ^ 0x1_0000),
        &|e| e.layer = e.layer.wrapping_add(1),
        &|e| e.layer = e.layer.saturating_sub(1),
        &|e| e.handle = 0,
        &|e| e.handle = u32::MAX,
        &|e| e.handle = e.handle.wrapping_add(1),
        &|e| e.handle = e.handle.saturating_sub(1),
        &|e| e.context = 0,
        &|e| e.context ^= 0x40,
        &|e| e.a = (-1_i64).cast_unsigned(),
        &|e| e.a = 0,
        &|e| e.a = e.a.wrapping_add(1),
        &|e| e.b ^= 2,
        &|e| e.b = 0x10_0003,
        &|e| e.b ^= 1 << 8,
        &|e| e.c = u32::from(e.c == 0),
        &|e| e.d = u32::from(e.d == 0),
        &|e| e.texts.clear(),
        &|e| e.texts.iter_mut().for_each(|text| text.bytes.push(b'!')),
        &|e| e.texts.iter_mut().for_each(|text| text.bytes.clear()),
    ];
    let halves = [vec![first], vec![last], here.clone()];
    for half in halves.iter().take(if first == last { 1 } else { 3 }) {
        changes.iter().for_each(|one| change(half, one));
    }
    // It becomes another callback or operation.
    if kind == Kind::Enter {
        use Callback::{CanFastZero, ConfigComplete, Load, Open, Pread};
        let others = [Load, Pread, Open, ConfigComplete, CanFastZero];
        others.iter().for_each(|other| change(&here, &|e| e.number = *other as u8));
    }
    if kind == Kind::Request {
        let others = [Operation::Connect, Operation::Hangup, Operation::List];
        others.iter().for_each(|other| change(&here, &|e| e.number = *other as u8));
    }
}

/// The event (with its other half) elsewhere in time: near by, and in front of what begins or ends something.
fn displaced(trace: &mut Trace, place: usize, attempt: &mut Try<'_>) {
    use Callback::{
        AfterFork, Cleanup, Close, ConfigComplete, Finalize, GetReady, Load, Open, Pread, Preconnect, Unload,
    };
    let here = both(trace, place);
    let (first, last) = (here[0], here[here.len() - 1]);
    let ways = [
        Load,
        ConfigComplete,
        GetReady,
        AfterFork,
        Preconnect,
        Open,
        Pread,
        Finalize,
        Close,
        Cleanup,
        Unload,
    ];
    let mark = |event: &Event| {
        let notes = matches!(event.kind, Kind::Request | Kind::Reply | Kind::Signal | Kind::End);
        notes
            || (event.kind == Kind::Enter
                && event.callback().is_some_and(|callback| ways.contains(&callback)))
    };
    // One of each sort, at the outermost layer and at the plugin.
    let mut marks: BTreeMap<(u8, u8, bool), usize> = BTreeMap::new();
    for (place, event) in trace.iter().enumerate().filter(|(_, event)| mark(event)) {
        marks.entry((event.kind as u8, event.number, event.layer == 0)).or_insert(place);
    }
    let near = first.saturating_sub(2)..=(last + 3).min(trace.len());
    let places: BTreeSet<usize> = marks.into_values().chain(near).collect();
    for to in places.into_iter().filter(|to| !(first..=last).contains(to)) {
        attempt(&moved(trace, &here, to));
        attempt(&doubled(trace, &here, to));
        attempt(&moved(trace, &[last], to.max(first + 1)));
    }
    // A call too many, of what ends a run, right before its end.
    let end = trace.iter().rposition(|event| event.kind == Kind::End).unwrap_or(trace.len());
    for callback in [Cleanup, Unload] {
        let mut extended = doubled(trace, &here, end);
        extended[end..end + here.len()].iter_mut().for_each(|event| event.number = callback as u8);
        attempt(&extended);
    }
}

/// The first few of each sort.
fn samples(trace: &[Event]) -> Vec<usize> {
    let mut seen = BTreeMap::new();
    let top = trace.iter().map(|event| event.layer).max();
    let opens = |event: &Event| {
        // A layer in the middle is like the outermost one, save that another filter opens it.
        let tells = event.layer == 0 || Some(event.layer) == top || event.callback() == Some(Callback::Open);
        tells && !matches!(event.kind, Kind::Exit | Kind::Reply | Kind::Run)
    };
    let sort = |event: &Event| (event.kind as u8, event.layer, event.number);
    let mut sample = |event: &Event| {
        let count: &mut usize = seen.entry(sort(event)).or_default();
        *count += 1;
        *count <= CALLS
    };
    trace
        .iter()
        .enumerate()
        .filter(|(_, event)| opens(event) && sample(event))
        .map(|(place, _)| place)
        .collect()
}

struct Recorded {
    trace: Trace,
    /// Rules that it exercises and does not break.
    holds: BTreeSet<&'static str>,
}

/// Tries the operator on every sample of every trace, and takes those rules out of `alive` that a change breaks.
fn kill(
    alive: &mut Vec<&'static Rule>,
    recorded: &mut [Recorded],
    version: Version,
    operator: fn(&mut Trace, usize, &mut Try<'_>),
) {
    let mut tried: BTreeMap<&str, usize> = BTreeMap::new();
    for one in recorded {
        let mut here: Vec<&'static Rule> =
            alive.iter().copied().filter(|rule| one.holds.contains(rule.id)).collect();
        here.retain(|rule| {
            let traces = tried.entry(rule.id).or_default();
            *traces += 1;
            *traces <= TRACES
        });
        for place in samples(&one.trace) {
            operator(&mut one.trace, place, &mut |mutant| {
                if !here.is_empty() {
                    let [killed, _] = judged(mutant, &here, version);
                    here.retain(|rule| !killed.contains(rule.id));
                    alive.retain(|rule| !killed.contains(rule.id));
                }
            });
            if here.is_empty() {
                break;
            }
        }
    }
}

#[test]
fn every_exercised_rule_rejects_a_change_to_a_real_trace() {
    become_subreaper().unwrap();
    let server = Nbdkit::find(None).unwrap();
    let judgeable: Vec<&'static Rule> =
        all().filter(|rule| matches!(rule.check, Checker::Trace(_))).collect();
    let player = Player { keep_events: true, ..Player::new(&server) };
    let scenarios = named::of(Which::Nbdkit).into_iter().filter(|scenario| !scenario.is_race());
    let mut recorded: Vec<Recorded> = scenarios
        .map(|scenario| {
            let trace = player.play(&scenario).unwrap().events;
            let [broken, exercised] = judged(&trace, &judgeable, server.version);
            Recorded { trace, holds: exercised.difference(&broken).copied().collect() }
        })
        .collect();
    // Short ones say the same in less time, but not everything: a short one, a long one, and so on.
    recorded.sort_by_key(|one| one.trace.len());
    let mut long = recorded.split_off(recorded.len() / 2);
    let short = recorded.into_iter();
    let mut recorded = Vec::new();
    for one in short {
        recorded.extend([Some(one), long.pop()].into_iter().flatten());
    }
    recorded.extend(long);
    let elsewhere = |rule: &Rule| BROKEN_ELSEWHERE.iter().any(|(id, _)| *id == rule.id);
    let holds = |rule: &Rule| recorded.iter().any(|one| one.holds.contains(rule.id));
    let mut alive: Vec<_> = judgeable.into_iter().filter(|rule| holds(rule) && !elsewhere(rule)).collect();
    let tried = alive.len();
    kill(&mut alive, &mut recorded, server.version, altered);
    kill(&mut alive, &mut recorded, server.version, displaced);
    let survivors: Vec<&str> = alive.iter().map(|rule| rule.id).collect();
    assert!(tried > 40, "only {tried} rules were tried");
    assert!(survivors.is_empty(), "of {tried} rules nothing breaks {survivors:#?}");
}
