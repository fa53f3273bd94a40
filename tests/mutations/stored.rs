//! Recorded traces as text: an event a line, in which only what is not zero is written. For people to read, and for the traces
//! that are stored beside the tests.
//!
//! The position of an event is its line, from 0. Threads and processes are numbered in order of appearance; times, in
//! nanoseconds since the first event, are those of notes alone.

use std::collections::HashMap;
use std::fmt::Write as _;

use layers_trace::{Below, Callback, Event, Field, Kind, Operation, Text};

use super::recorded::Trace;

const KINDS: &[(Kind, &str)] = &[
    (Kind::Enter, "enter"),
    (Kind::Exit, "exit"),
    (Kind::Layer, "layer"),
    (Kind::Probe, "probe"),
    (Kind::Request, "request"),
    (Kind::Reply, "reply"),
    (Kind::Run, "run"),
    (Kind::Signal, "signal"),
    (Kind::End, "end"),
    (Kind::Ask, "ask"),
    (Kind::Answer, "answer"),
    (Kind::Breach, "breach"),
];

/// Name of what happens, for the reader; the number stands before it.
fn name(event: &Event) -> String {
    let known = event.callback().map(Callback::name).map(str::to_owned);
    let known = known.or_else(|| event.operation().map(|operation: Operation| format!("{operation:?}")));
    let known = known.or_else(|| event.breach().map(|breach| format!("{breach:?}")));
    let known = known.or_else(|| event.probe().map(|probe| format!("{probe:?}")));
    let below = event.below().map(|below| match below {
        Below::Next(callback) => callback.name().to_owned(),
        Below::Context(function) => format!("{function:?}"),
    });
    known.or(below).unwrap_or_default()
}

/// The trace as text.
pub(crate) fn written(trace: &[Event]) -> String {
    let places: HashMap<u32, usize> =
        trace.iter().enumerate().map(|(place, event)| (event.position, place)).collect();
    let mut numbers: HashMap<u32, usize> = HashMap::new();
    let mut text = String::new();
    let begin = trace.first().map_or(0, |event| event.time);
    for event in trace {
        let mut number = |id: u32| {
            let next = numbers.len() + 1;
            if id == 0 { 0 } else { *numbers.entry(id).or_insert(next) }
        };
        let (pid, tid) = (number(event.pid), number(event.tid));
        let kind = KINDS.iter().find(|(kind, _)| *kind == event.kind).unwrap().1;
        write!(text, "{kind} L{} {} {}", event.layer, event.number, name(event)).unwrap();
        let call = places.get(&event.call).map_or(u64::from(u32::MAX), |place| *place as u64);
        let is_call = matches!(event.kind, Kind::Enter | Kind::Exit);
        let own = places[&event.position] as u64 == call;
        let fields = [
            ("pid", pid as u64),
            ("tid", tid as u64),
            ("call", if own { 0 } else { call }),
            ("handle", u64::from(event.handle)),
            ("a", event.a),
            ("c", u64::from(event.c)),
            ("d", u64::from(event.d)),
            ("time", if is_call { 0 } else { event.time.saturating_sub(begin) }),
        ];
        for (field, value) in fields.into_iter().filter(|(_, value)| *value != 0) {
            write!(text, " {field}={value}").unwrap();
        }
        for (field, value) in [("b", event.b), ("context", event.context)] {
            if value != 0 {
                write!(text, " {field}={value:#x}").unwrap();
            }
        }
        for one in &event.texts {
            let cut = if one.cut { "!" } else { "" };
            write!(text, " {}{cut}\"{}\"", one.field as u8, one.bytes.escape_ascii()).unwrap();
        }
        text.push('\n');
    }
    text
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        out.push(match (byte, if byte == b'\\' { bytes.next() } else { None }) {
            (_, Some(b'n')) => b'\n',
            (_, Some(b't')) => b'\t',
            (_, Some(b'r')) => b'\r',
            (_, Some(b'x')) => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            (_, Some(other)) => other,
            (byte, None) => byte,
        });
    }
    out
}

/// The texts at the end of a line: `1"key" 2"value"`.
fn texts(mut rest: &str) -> Vec<Text> {
    let mut texts = Vec::new();
    while let Some((head, tail)) = rest.split_once('"') {
        let escaped =
            |end: usize| tail[..end].bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
        let end = tail.match_indices('"').map(|(end, _)| end).find(|end| !escaped(*end)).unwrap();
        let head = head.trim();
        let field = Field::from_number(head.trim_end_matches('!').parse().unwrap()).unwrap();
        texts.push(Text { field, bytes: unescaped(&tail[..end]), cut: head.ends_with('!') });
        rest = &tail[end + 1..];
    }
    texts
}

fn value(text: &str) -> u64 {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
        None => text.parse().unwrap(),
    }
}

fn event(position: u32, line: &str) -> Event {
    let begins = line.find('"').map_or(line.len(), |quote| line[..quote].rfind(' ').unwrap());
    let (words, rest) = line.split_at(begins);
    let mut words = words.split(' ').filter(|word| !word.is_empty());
    let kind = words.next().unwrap();
    let kind = KINDS.iter().find(|(_, name)| *name == kind).unwrap().0;
    let layer = words.next().unwrap().trim_start_matches('L').parse().unwrap();
    let number = words.next().unwrap().parse().unwrap();
    let fields: HashMap<&str, u64> =
        words.filter_map(|word| word.split_once('=')).map(|(field, text)| (field, value(text))).collect();
    let field = |name: &str| fields.get(name).copied().unwrap_or_default();
    let opens = matches!(kind, Kind::Enter | Kind::Request | Kind::Ask);
    Event {
        position,
        kind,
        layer,
        number,
        tid: field("tid") as u32,
        pid: field("pid") as u32,
        call: if opens { position } else { field("call") as u32 },
        handle: field("handle") as u32,
        time: field("time"),
        context: field("context"),
        a: field("a"),
        b: field("b"),
        c: field("c") as u32,
        d: field("d") as u32,
        texts: texts(rest),
    }
}

/// The trace that this text says.
pub(crate) fn read(text: &str) -> Trace {
    text.lines().enumerate().map(|(place, line)| event(place as u32, line)).collect()
}
