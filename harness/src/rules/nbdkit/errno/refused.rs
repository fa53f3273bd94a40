//! What the server refuses by itself, and how.

use layers_trace::Callback::{
    self, CanCache, CanFastZero, CanFlush, CanFua, CanTrim, CanWrite, CanZero, GetSize,
};
use layers_trace::{Event, Kind, Operation, Probe};

use super::pieces::failing;
use super::{Answered, ORDINARY, names, told};
use crate::history::{ConnectionId, History};
use crate::protocol::MOST_SERVED;
use crate::protocol::flag::{DF, FAST_ZERO, FUA, NO_HOLE, REQ_ONE};
use crate::rules::check::{Now, Report, Rule, Said, at, by, given, notes, remembering, unless};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "errno.refused",
        statement: "The server refuses what it must: with EPERM a request that writes to a read-only export, with ENOSPC one that writes beyond the end, with EINVAL any other that goes beyond the end, and with EINVAL an unknown request or flag, or a flag that the request does not have.",
        clause: "NBD protocol, Error values, Command flags; nbdkit-plugin(3), .can_write … .can_cache",
        antecedent: "a request that the server must refuse",
        good: "NBD_CMD_WRITE offset=1048576 {} = ENOSPC",
        bad: "NBD_CMD_WRITE offset=1048576 {} = EINVAL",
        fix: "check each request before any layer is called, and refuse it with the error that the protocol has for it",
        check: by!(at(notes(&[Kind::Reply]), refused)),
        ..Rule::REQUIRED.since(1, 3, 0)
    },
    Rule {
        id: "errno.shutdown",
        statement: "After nbdkit_disconnect(0) every new request of the connection, save NBD_CMD_DISC, is answered with ESHUTDOWN, if at all.",
        clause: "nbdkit_shutdown(3), nbdkit_disconnect",
        antecedent: "a request that comes after nbdkit_disconnect(0), and is answered",
        good: "NBD_CMD_WRITE { L0.pwrite { Disconnect b=0 } } NBD_CMD_READ {} = ESHUTDOWN",
        bad: "NBD_CMD_WRITE { L0.pwrite { Disconnect b=0 } } NBD_CMD_READ {} = EIO",
        fix: "answer ESHUTDOWN",
        check: by!(remembering(notes(&[Kind::Reply, Kind::Probe]).exits_where(Callback::is_data), shutdown)),
        ..Rule::REQUIRED.since(1, 33, 3)
    },
];

/// Why a request is refused, and with which errors it may be.
pub(super) type Reason = (&'static str, &'static [i32]);

/// Flags that a request may have; FUA all of them, which most ignore.
fn flags_of(operation: Operation) -> u32 {
    FUA | match operation {
        Operation::Read => DF,
        Operation::Zero => NO_HOLE | FAST_ZERO,
        Operation::BlockStatus => REQ_ONE,
        _ => 0,
    }
}

/// Everything for which the server must, or may, refuse this request.
pub(super) fn reasons(history: &History, answered: &Answered<'_>) -> Vec<Reason> {
    use Operation::{BlockStatus, Cache, Flush, Read, Trim, UnknownCommand, Write, Zero};
    const INVALID: &[i32] = &[libc::EINVAL];
    let (request, top) = (answered.request, answered.top);
    let not = |query| history.offered(top, query) == Some(0);
    let (offset, count) = (request.event.offset(), u64::from(request.event.count()));
    let size = history.offered(top, GetSize).and_then(|size| u64::try_from(size).ok());
    let beyond = size.is_some_and(|size| offset.checked_add(count).is_none_or(|end| end > size));
    let (operation, flags) = (request.operation, request.event.flags());
    // Then nothing is offered that writes, either.
    let denied = matches!(operation, Write | Trim | Zero) && not(CanWrite);
    let ranged = !matches!(operation, Flush | UnknownCommand);
    let end = if matches!(operation, Write | Zero) { &[libc::ENOSPC] } else { INVALID };
    let unknown_flag = operation != UnknownCommand && flags & !flags_of(operation) != 0;
    let too_large = matches!(operation, Read | Write) && count > MOST_SERVED.into();
    let no_replies = history.run().is_some_and(|run| run.no_structured_replies);
    let no_context = operation == BlockStatus && (no_replies || !answered.client.has_context);
    let no_df = flags & DF != 0 && !answered.client.structured;
    let cases: [(bool, Reason); 15] = [
        (operation == UnknownCommand, ("the protocol has no such request", INVALID)),
        (denied, ("the export is read-only", &[libc::EPERM])),
        (ranged && beyond && count > 0, ("it goes beyond the end", end)),
        (unknown_flag, ("it has a flag that it cannot have", INVALID)),
        // What the protocol leaves to the client not to ask for.
        (ranged && count == 0, ("it is for no byte", ORDINARY)),
        (operation == Flush && (offset, count) != (0, 0), ("a flush has no range", ORDINARY)),
        (!denied && operation == Trim && not(CanTrim), ("can_trim is false", ORDINARY)),
        (!denied && operation == Zero && not(CanZero), ("can_zero is none", ORDINARY)),
        (operation == Flush && not(CanFlush), ("can_flush is false", ORDINARY)),
        (operation == Cache && not(CanCache), ("can_cache is none", ORDINARY)),
        (!denied && flags & FUA != 0 && not(CanFua), ("can_fua is none", ORDINARY)),
        (!denied && flags & FAST_ZERO != 0 && not(CanFastZero), ("can_fast_zero is false", ORDINARY)),
        (too_large, ("it is larger than what the server takes", ORDINARY)),
        (no_df, ("structured replies have not been negotiated", ORDINARY)),
        (no_context, ("base:allocation has not been negotiated", ORDINARY)),
    ];
    cases.into_iter().filter(|(is_so, _)| *is_so).map(|(_, reason)| reason).collect()
}

/// The server must refuse it: there is a reason, and none that the protocol leaves open.
fn is_forbidden(reasons: &[Reason]) -> bool {
    reasons.iter().any(|(_, errors)| *errors != ORDINARY)
}

/// This reply is a success that another rule finds: a call made for the request has failed, or it must be refused.
pub(in super::super) fn is_wrong_success(now: &Now<'_>) -> bool {
    Answered::by(now).filter(|answered| answered.error().is_none()).is_some_and(|answered| {
        let made = answered.request.made.calls();
        failing(now.history, made).is_some() || is_forbidden(&reasons(now.history, &answered))
    })
}

/// The server refuses, and says why.
fn refused(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let answered = Answered::by(now)?;
    let reasons = reasons(now.history, &answered);
    let (why, _) = reasons.first()?;
    let mut errors: Vec<i32> = reasons.iter().flat_map(|(_, errors)| errors.iter().copied()).collect();
    // What is not promised to be refused is another rule's business.
    let promised = reasons.iter().all(|(_, errors)| *errors != ORDINARY);
    let holds = match answered.error() {
        Some(error) => error == libc::ESHUTDOWN || !promised || errors.contains(&error),
        None => !is_forbidden(&reasons),
    };
    unless(!promised && holds)?;
    errors.dedup();
    let expected = format!("{}, because {why}", names(&errors));
    report.expect(holds, answered.request, expected, told(answered.error()))
}

/// A connection that a layer has ended, the call that did it, and the exit of that.
type Ended = (ConnectionId, u32, Option<Event>);

/// After the end of a connection has been asked for.
fn shutdown(ended: &mut Vec<Ended>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let event = now.event;
    match event.kind {
        Kind::Probe => {
            given(event.probe() == Some(Probe::Disconnect) && event.a == 1 && event.b == 0)?;
            let by = now.history.thread(event.tid)?.stack().first()?;
            ended.push((by.connection?, by.id(), None));
            Some(())
        }
        Kind::Exit => {
            for (_, _, exit) in ended.iter_mut().filter(|(_, by, _)| *by == event.call) {
                *exit = Some(event.clone());
            }
            None
        }
        _ => {
            let answered = Answered::by(now)?;
            let (_, _, exit) = ended.iter().find(|(id, ..)| Some(*id) == answered.client.connection)?;
            let (exit, request) = (exit.as_ref()?, answered.request);
            given(request.event.position > exit.position && request.made.calls().is_empty())?;
            let holds = answered.error() == Some(libc::ESHUTDOWN);
            report.expect(holds, (exit, request), "ESHUTDOWN", told(answered.error()))
        }
    }
}
