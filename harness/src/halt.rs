//! What ends a run before everything is played: its time, or a signal.

use std::time::Duration;

use crate::deadline::Deadline;
use crate::server::interrupt::told_to_stop;

/// Why not everything was played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The run had so much time, and it is over.
    Time(Duration),
    /// The process was told to stop by this signal.
    Signal(i32),
}

impl Halt {
    /// Completes "not played: …".
    pub fn reason(self) -> String {
        match self {
            Halt::Time(limit) => format!("--time {} was over", limit.as_secs()),
            Halt::Signal(libc::SIGINT) => "the run was interrupted".to_owned(),
            Halt::Signal(_) => "the run was told to stop".to_owned(),
        }
    }
}

/// Knows when a run must end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limit {
    until: Option<(Duration, Deadline)>,
}

impl Limit {
    /// So much time from now on.
    pub fn new(time: Option<Duration>) -> Limit {
        Limit { until: time.map(|time| (time, Deadline::after(time))) }
    }

    /// Nothing more is to be played, for this reason.
    pub fn reached(&self) -> Option<Halt> {
        let time = self.until.filter(|(_, deadline)| deadline.passed());
        told_to_stop().map(Halt::Signal).or(time.map(|(time, _)| Halt::Time(time)))
    }

    /// What one run may take that may take `timeout`.
    pub fn of(&self, timeout: Duration) -> Duration {
        self.until.map_or(timeout, |(_, deadline)| timeout.min(deadline.left()))
    }
}
