//! Checks as functions: what a rule says is one function of an event, and its row names the events.

use super::{Check, Now, Report, Watch};
use crate::history::History;

/// A function that judges each of some events, with what it remembers of earlier ones. It is a type parameter, so that the
/// engine calls it directly.
pub(in crate::rules) struct Remembering<T, S> {
    watch: Watch,
    remembered: T,
    see: S,
    end: fn(&mut T, &History, &mut Report<'_>),
}

/// Judges each of these events; `see` remembers what it needs of them.
pub(in crate::rules) fn remembering<T: Default, S>(watch: Watch, see: S) -> Remembering<T, S>
where
    S: Fn(&mut T, &Now<'_>, &mut Report<'_>),
{
    Remembering { watch, remembered: T::default(), see, end: |_, _, _| {} }
}

impl<T, S> Remembering<T, S> {
    /// Judges the end of the trace, too.
    pub(in crate::rules) fn and_end(self, end: fn(&mut T, &History, &mut Report<'_>)) -> Remembering<T, S> {
        Remembering { end, ..self }
    }
}

impl<T, S: Fn(&mut T, &Now<'_>, &mut Report<'_>)> Check for Remembering<T, S> {
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
pub(in crate::rules) struct At<S> {
    watch: Watch,
    see: S,
    end: fn(&History, &mut Report<'_>),
}

/// Judges each of these events by itself.
pub(in crate::rules) fn at<S: Fn(&Now<'_>, &mut Report<'_>)>(watch: Watch, see: S) -> At<S> {
    At { watch, see, end: |_, _| {} }
}

/// Judges the end of the trace alone.
pub(in crate::rules) fn at_end(end: fn(&History, &mut Report<'_>)) -> impl Check {
    at(Watch::NONE, |_: &Now<'_>, _: &mut Report<'_>| {}).and_end(end)
}

impl<S> At<S> {
    /// Judges the end of the trace, too.
    pub(in crate::rules) fn and_end(self, end: fn(&History, &mut Report<'_>)) -> At<S> {
        At { end, ..self }
    }
}

impl<S: Fn(&Now<'_>, &mut Report<'_>)> Check for At<S> {
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
