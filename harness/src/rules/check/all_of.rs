//! A rule that two checks judge together.

use super::{Check, Now, Report, Said, Watch};
use crate::history::History;

/// It is broken where either of them says so.
pub(in crate::rules) struct Both<A, B> {
    checks: (A, B),
    watches: [Watch; 2],
}

impl<A: Check, B: Check> Both<A, B> {
    pub(in crate::rules) fn new(one: A, other: B) -> Both<A, B> {
        Both { watches: [one.watches(), other.watches()], checks: (one, other) }
    }
}

impl<A: Check, B: Check> Check for Both<A, B> {
    fn watches(&self) -> Watch {
        self.watches.into_iter().fold(Watch::NONE, Watch::and)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let [one, other] = self.watches.map(|watch| watch.wants(now.event.kind, now.event.callback()));
        if one {
            self.checks.0.see(now, report);
        }
        if other {
            self.checks.1.see(now, report);
        }
        None
    }

    fn end(&mut self, history: &History, report: &mut Report<'_>) -> Said {
        self.checks.0.end(history, report);
        self.checks.1.end(history, report)
    }
}
