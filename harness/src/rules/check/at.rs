//! Checks that remember nothing themselves: what they need to know is in the history.

use super::{Check, Now, Report, Watch};
use crate::history::History;

/// Judges an event by what is known just before it.
type See = fn(&Now<'_>, &mut Report<'_>);
/// Judges what is left at the end of a trace.
type End = fn(&History, &mut Report<'_>);

/// A function that judges each of some events by itself.
pub(in crate::rules) struct At {
    watch: Watch,
    see: See,
    end: End,
}

/// Judges each of these events.
pub(in crate::rules) fn at(watch: Watch, see: See) -> At {
    At { watch, see, end: |_, _| {} }
}

/// Judges the end of the trace alone.
pub(in crate::rules) fn at_end(end: End) -> At {
    at(Watch::NONE, |_, _| {}).and_end(end)
}

impl At {
    /// Judges the end of the trace, too.
    pub(in crate::rules) fn and_end(self, end: End) -> At {
        At { end, ..self }
    }
}

impl Check for At {
    fn watches(&self) -> Watch {
        self.watch
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        (self.see)(now, report);
    }

    fn end(&mut self, history: &History, report: &mut Report<'_>) {
        (self.end)(history, report);
    }
}
