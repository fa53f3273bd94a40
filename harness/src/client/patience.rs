//! How long a client waits for an answer of a server that has nothing to do.
//!
//! A request is waited for until the deadline of its client, which is far away: callbacks may sleep, and machines be busy.
//! But a server in which no callback is running, and of which nothing new is recorded for seconds, will not answer.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use layers_trace::{Kind, Writer};

/// That long nothing at all happens.
const QUIET: Duration = Duration::from_secs(4);
/// So often somebody looks.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// Looks at the trace while a client waits.
#[derive(Debug)]
pub(super) struct Patience {
    trace: Arc<Writer>,
    /// The end of the trace, and since when it is there.
    seen: Cell<(u64, Instant)>,
}

impl Patience {
    pub(super) fn new(trace: Arc<Writer>) -> Patience {
        let seen = Cell::new((trace.cursor(), Instant::now()));
        Patience { trace, seen }
    }

    /// The client begins to wait.
    pub(super) fn begin(&self) {
        self.seen.set((self.trace.cursor(), Instant::now()));
    }

    /// Something new was recorded a moment ago.
    pub(super) fn sees_work(&self) -> bool {
        let (cursor, since) = self.seen.get();
        self.trace.cursor() != cursor || since.elapsed() < 2 * LOOK
    }

    /// Nothing has happened for long, and nothing is going on.
    pub(super) fn is_over(&self) -> bool {
        let (cursor, since) = self.seen.get();
        let now = self.trace.cursor();
        if now != cursor {
            self.seen.set((now, Instant::now()));
            return false;
        }
        since.elapsed() >= QUIET && !self.is_something_running()
    }

    /// A callback has been entered and not left; or the trace does not tell.
    fn is_something_running(&self) -> bool {
        let end = self.trace.cursor();
        if end > self.trace.capacity() {
            return true;
        }
        let of = |kind: Kind| move |found: &u8| *found == kind as u8;
        let kinds: Vec<u8> =
            (0..end).filter_map(|place| self.trace.published(place)).map(|record| record.kind).collect();
        let count = |kind| kinds.iter().filter(|found| of(kind)(found)).count();
        count(Kind::Enter) != count(Kind::Exit)
    }
}
