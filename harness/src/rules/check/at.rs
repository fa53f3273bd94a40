//! Checks as functions: what a rule says is one function of an event, and its row names the events.

use super::{Check, Now, Report, Watch};
use crate::history::History;

/// A function that judges each of some events, with what it remembers of earlier ones.
pub(in crate::rules) struct Remembering<T> {
    watch: Watch,
    remembered: T,
    see: fn(&mut T, &Now<'_>, &mut Report<'_>),
    end: fn(&mut T, &History, &mut Report<'_>),
}

/// Judges each of these events; `see` remembers what it needs of them.
pub(in crate::rules) fn remembering<T: Default>(
    watch: Watch,
    see: fn(&mut T, &Now<'_>, &mut Report<'_>),
) -> Remembering<T> {
    Remembering { watch, remembered: T::default(), see, end: |_, _, _| {} }
}

impl<T> Remembering<T> {
    /// Judges the end of the trace, too.
    pub(in crate::rules) fn and_end(self, end: fn(&mut T, &History, &mut Report<'_>)) -> Remembering<T> {
        Remembering { end, ..self }
    }
}

impl<T> Check for Remembering<T> {
    fn watches(&self) -> Watch {
        self.watch
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        (self.see)(&mut self.remembered, now, report);
    }

    fn end(&mut self, history: &History, report: &mut Report<'_>) {
        (self.end)(&mut self.remembered, history, report);
    }
}

/// A function that remembers nothing: what it needs to know is in the history.
pub(in crate::rules) struct At {
    watch: Watch,
    see: fn(&Now<'_>, &mut Report<'_>),
    end: fn(&History, &mut Report<'_>),
}

/// Judges each of these events by itself.
pub(in crate::rules) fn at(watch: Watch, see: fn(&Now<'_>, &mut Report<'_>)) -> At {
    At { watch, see, end: |_, _| {} }
}

/// Judges the end of the trace alone.
pub(in crate::rules) fn at_end(end: fn(&History, &mut Report<'_>)) -> At {
    at(Watch::NONE, |_, _| {}).and_end(end)
}

impl At {
    /// Judges the end of the trace, too.
    pub(in crate::rules) fn and_end(self, end: fn(&History, &mut Report<'_>)) -> At {
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
