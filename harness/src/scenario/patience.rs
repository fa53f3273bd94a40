//! How long the harness waits for what it has already waited for in vain.
//!
//! A server that never closes a handle, or never answers a read, hangs in every scenario that comes to it. The first hangs
//! are waited for in full, so that each is beyond doubt; after that the same wait is cut short, and what would be said of
//! it is not a hang but that it was not waited for again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::deadline::Deadline;

/// So many waits for the same are in vain in full length, whoever made them.
const IN_FULL: u32 = 2;
/// So many are in vain, for whatever it is, before no wait is made in full any more: the server hangs, beyond doubt.
const IN_ALL: u32 = 4;
/// So many for the same are in vain before the wait becomes as short as it gets.
const IN_PART: u32 = 3;
/// The waits in between: a hundred times what a server takes that does not hang.
const PART: Duration = Duration::from_millis(1500);
/// The first wait for something else, on a server that hangs beyond doubt.
const OTHER: Duration = Duration::from_secs(3);
/// What a wait for the same takes from then on.
const SHORT: Duration = Duration::from_millis(50);

/// What was waited for in vain so far, by its name. All players of a run share one.
#[derive(Debug, Default)]
pub struct Patience {
    in_vain: Mutex<BTreeMap<String, u32>>,
}

impl Patience {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.in_vain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A wait for this was in vain.
    pub fn lose(&self, wait: &str) {
        *self.counts().entry(wait.to_owned()).or_default() += 1;
    }

    /// How long a wait for this may take, if there is a bound to it.
    fn bound(&self, wait: &str) -> Option<Duration> {
        let counts = self.counts();
        let same = counts.get(wait).copied().unwrap_or(0);
        let all: u32 = counts.iter().filter(|(one, _)| *one != DEPARTURE).map(|(_, times)| times).sum();
        match (same, all) {
            (IN_PART.., _) | (IN_FULL.., IN_ALL..) => Some(SHORT),
            (IN_FULL.., _) | (1, IN_ALL..) => Some(PART),
            (0, IN_ALL..) => Some(OTHER),
            _ => None,
        }
    }

    /// When a wait for this ends that would else end at `deadline`.
    pub fn until(&self, wait: &str, deadline: Deadline) -> Deadline {
        self.bound(wait).map_or(deadline, |bound| deadline.min(Deadline::after(bound)))
    }

    /// A wait for this is so short that it proves nothing.
    pub fn is_spent(&self, wait: &str) -> bool {
        self.bound(wait) == Some(SHORT)
    }
}

/// What is waited for when a run has gone wrong.
pub(super) const DEPARTURE: &str = "it does not end when its run has gone wrong";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_becomes_shorter_the_more_often_it_was_in_vain() {
        let (patience, whole) = (Patience::default(), Deadline::after(Duration::from_secs(600)));
        assert_eq!(patience.until("closes", whole), whole);
        patience.lose("closes");
        assert_eq!(patience.until("closes", whole), whole);
        patience.lose("closes");
        let part = patience.until("closes", whole).left();
        assert!(part <= PART && part > SHORT && !patience.is_spent("closes"), "{part:?}");
        // Of another wait nothing is known by that.
        assert_eq!(patience.until("end", whole), whole);
        patience.lose("closes");
        assert!(patience.until("closes", whole).left() <= SHORT && patience.is_spent("closes"));
        // A server that has hung so often is not waited for in full again, whatever it is that is waited for.
        assert_eq!(patience.until("end", whole), whole);
        patience.lose("answers");
        assert!(patience.until("end", whole).left() <= OTHER && !patience.is_spent("end"));
        patience.lose("end");
        assert!(patience.until("end", whole).left() <= PART && !patience.is_spent("end"));
        // No wait becomes longer.
        let soon = Deadline::after(Duration::ZERO);
        assert_eq!(patience.until("closes", soon), soon);
    }
}
