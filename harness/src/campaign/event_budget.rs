//! The events of runs in which something was found, kept for whoever draws them: as many as there is room for.

use std::sync::Arc;

use layers_trace::Event;

/// Events of the runs of one report: about 150 MiB, and some ten thousand calls on the page for each of a few dozen runs.
pub const ROOM: usize = 1 << 20;

/// The events of one run.
pub type Events = Arc<[Event]>;

/// Decides which runs are kept.
#[derive(Debug, Default)]
pub struct EventBudget {
    /// Events that there is room for.
    room: usize,
    /// The run that was kept last: several findings of one run share it.
    last: Option<Events>,
}

impl EventBudget {
    /// There is room for so many events.
    pub fn new(room: usize) -> EventBudget {
        EventBudget { room, last: None }
    }

    /// This run, if there is room for it.
    pub fn keep(&mut self, run: Option<&Events>) -> Option<Events> {
        let run = run.filter(|run| !run.is_empty())?;
        if !self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, run)) {
            self.room = self.room.checked_sub(run.len())?;
            self.last = Some(run.clone());
        }
        self.last.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::reference;

    #[test]
    fn a_run_is_kept_whole_or_not_at_all_and_counts_once() {
        let run = || -> Events { reference().events.into() };
        let (one, other) = (run(), run());
        let mut keeper = EventBudget::new(one.len());
        assert!(keeper.keep(Some(&one)).is_some_and(|kept| Arc::ptr_eq(&kept, &one)));
        assert!(keeper.keep(Some(&one)).is_some(), "it is there already");
        assert!(keeper.keep(Some(&other)).is_none(), "there is no more room");
        assert!(keeper.keep(None).is_none());
    }
}
