//! Checks as functions: what a rule says is one function of an event, and its row names the events.

use super::{Check, Now, Report, Said, Watch};
use crate::history::History;

/// A function that judges each of some events, with what it remembers of earlier ones. It is a type parameter, so that the
/// engine calls it directly.
pub(in crate::rules) struct Remembering<T, S> {
    watch: Watch,
    remembered: T,
    see: S,
    minds_data: fn(&T, &History) -> bool,
    end: fn(&mut T, &History, &mut Report<'_>) -> Said,
}

/// Judges each of these events; `see` remembers what it needs of them.
pub(in crate::rules) fn remembering<T: Default, S>(watch: Watch, see: S) -> Remembering<T, S>
where
    S: Fn(&mut T, &Now<'_>, &mut Report<'_>) -> Said,
{
    Remembering { watch, remembered: T::default(), see, minds_data: |_, _| true, end: |_, _, _| None }
}

impl<T, S> Remembering<T, S> {
    /// Judges the end of the trace, too.
    pub(in crate::rules) fn and_end(
        self,
        end: fn(&mut T, &History, &mut Report<'_>) -> Said,
    ) -> Remembering<T, S> {
        Remembering { end, ..self }
    }

    /// Sees data calls only while this holds of what it remembers and of the history; no data call makes it so.
    pub(in crate::rules) fn minding_data_if(self, minds_data: fn(&T, &History) -> bool) -> Remembering<T, S> {
        Remembering { minds_data, ..self }
    }
}

impl<T, S: Fn(&mut T, &Now<'_>, &mut Report<'_>) -> Said> Check for Remembering<T, S> {
    fn watches(&self) -> Watch {
        self.watch
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        (self.see)(&mut self.remembered, now, report)
    }

    fn minds_data(&self, history: &History) -> bool {
        (self.minds_data)(&self.remembered, history)
    }

    fn end(&mut self, history: &History, report: &mut Report<'_>) -> Said {
        (self.end)(&mut self.remembered, history, report)
    }
}

/// A function that remembers nothing: what it needs to know is in the history.
pub(in crate::rules) struct At<S, E, M = Always> {
    watch: Watch,
    see: S,
    minds_data: M,
    end: E,
}

/// Every data call matters.
type Always = fn(&History) -> bool;

/// Nothing is said of the end.
type NoEnd = fn(&History, &mut Report<'_>) -> Said;

/// Judges each of these events by itself.
pub(in crate::rules) fn at<S: Fn(&Now<'_>, &mut Report<'_>) -> Said>(watch: Watch, see: S) -> At<S, NoEnd> {
    At { watch, see, minds_data: |_| true, end: |_, _| None }
}

/// Judges the end of the trace alone.
pub(in crate::rules) fn at_end(end: impl Fn(&History, &mut Report<'_>) -> Said) -> impl Check {
    at(Watch::NONE, |_: &Now<'_>, _: &mut Report<'_>| None).and_end(end)
}

impl<S> At<S, NoEnd> {
    /// Judges the end of the trace, too.
    pub(in crate::rules) fn and_end<E: Fn(&History, &mut Report<'_>) -> Said>(self, end: E) -> At<S, E> {
        At { watch: self.watch, see: self.see, minds_data: self.minds_data, end }
    }
}

impl<S, E> At<S, E> {
    /// Sees data calls only while this holds of the history; no data call makes it so.
    pub(in crate::rules) fn minding_data_if<M: Fn(&History) -> bool>(self, minds_data: M) -> At<S, E, M> {
        At { watch: self.watch, see: self.see, minds_data, end: self.end }
    }
}

impl<S, E, M> Check for At<S, E, M>
where
    S: Fn(&Now<'_>, &mut Report<'_>) -> Said,
    E: Fn(&History, &mut Report<'_>) -> Said,
    M: Fn(&History) -> bool,
{
    fn watches(&self) -> Watch {
        self.watch
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        (self.see)(now, report)
    }

    fn minds_data(&self, history: &History) -> bool {
        (self.minds_data)(history)
    }

    fn end(&mut self, history: &History, report: &mut Report<'_>) -> Said {
        (self.end)(history, report)
    }
}
