//! How a server ends that is nobody's child here: what its own processes have noted of that.

use layers_trace::{Event, Kind, Probe};

use super::end::End;
use crate::run::Run;

/// What the processes of a server note of their ends, and which of them serves. Each notes its own: that which has forked the one
/// that serves, and that which runs the command of `--run`, end by themselves.
#[derive(Debug, Default)]
pub(super) struct NotedEnds {
    first: Option<u32>,
    last: Option<u32>,
    forks: bool,
    /// The last end of each process.
    ends: Vec<(u32, End)>,
}

/// Processes of one server of which the ends are remembered: it forks twice, and its plugin may fork as it likes.
const MOST_PROCESSES: usize = 64;

impl NotedEnds {
    pub(super) fn see(&mut self, event: &Event) {
        match event.kind {
            Kind::Run => {
                self.first = Some(event.pid);
                self.forks = Run::of(event).is_some_and(|run| run.start.forks());
            }
            Kind::Enter | Kind::Exit => self.last = Some(event.pid),
            Kind::Probe if event.number == Probe::Ended as u8 => {
                let number = i32::try_from(event.b).unwrap_or(i32::MAX);
                let end = if event.a == 1 { End::Exited(number) } else { End::Killed(number) };
                let is_kept = |pid| Some(pid) == self.first || Some(pid) == self.last;
                self.ends.retain(|(pid, _)| *pid != event.pid);
                if self.ends.len() >= MOST_PROCESSES
                    && let Some(oldest) = self.ends.iter().position(|(pid, _)| !is_kept(*pid))
                {
                    self.ends.remove(oldest);
                }
                self.ends.push((event.pid, end));
            }
            _ => {}
        }
    }

    /// The end of the process that serves, where it was noted.
    pub(super) fn noted(&self) -> Option<End> {
        let NotedEnds { first, last, forks, ends } = self;
        let of = |pid: Option<u32>| ends.iter().rev().find(|(of, _)| Some(*of) == pid).map(|(_, end)| *end);
        let served = last.filter(|pid| Some(*pid) != *first);
        if served.is_some() || !forks {
            return of(served.or(*first));
        }
        // Nothing was called in the process that serves, if there ever was one.
        let other = ends.iter().rev().find(|(pid, _)| Some(*pid) != *first).map(|(_, end)| *end);
        other.or_else(|| of(*first).filter(|end| *end != End::Exited(0)))
    }
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
            let mut ends = NotedEnds::default();
            all.iter().for_each(|event| ends.see(event));
            ends.noted()
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
