//! How a server has ended that is nobody's child here: what its own process has noted of that.

use std::fs::File;
use std::io;

use layers_trace::header::HEADER_SIZE;
use layers_trace::record::{RECORD_SIZE, Record};
use layers_trace::writer::record;
use layers_trace::{Event, Kind, Probe, Reader, Writer};

use crate::history::End;
use crate::run::Run;
use crate::server::watched::is_over;

/// What has become of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    /// By exit(3), with this status.
    Exited(i32),
    /// By this signal, which it has made happen itself: a crash.
    Crashed(i32),
    /// Otherwise: by a signal for which it had no handler (SIGKILL), or by _exit(2).
    Unseen,
    /// It still runs.
    Running,
}

/// Finds out what has become of the server that writes to this trace. Where it has ended, the trace says so afterwards, and
/// its file is as long as it is full.
pub(super) fn settle(file: &File) -> io::Result<Ended> {
    if !is_over(file) {
        return Ok(Ended::Running);
    }
    let writer = Writer::resume(file)?;
    let reader = Reader::of(&writer);
    let events = || reader.events().flatten();
    if let Some(end) = events().find(|event| event.kind == Kind::End) {
        return Ok(of(End::of(&end)));
    }
    let end = noted(events());
    if let Some(end) = end {
        writer.note(Record { a: end.status(), ..record(Kind::End, 0, 0) }, &[]);
    }
    let records = writer.cursor().min(writer.capacity());
    drop(writer);
    file.set_len(HEADER_SIZE as u64 + records * RECORD_SIZE as u64)?;
    Ok(end.map_or(Ended::Unseen, of))
}

fn of(end: End) -> Ended {
    match end {
        End::Exited(status) => Ended::Exited(status),
        End::Killed(signal) => Ended::Crashed(signal),
    }
}

/// What the process that served has noted of its own end. Each process of the server notes its own: that which has forked
/// the one that serves, and that which runs the command of `--run`, end by themselves.
fn noted(events: impl Iterator<Item = Event>) -> Option<End> {
    let (mut first, mut last, mut forks) = (None, None, false);
    let mut ends: Vec<(u32, End)> = Vec::new();
    for event in events {
        match event.kind {
            Kind::Run => {
                first = Some(event.pid);
                forks = Run::of(&event).is_some_and(|run| run.start.forks());
            }
            Kind::Enter | Kind::Exit => last = Some(event.pid),
            Kind::Probe if event.number == Probe::Ended as u8 => {
                let number = i32::try_from(event.b).unwrap_or(i32::MAX);
                let end = if event.a == 1 { End::Exited(number) } else { End::Killed(number) };
                ends.push((event.pid, end));
            }
            _ => {}
        }
    }
    let of = |pid| ends.iter().rev().find(|(of, _)| Some(*of) == pid).map(|(_, end)| *end);
    let served = last.filter(|pid| Some(*pid) != first);
    if served.is_some() || !forks {
        return of(served.or(first));
    }
    // Nothing was called in the process that serves, if there ever was one.
    let other = ends.iter().rev().find(|(pid, _)| Some(*pid) != first).map(|(_, end)| *end);
    other.or_else(|| of(first).filter(|end| *end != End::Exited(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: &str) -> Vec<Event> {
        let found = r#"{"found":"nbdkit","version":"1.32.5","pid":1,"directory":"/","activated":false}"#;
        let words = format!("nbdkit\0{start}\0null\0");
        let text = |field, bytes: &str| layers_trace::Text { field, bytes: bytes.into(), cut: false };
        let texts = vec![text(layers_trace::Field::Json, found), text(layers_trace::Field::Bytes, &words)];
        vec![Event { texts, ..event(Kind::Run, 1) }]
    }

    fn event(kind: Kind, pid: u32) -> Event {
        Event {
            position: 0,
            kind,
            layer: 0,
            number: 0,
            tid: pid,
            pid,
            call: 0,
            handle: 0,
            time: 0,
            context: 0,
            a: 0,
            b: 0,
            c: 0,
            d: 0,
            texts: Vec::new(),
        }
    }

    fn exits(pid: u32, status: u64) -> Event {
        Event { number: Probe::Ended as u8, a: 1, b: status, ..event(Kind::Probe, pid) }
    }

    #[test]
    fn the_end_is_that_of_the_process_that_serves() {
        let end = |start: &str, events: &[Event]| {
            let mut all = run(start);
            all.extend(events.iter().cloned());
            noted(all.into_iter())
        };
        let (before, serves) = (event(Kind::Enter, 1), event(Kind::Enter, 2));
        assert_eq!(end("-f", &[before.clone(), exits(1, 0)]), Some(End::Exited(0)));
        assert_eq!(end("-f", std::slice::from_ref(&before)), None, "SIGKILL");
        let forked = [before.clone(), exits(1, 0)];
        assert_eq!(end("-v", &forked), None, "the daemon was killed");
        assert_eq!(end("-v", &[&forked[..], &[exits(2, 0)]].concat()), Some(End::Exited(0)));
        assert_eq!(end("-v", &[&forked[..], std::slice::from_ref(&serves)].concat()), None);
        assert_eq!(end("-v", &[&forked[..], &[serves.clone(), exits(2, 3)]].concat()), Some(End::Exited(3)));
        assert_eq!(end("-v", &[before, exits(1, 1)]), Some(End::Exited(1)), "it has not started");
        let dies = Event { a: 0, b: 11, ..exits(2, 0) };
        assert_eq!(end("-v", &[&forked[..], &[serves, dies]].concat()), Some(End::Killed(11)));
    }
}
