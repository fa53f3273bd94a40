//! How the server ended.

use layers_trace::{Event, Kind};

/// How the server ended, as wait(2) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Exit status.
    Exited(i32),
    /// Killed by this signal.
    Killed(i32),
}

impl End {
    /// As this event has it, which must be one of the server's end.
    pub fn of(event: &Event) -> End {
        let status = event.a as i32;
        match status & 0x7f {
            0 => End::Exited(status >> 8 & 0xff),
            signal => End::Killed(signal),
        }
    }

    /// Returns the event that tells of it, at this position.
    pub(crate) fn event(self, position: u64) -> Event {
        Event {
            position: u32::try_from(position).unwrap_or(u32::MAX),
            kind: Kind::End,
            layer: 0,
            number: 0,
            tid: 0,
            pid: 0,
            call: 0,
            handle: 0,
            time: 0,
            context: 0,
            a: self.status(),
            b: 0,
            c: 0,
            d: 0,
            texts: Vec::new(),
        }
    }

    /// Returns the wait status that [`End::of`] reads, as the event of the end has it.
    pub(crate) fn status(self) -> u64 {
        let status = match self {
            End::Exited(code) => code << 8,
            End::Killed(signal) => signal,
        };
        status.cast_unsigned().into()
    }
}
