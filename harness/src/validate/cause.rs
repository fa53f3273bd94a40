//! Whether two findings have one cause: the second one then stands under the first, and is none of its own.
//!
//! A request that is refused with the same words, wherever a check asks for it, is one cause; and so is a byte that is
//! wrong after the same kind of request, whichever check reads it.

use layers_trace::Operation;

use super::case::{Asked, Played, Stop, Symptom, Wrong};
use super::check::{Check, Plan, Profile};
use super::op::{Op, Request};
use super::words;

/// Requests whose ends are multiples of it are even.
const SECTOR: u64 = 512;

/// What lies behind a finding, as far as it can be told from another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is refused: which kind of request, and the subject's own words without their numbers.
    Refused(Asked, String),
    /// A byte is wrong.
    Data(Shape),
    /// A byte is wrong that was found among many requests, and has nothing to do with them.
    Alone,
    /// Something else, which is like nothing else.
    Other,
}

/// How a byte came to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// The last request that changed the byte; a read, where nothing did.
    by: Operation,
    /// That request begins or ends within a sector.
    odd: bool,
    /// The read that shows it does.
    read_odd: bool,
}

impl Cause {
    /// Of what is wrong with this step of a case.
    pub(super) fn of(plan: &Plan, played: &Played, index: usize, wrong: &Wrong) -> Cause {
        match wrong.symptom {
            Symptom::Refused(asked) => Cause::refused(asked, &played.stderr),
            Symptom::Data { .. } => {
                let byte = wrong.range.map_or(0, |(offset, _)| offset);
                Cause::Data(shape(plan.script.get(..=index).unwrap_or(&plan.script), byte))
            }
            Symptom::Alone => Cause::Alone,
            Symptom::Other => Cause::Other,
        }
    }

    fn refused(asked: Asked, stderr: &str) -> Cause {
        let said = words::last_error(stderr).unwrap_or_default();
        Cause::Refused(asked, said.replace(|letter: char| letter.is_ascii_hexdigit(), ""))
    }

    /// What has stopped the set-up of a case, if it was a refusal.
    pub(super) fn of_set_up(played: &Played) -> Option<Cause> {
        match &played.stop {
            Some((_, Stop::Refused(refusal))) => Some(Cause::refused(refusal.asked, &played.stderr)),
            _ => None,
        }
    }

    /// A finding of `later` with this cause has come about through what `first` has found already.
    pub(super) fn follows(&self, later: &Check, first: &Check, cause: &Cause) -> bool {
        if *self == Cause::Alone {
            return matches!(cause, Cause::Data(_) | Cause::Alone);
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
            _ => false,
        }
    }
}

impl Shape {
    /// What is wrong at even places is wrong at odd ones, too; and where reads are wrong, all that is read is.
    fn is_like(self, before: Shape) -> bool {
        let as_odd = |now: bool, before: bool| now || !before;
        match before.by {
            Operation::Read => as_odd(self.read_odd, before.read_odd),
            by => self.by == by && as_odd(self.odd, before.odd),
        }
    }
}

/// The last of these steps is the one that shows that this byte is wrong.
fn shape(steps: &[Op], byte: u64) -> Shape {
    let requests = |op: &Op| match op {
        Op::Request(request) | Op::Perhaps(request) | Op::Durable(request) | Op::Refused(request) => {
            Some(*request)
        }
        _ => None,
    };
    let covers = |one: &Request| one.offset <= byte && byte < one.offset + u64::from(one.count);
    let changes =
        |one: &Request| matches!(one.operation, Operation::Write | Operation::Zero | Operation::Trim);
    let read_odd = steps.last().and_then(Op::read).is_some_and(|read| is_odd(&read));
    let last = steps.iter().rev().filter_map(requests).find(|one| changes(one) && covers(one));
    match (last, steps.last()) {
        (Some(last), _) => Shape { by: last.operation, odd: is_odd(&last), read_odd },
        (None, Some(Op::Load(_))) => Shape { by: Operation::Write, odd: false, read_odd: false },
        (None, _) => Shape { by: Operation::Read, odd: read_odd, read_odd },
    }
}

fn is_odd(request: &Request) -> bool {
    !request.offset.is_multiple_of(SECTOR) || !u64::from(request.count).is_multiple_of(SECTOR)
}

#[cfg(test)]
mod tests {
    use super::super::claims::{read, request, write};
    use super::*;

    fn cause(steps: &[Op], byte: u64) -> Cause {
        Cause::Data(shape(steps, byte))
    }

    fn check(id: &str) -> &'static Check {
        super::super::checks::find(id).unwrap()
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
}
