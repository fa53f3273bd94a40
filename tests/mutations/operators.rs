//! The changes that every rule is tried with: each of them applied to a call or note of a trace.

use std::collections::{BTreeMap, BTreeSet};

use layers_trace::{Breach, Callback, Event, Field, Kind, Operation, Text};

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

/// This open gives NULL, and what comes after goes on with it.
fn in_vain(trace: &[Event], exit: usize) -> Trace {
    let handle = trace[exit].handle;
    let mut trace = trace.to_vec();
    trace[exit].a = 0;
    trace
        .iter_mut()
        .filter(|event| event.handle == handle && !is_note(event))
        .for_each(|event| event.handle = 0);
    trace
}

/// It is the harness's, and says of which client it is where others have a handle.
fn is_note(event: &Event) -> bool {
    matches!(event.kind, Kind::Request | Kind::Reply)
}

/// From this event on nothing is done on its thread, and every client hears that its connection is gone.
fn lost(trace: &[Event], from: usize) -> Trace {
    let tid = trace[from].tid;
    let silent = |place: usize, event: &Event| {
        place >= from && event.tid == tid && matches!(event.kind, Kind::Enter | Kind::Exit | Kind::Probe)
    };
    let gone: Vec<usize> = (0..trace.len()).filter(|place| silent(*place, &trace[*place])).collect();
    let mut rest = without(trace, &gone);
    for reply in rest.iter_mut().skip(from).filter(|event| event.kind == Kind::Reply) {
        (reply.a, reply.c) = ((-1_i64).cast_unsigned(), libc::ENOTCONN.cast_unsigned());
    }
    rest
}

/// Before this reply its client complains.
fn complaining(trace: &[Event], reply: usize, breach: Breach) -> Trace {
    let fresh = trace.iter().map(|event| event.position).max().unwrap_or(0) + 1;
    let (kind, number) = (Kind::Breach, breach as u8);
    let texts = vec![Text { field: Field::Message, bytes: b"what it has got".to_vec(), cut: false }];
    let note = Event { position: fresh, kind, number, texts, ..trace[reply].clone() };
    let mut trace = trace.to_vec();
    trace.insert(reply, note);
    trace
}

/// What is changed in an event, and how.
type Named<'a> = (&'a str, &'a dyn Fn(&mut Event));

/// What becomes of each changed trace, and what is changed, in words that are always the same.
pub(crate) type Try<'a> = dyn FnMut(&str, &[Event]) + 'a;

/// Everything that is tried with this event.
pub(crate) fn every(trace: &mut Trace, place: usize, attempt: &mut Try<'_>) {
    altered(trace, place, attempt);
    displaced(trace, place, attempt);
    reworded(trace, place, attempt);
}

/// A call in other words: a flag more or less, a description that nobody gave, an error that no client can be told.
fn reworded(trace: &mut Trace, place: usize, attempt: &mut Try<'_>) {
    let here = both(trace, place);
    let (first, last) = (here[0], here[here.len() - 1]);
    trace[first].d ^= 1 << 3;
    attempt("d ^ 8 (begin)", trace);
    trace[first].d ^= 1 << 3;
    let saved = trace[last].clone();
    trace[last].texts.retain(|text| text.field != Field::Description);
    let bytes = b"what nobody has said".to_vec();
    trace[last].texts.push(Text { field: Field::Description, bytes, cut: false });
    attempt("another description (end)", trace);
    let failed = ((-1_i64).cast_unsigned(), libc::EBADF.cast_unsigned());
    trace[last] = Event { a: failed.0, d: failed.1, ..saved.clone() };
    attempt("a = -1, d = EBADF (end)", trace);
    trace[last] = saved;
}

/// The event (with its other half) dropped, doubled, in another place in space, or with other arguments.
pub(crate) fn altered(trace: &mut Trace, place: usize, attempt: &mut Try<'_>) {
    let here = both(trace, place);
    let (first, last, kind) = (here[0], here[here.len() - 1], trace[place].kind);
    let on_thread = |n: &usize| trace[*n].tid == trace[first].tid && trace[*n].kind != Kind::Probe;
    let nest: Vec<usize> = (first..=last).filter(on_thread).collect();
    attempt("dropped", &without(trace, &here));
    attempt("dropped with what is inside", &without(trace, &nest));
    attempt("doubled", &doubled(trace, &here, last + 1));
    if kind == Kind::Request {
        for breach in (1..=u8::MAX).map_while(Breach::from_number) {
            attempt(&format!("the client complains: {breach:?}"), &complaining(trace, last, breach));
        }
    }
    // The server exits in the middle of it.
    let rest = (first + 1..trace.len()).filter(|n| trace[*n].kind != Kind::End).collect::<Vec<_>>();
    attempt("the last", &without(trace, &rest));
    if here.len() > 1 {
        attempt("never left", &without(trace, &[last]));
    }
    attempt("the client is lost", &lost(trace, first));
    if trace[place].callback() == Some(Callback::Open) {
        attempt("opened in vain", &in_vain(trace, last));
    }
    let buffers = |other: &&Event| other.kind == Kind::Enter && other.tid != trace[first].tid && other.b != 0;
    let buffer = trace[..first].iter().rfind(buffers).map(|other| other.b);
    let mut change = |what: &str, places: &[usize], change: &dyn Fn(&mut Event)| {
        let saved: Trace = places.iter().map(|place| trace[*place].clone()).collect();
        places.iter().for_each(|place| change(&mut trace[*place]));
        attempt(what, trace);
        places.iter().zip(saved).for_each(|(place, event)| trace[*place] = event);
    };
    let changes: [Named<'_>; 32] = [
        ("another thread", &|e| e.tid ^= 0x1_0000),
        ("another process", &|e| e.pid ^= 0x1_0000),
        ("another thread and process", &|e| (e.tid, e.pid) = (e.tid ^ 0x1_0000, e.pid ^ 0x1_0000)),
        ("layer + 1", &|e| e.layer = e.layer.wrapping_add(1)),
        ("layer - 1", &|e| e.layer = e.layer.saturating_sub(1)),
        ("handle = 0", &|e| e.handle = 0),
        ("handle foreign", &|e| e.handle = u32::MAX),
        ("handle + 1", &|e| e.handle = e.handle.wrapping_add(1)),
        ("handle - 1", &|e| e.handle = e.handle.saturating_sub(1)),
        ("context = 0", &|e| e.context = 0),
        ("context ^ 64", &|e| e.context ^= 0x40),
        ("a = -1", &|e| e.a = (-1_i64).cast_unsigned()),
        ("a = 0", &|e| e.a = 0),
        ("a + 1", &|e| e.a = e.a.wrapping_add(1)),
        ("b ^ 2", &|e| e.b ^= 2),
        ("b = 0x100003", &|e| e.b = 0x10_0003),
        ("b ^ 256", &|e| e.b ^= 1 << 8),
        ("b = 0", &|e| e.b = 0),
        ("c = 1 or 0", &|e| e.c = u32::from(e.c == 0)),
        ("c = 128 MiB", &|e| e.c = 128 << 20),
        ("d = 1 or 0", &|e| e.d = u32::from(e.d == 0)),
        ("a = -1, d = ENOTSUP", &|e| (e.a, e.d) = ((-1_i64).cast_unsigned(), libc::ENOTSUP.cast_unsigned())),
        ("timed out", &|e| (e.a, e.c) = ((-1_i64).cast_unsigned(), libc::ETIMEDOUT.cast_unsigned())),
        ("disconnected", &|e| (e.a, e.c) = ((-1_i64).cast_unsigned(), libc::ENOTCONN.cast_unsigned())),
        ("a = -1, c = EIO", &|e| (e.a, e.c) = ((-1_i64).cast_unsigned(), libc::EIO.cast_unsigned())),
        ("a = -1, c = EOVERFLOW", &|e| {
            (e.a, e.c) = ((-1_i64).cast_unsigned(), libc::EOVERFLOW.cast_unsigned())
        }),
        ("given up", &|e| {
            (e.a, e.c) = ((-1_i64).cast_unsigned(), libc::ETIMEDOUT.cast_unsigned());
            (e.layer, e.time) = (0, e.time + 5_000_000_000);
        }),
        ("a = -1, c = ENXIO", &|e| (e.a, e.c) = ((-1_i64).cast_unsigned(), libc::ENXIO.cast_unsigned())),
        ("a = 0, c = 0", &|e| (e.a, e.c) = (0, 0)),
        ("no texts", &|e| e.texts.clear()),
        ("longer texts", &|e| e.texts.iter_mut().for_each(|text| text.bytes.push(b'!'))),
        ("empty texts", &|e| e.texts.iter_mut().for_each(|text| text.bytes.clear())),
    ];
    let halves = [("begin", vec![first]), ("end", vec![last]), ("both", here.clone())];
    for (half, places) in halves.iter().take(if first == last { 1 } else { 3 }) {
        changes.iter().for_each(|(what, one)| change(&format!("{what} ({half})"), places, one));
    }
    if let Some(buffer) = buffer {
        change("another call's buffer", &here, &|e| e.b = buffer);
    }
    // It becomes another callback or operation.
    if kind == Kind::Enter {
        use Callback::{CanFastZero, Close, ConfigComplete, Extents, Load, Open, Pread, Pwrite};
        for other in [Load, Pread, Pwrite, Extents, Open, Close, ConfigComplete, CanFastZero] {
            change(&format!("becomes {other}"), &here, &|e| e.number = other as u8);
        }
    }
    if kind == Kind::Request {
        for other in [Operation::Connect, Operation::Hangup, Operation::List] {
            change(&format!("becomes {other:?}"), &here, &|e| e.number = other as u8);
        }
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
        // As the lines of the text that it is stored as.
        let at = to + 1;
        attempt(&format!("moved before {at}"), &moved(trace, &here, to));
        attempt(&format!("once more before {at}"), &doubled(trace, &here, to));
        attempt(&format!("left before {at}"), &moved(trace, &[last], to.max(first + 1)));
    }
    // A call too many, of what ends a run, right before its end.
    let end = trace.iter().rposition(|event| event.kind == Kind::End).unwrap_or(trace.len());
    for callback in [Cleanup, Unload] {
        let mut extended = doubled(trace, &here, end);
        extended[end..end + here.len()].iter_mut().for_each(|event| event.number = callback as u8);
        attempt(&format!("once more at the end, as {callback}"), &extended);
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
