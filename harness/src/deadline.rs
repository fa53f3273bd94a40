//! Deadlines: every wait has one, and none is a sleep.

use std::time::{Duration, Instant};

use rustix::event::Timespec;

/// A point in time by which something must have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

/// The farthest away that a deadline can be: a century, which a clock of 64 bits holds and nobody waits for.
const FARTHEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl Deadline {
    /// Returns the deadline that is so far from now; whatever is farther than a century counts as a century.
    pub fn after(duration: Duration) -> Deadline {
        let now = Instant::now();
        Deadline(now.checked_add(duration.min(FARTHEST)).unwrap_or(now))
    }

    /// Time that is left; zero when it has passed.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// It has passed.
    pub fn passed(self) -> bool {
        self.left().is_zero()
    }
}

/// Returns a duration for the system calls that wait, at most a century.
pub fn timespec(time: Duration) -> Timespec {
    let time = time.min(FARTHEST);
    Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_duration_is_a_deadline() {
        let deadline = Deadline::after(Duration::MAX);
        assert!(!deadline.passed());
        assert!(timespec(deadline.left()).tv_sec > 0);
        assert!(timespec(Duration::MAX).tv_sec > 0);
    }
}
