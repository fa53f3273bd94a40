//! Whether two findings have one cause: the second one then stands under the first, and is none of its own.
//!
//! A request that is refused with the same words, wherever a check asks for it, is one cause; and so is a byte that is
//! wrong, or told to be zero, after the same kind of request, whichever check asks for it.

use layers_trace::{Callback, Event, Kind, Operation};

use crate::scenario::flag;
use crate::validate::checks::check::{CasePlan, ModuleCheck, Profile};
use crate::validate::play::played::Played;
use crate::validate::play::stop::{Asked, Stop, Symptom, Wrong};
use crate::validate::play::words;
use crate::validate::script::op::{DiskRequest, Op};

/// Clients that come and go.
const CROWD: &str = "threads.crowd";
/// Requests whose ends are multiples of it are even.
const SECTOR: u64 = 512;

/// What lies behind a finding, as far as it can be told from another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::validate) enum Cause {
    /// It is refused: which kind of request, and the subject's own words without their numbers.
    Refused(Asked, String),
    /// A byte is wrong.
    Data(Shape),
    /// A byte is told to be zero that is not, and this request has changed it last; a read, where nothing did.
    ToldZero(Operation),
    /// A byte is wrong that was found among many requests, and has nothing to do with them.
    Alone,
    /// Something else, which is like nothing else.
    Other,
}

/// How a byte came to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::validate) struct Shape {
    /// The last request that changed the byte; a read, where nothing did.
    by: Operation,
    /// That request begins or ends within a sector.
    odd: bool,
    /// It has FUA.
    fua: bool,
    /// The read that shows it does.
    read_odd: bool,
}

impl Cause {
    /// Of what is wrong with this step of a case, whose subject has the layers from this number on.
    pub(in crate::validate) fn of(
        plan: &CasePlan,
        played: &Played,
        index: usize,
        wrong: &Wrong,
        from: u8,
    ) -> Cause {
        let shape = || {
            let byte = wrong.range.map_or(0, |(offset, _)| offset);
            let shape = shape(plan.script.get(..=index).unwrap_or(&plan.script), byte);
            if writes_zeroes(&played.events, from) { shape.as_written() } else { shape }
        };
        match wrong.symptom {
            Symptom::Refused(asked) => Cause::refused(asked, &played.stderr),
            Symptom::Data { .. } => Cause::Data(shape()),
            Symptom::ToldZero => Cause::ToldZero(shape().by),
            Symptom::Alone => Cause::Alone,
            Symptom::Other => Cause::Other,
        }
    }

    fn refused(asked: Asked, stderr: &str) -> Cause {
        let said = words::last_error(stderr).unwrap_or_default();
        Cause::Refused(asked, said.replace(|letter: char| letter.is_ascii_hexdigit(), ""))
    }

    /// What has stopped the set-up of a case, if it was a refusal.
    pub(in crate::validate) fn of_set_up(played: &Played) -> Option<Cause> {
        match &played.stop {
            Some((_, Stop::Refused(refusal))) => Some(Cause::refused(refusal.asked, &played.stderr)),
            _ => None,
        }
    }

    /// A finding of `later` with this cause has come about through what `first` has found already.
    pub(in crate::validate) fn follows(
        &self,
        later: &ModuleCheck,
        first: &ModuleCheck,
        cause: &Cause,
    ) -> bool {
        if *self == Cause::Alone {
            return matches!(cause, Cause::Data(_) | Cause::Alone);
        }
        // Who is told no when others are at work is told so, too, when others come and go.
        if let (CROWD, Profile::Threads, Cause::Refused(_, now), Cause::Refused(_, before)) =
            (later.id, first.profile, self, cause)
        {
            return now == before;
        }
        // What is promised of connections and of requests at the same time are promises of their own.
        let own = matches!(later.profile, Profile::Threads | Profile::MultiConn);
        // And that a size is told which is not served says more than that a request of it is refused.
        if (own && later.profile == first.profile) || later.profile == Profile::BlockSize {
            return false;
        }
        match (self, cause) {
            (Cause::Refused(..), Cause::Refused(..)) => self == cause,
            (Cause::Data(now), Cause::Data(before)) => now.is_like(*before),
            (Cause::ToldZero(now), Cause::ToldZero(before)) => now == before,
            _ => false,
        }
    }
}

impl Shape {
    /// What is wrong at even places is wrong at odd ones, too, and what is wrong without FUA is wrong with it; and where reads
    /// are wrong, all that is read is.
    fn is_like(self, before: Shape) -> bool {
        let as_odd = |now: bool, before: bool| now || !before;
        match before.by {
            Operation::Read => as_odd(self.read_odd, before.read_odd),
            by => self.by == by && as_odd(self.odd, before.odd) && as_odd(self.fua, before.fua),
        }
    }

    /// The same, where the server writes the zeroes that it is asked for.
    fn as_written(self) -> Shape {
        let by = if self.by == Operation::Zero { Operation::Write } else { self.by };
        Shape { by, ..self }
    }
}

/// No layer from this number on was asked for zeroes: the server has written them instead.
fn writes_zeroes(events: &[Event], from: u8) -> bool {
    let zeroes = |event: &Event| event.kind == Kind::Enter && event.callback() == Some(Callback::Zero);
    !events.iter().any(|event| event.layer >= from && zeroes(event))
}

/// The last of these steps is the one that shows that this byte is wrong.
fn shape(steps: &[Op], byte: u64) -> Shape {
    let requests = |op: &Op| match op {
        Op::Request(request) | Op::Perhaps(request) | Op::Durable(request) | Op::Refused(request) => {
            Some(*request)
        }
        _ => None,
    };
    let covers = |one: &DiskRequest| one.offset <= byte && byte < one.offset + u64::from(one.count);
    let changes =
        |one: &DiskRequest| matches!(one.operation, Operation::Write | Operation::Zero | Operation::Trim);
    let read_odd = steps.last().and_then(Op::read).is_some_and(|read| is_odd(&read));
    let last = steps.iter().rev().filter_map(requests).find(|one| changes(one) && covers(one));
    match (last, steps.last()) {
        (Some(last), _) => {
            let fua = last.flags & flag::FUA != 0;
            Shape { by: last.operation, odd: is_odd(&last), fua, read_odd }
        }
        (None, Some(Op::Load(_))) => Shape { by: Operation::Write, odd: false, fua: false, read_odd: false },
        (None, _) => Shape { by: Operation::Read, odd: read_odd, fua: false, read_odd },
    }
}

fn is_odd(request: &DiskRequest) -> bool {
    !request.offset.is_multiple_of(SECTOR) || !u64::from(request.count).is_multiple_of(SECTOR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::script::claims::{flagged, read, request, write};

    fn cause(steps: &[Op], byte: u64) -> Cause {
        Cause::Data(shape(steps, byte))
    }

    fn check(id: &str) -> &'static ModuleCheck {
        crate::validate::checks::find(id).unwrap()
    }

    #[test]
    fn a_byte_that_is_read_wrongly_at_odd_places_explains_odd_reads_and_no_even_ones() {
        let first = cause(&[read((0, 4096)), read((1, 512))], 1);
        let odd = cause(&[write((0, 4096), 1), read((1, 100))], 1);
        let even = cause(&[write((0, 4096), 1), read((0, 4096))], 1);
        let (later, base) = (check("write.last-wins"), check("read.odd"));
        assert!(odd.follows(later, base, &first));
        assert!(!even.follows(later, base, &first));
    }

    #[test]
    fn a_zero_that_is_short_explains_zeroes_and_no_writes() {
        let zero = |place| Op::Request(request(Operation::Zero, place));
        let first = cause(&[write((0, 100), 1), zero((0, 100)), read((0, 100))], 99);
        let again = cause(&[write((0, 100), 1), zero((1, 9)), read((0, 100))], 9);
        let write = cause(&[zero((0, 100)), write((0, 10), 1), read((0, 100))], 5);
        let (later, base) = (check("zero.no-hole"), check("zero.may-trim"));
        assert!(again.follows(later, base, &first));
        assert!(!write.follows(later, base, &first));
    }

    #[test]
    fn promises_about_requests_at_once_do_not_follow_from_one_another() {
        let busy = || Cause::refused(Asked::Request(Operation::Write), "nbdkit: error: busy 12\n");
        let (requests, connections) = (check("threads.requests"), check("threads.connections"));
        assert!(!busy().follows(connections, requests, &busy()));
        assert!(busy().follows(connections, check("write.succeeds"), &busy()));
        let other = Cause::refused(Asked::Request(Operation::Write), "nbdkit: error: full\n");
        assert!(!busy().follows(connections, check("write.succeeds"), &other));
    }

    #[test]
    fn who_is_told_no_when_others_are_at_work_is_told_so_when_others_come_and_go() {
        let refused = |asked, said: &str| Cause::refused(asked, said);
        let write = refused(Asked::Request(Operation::Write), "nbdkit: error: busy 12\n");
        let (read, open) = (Asked::Request(Operation::Read), Asked::Open);
        let (crowd, requests) = (check(CROWD), check("threads.requests"));
        assert!(refused(read, "nbdkit: error: busy 3\n").follows(crowd, requests, &write));
        assert!(refused(open, "nbdkit: error: busy 4\n").follows(crowd, requests, &write));
        assert!(!refused(open, "nbdkit: error: too many\n").follows(crowd, requests, &write));
        assert!(!write.follows(requests, crowd, &refused(open, "nbdkit: error: busy 4\n")));
    }

    #[test]
    fn zeroes_told_after_a_write_follow_from_such_and_not_from_zeroes_told_of_what_nobody_wrote() {
        let (later, base) = (check("filter.failing-requests"), check("extents.after-write"));
        let (written, untouched) = (Cause::ToldZero(Operation::Write), Cause::ToldZero(Operation::Read));
        assert!(written.follows(later, base, &written));
        assert!(!written.follows(later, base, &untouched));
        assert!(!cause(&[write((0, 512), 1), read((0, 512))], 1).follows(later, base, &written));
    }

    #[test]
    fn zeroes_that_the_server_writes_follow_from_writes_and_what_lacks_fua_not_from_what_has_it() {
        let zero = |flags| {
            let all = [
                write((0, 512), 1),
                flagged(Op::Request(request(Operation::Zero, (0, 512))), flags),
                read((0, 512)),
            ];
            shape(&all, 1).as_written()
        };
        let written = |flags| {
            let Cause::Data(shape) = cause(&[flagged(write((0, 512), 1), flags), read((0, 512))], 1) else {
                unreachable!()
            };
            shape
        };
        assert!(zero(flag::FUA).is_like(written(flag::FUA)));
        assert!(zero(flag::FUA).is_like(written(0)));
        assert!(!zero(0).is_like(written(flag::FUA)));
    }
}
