//! How the server ended.

use layers_trace::Event;

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

    /// Returns the wait status that [`End::of`] reads, as the event of the end has it.
    pub(crate) fn status(self) -> u64 {
        let status = match self {
            End::Exited(code) => code << 8,
            End::Killed(signal) => signal,
        };
        status.cast_unsigned().into()
    }
}
