//! Deadlines: every wait has one, and none is a sleep.

use std::time::{Duration, Instant};

/// A point in time by which something must have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// From now.
    pub fn after(duration: Duration) -> Deadline {
        Deadline(Instant::now() + duration)
    }

    /// Time that is left; zero when it has passed.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// It has passed.
    pub fn passed(self) -> bool {
        self.left().is_zero()
    }

    /// Time that is left, in milliseconds rounded up, for poll(2).
    pub fn poll_timeout(self) -> i32 {
        i32::try_from(self.left().as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
    }
}
