//! Something that the server has been asked for, and the calls that it has made of it.

use layers_trace::{Callback, Event, Kind};

use crate::history::{Handle, Inside, Made, MadeList, Way, callback_of, present};
use crate::rules::check::{Now, Report, Said, Watch, exits, given, unless};

/// A client's request, or a data call of a filter that passes on what it gets, at the moment when it is over.
pub(in crate::rules) struct Task<'a> {
    /// What was asked for: the callback that serves it where nothing is emulated.
    pub(in crate::rules) callback: Callback,
    /// First byte.
    pub(in crate::rules) offset: u64,
    /// Bytes.
    pub(in crate::rules) count: u64,
    /// NBDKIT_FLAG_*.
    pub(in crate::rules) flags: u32,
    /// The record of the request, or the enter of the filter's call.
    pub(in crate::rules) asked: &'a Event,
    /// The record of the answer, or the exit.
    pub(in crate::rules) answer: &'a Event,
    /// It is a filter's.
    pub(in crate::rules) of_filter: bool,
    /// The handle that was asked: the outermost one, or the one below the filter's.
    pub(in crate::rules) from: &'a Handle,
    made: &'a MadeList,
}

/// The events at which a task of these callbacks is over.
pub(in crate::rules) fn watches(callbacks: &[Callback]) -> Watch {
    exits(callbacks).notes(&[Kind::Reply])
}

impl<'a> Task<'a> {
    /// The task of this callback that is over with this event; none where it is not certain what was asked or made.
    pub(in crate::rules) fn of(callback: Callback, now: &Now<'a>) -> Option<Task<'a>> {
        Task::ending(now).filter(|task| task.callback == callback)
    }

    /// The same, of whatever callback.
    pub(in crate::rules) fn ending(now: &Now<'a>) -> Option<Task<'a>> {
        let task = if now.event.kind == Kind::Reply { Task::of_client(now) } else { Task::of_filter(now) };
        task.filter(|task| task.made.is_whole())
    }

    fn of_client(now: &Now<'a>) -> Option<Task<'a>> {
        let client = now.client()?;
        let request = client.waits_for(now.event.call)?;
        let callback = callback_of(request.operation)?;
        unless(client.is_ambiguous(request))?;
        Some(Task {
            callback,
            offset: request.event.offset(),
            count: request.event.count().into(),
            flags: request.flags(),
            asked: &request.event,
            answer: now.event,
            of_filter: false,
            from: now.history.top(client.connection?)?,
            made: &request.made,
        })
    }

    /// Of somebody's filter nobody knows what it asks for below.
    fn of_filter(now: &Now<'a>) -> Option<Task<'a>> {
        let (call, handle) = now.call.zip(now.handle).filter(|(call, _)| call.layer() > 0)?;
        let passes_on = now.history.layer(call.layer())?.target.is_none();
        given(passes_on && now.history.is_servers(handle))?;
        Some(Task {
            callback: call.callback,
            offset: call.enter.offset(),
            count: call.enter.count().into(),
            flags: call.enter.flags(),
            asked: &call.enter,
            answer: now.event,
            of_filter: true,
            from: now.history.below(handle)?,
            made: &call.made,
        })
    }

    /// How the server has to serve it.
    pub(in crate::rules) fn way(&self, now: &Now<'a>) -> Option<Way<'a>> {
        now.history.way(self.from, self.callback)
    }

    /// The calls made for it, in order.
    pub(in crate::rules) fn made(&self) -> &'a [Made] {
        self.made.calls()
    }

    /// The calls of these callbacks made for it.
    pub(in crate::rules) fn made_of(&self, callback: Callback) -> impl Iterator<Item = &'a Made> + Clone {
        self.made().iter().filter(move |made| present(made.callback) == callback)
    }

    /// It has succeeded.
    pub(in crate::rules) fn succeeded(&self) -> bool {
        self.answer.result() == 0
    }

    /// The error number that it has failed with.
    pub(in crate::rules) fn error(&self) -> Option<u32> {
        let error = if self.of_filter { self.answer.err()? } else { self.answer.errno() };
        (!self.succeeded()).then_some(error)
    }

    /// What happened inside these calls.
    pub(in crate::rules) fn inside<'m>(calls: impl Iterator<Item = &'m Made>) -> Inside {
        calls.fold(Inside::default(), |sum, made| Inside {
            flushes: sum.flushes + made.inside.flushes,
            nonzero: sum.nonzero + made.inside.nonzero,
            looked_at: sum.looked_at + made.inside.looked_at,
        })
    }

    /// What came of it, as findings put that.
    pub(in crate::rules) fn outcome(&self) -> String {
        self.error().map_or("success".to_owned(), |error| format!("error {error}"))
    }

    /// Checks that the pieces are no larger than `most`, and cover the range from its beginning, without a gap and without overlapping, in
    /// ascending order; all of it, if the task has succeeded; and none comes after one that has failed.
    pub(in crate::rules) fn tiles(
        &self,
        pieces: impl Iterator<Item = &'a Made>,
        most: u32,
        report: &mut Report<'_>,
    ) -> Said {
        let mut next = self.offset;
        let end = self.offset.saturating_add(self.count);
        let mut failed = false;
        for piece in pieces {
            let (offset, count) = (piece.enter.offset(), piece.enter.count());
            let cited = (self.asked, piece);
            let actual = || format!("{count} bytes from {offset}");
            if failed {
                return report.broken(cited, "nothing after a piece that has failed", actual());
            }
            let after = offset.saturating_add(count.into());
            if offset != next || count > most || after > end {
                let expected = format!("the next piece from {next} on, of {most} bytes or less, up to {end}");
                return report.broken(cited, expected, actual());
            }
            next = after;
            failed = piece.failed();
        }
        given(self.succeeded() && (next != end || failed))?;
        let expected = format!("pieces that cover {}..{end}", self.offset);
        report.broken(self.asked, expected, format_args!("they end at {next}"))
    }
}
