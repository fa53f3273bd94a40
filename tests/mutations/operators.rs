//! The changes that every rule is tried with: each of them applied to a call or note of a trace.

use std::collections::{BTreeMap, BTreeSet};

use layers_trace::{Callback, Event, Kind, Operation};

use super::recorded::Trace;

/// Calls of one layer, callback and kind that are tried in one trace.
const CALLS: usize = 1;

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
pub(crate) type Try<'a> = dyn FnMut(&[Event]) + 'a;

/// The event (with its other half) dropped, doubled, in another place in space, or with other arguments.
pub(crate) fn altered(trace: &mut Trace, place: usize, attempt: &mut Try<'_>) {
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
pub(crate) fn displaced(trace: &mut Trace, place: usize, attempt: &mut Try<'_>) {
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
pub(crate) fn samples(trace: &[Event]) -> Vec<usize> {
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
