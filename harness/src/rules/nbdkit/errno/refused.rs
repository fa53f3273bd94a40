//! What the server refuses by itself, and how.

use layers_trace::{Callback, Event, Kind, Operation, Probe};

use super::pieces::failing;
use super::{Answered, ORDINARY, names, told};
use crate::history::{ConnectionId, History};
use crate::protocol::MOST_SERVED;
use crate::protocol::flag::{DF, FAST_ZERO, FUA, NO_HOLE, REQ_ONE};
use crate::rules::check::{Now, Report, Rule, at, by, notes, remembering};
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "errno.refused",
        since: Version(1, 3, 0),
        statement: "The server refuses what it must: with EPERM a request that writes to a read-only export, with ENOSPC one that writes beyond the end, with EINVAL any other that goes beyond the end, and with EINVAL an unknown request or flag, or a flag that the request does not have.",
        clause: "NBD protocol, Error values, Command flags; nbdkit-plugin(3), .can_write … .can_cache",
        antecedent: "a request that the server must refuse",
        good: "NBD_CMD_WRITE offset=1048576 {} = ENOSPC",
        bad: "NBD_CMD_WRITE offset=1048576 {} = EINVAL",
        fix: "check each request before any layer is called, and refuse it with the error that the protocol has for it",
        check: by!(at(notes(Kind::Reply), refused)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "errno.shutdown",
        since: Version(1, 33, 3),
        statement: "After nbdkit_disconnect(0) every new request of the connection, save NBD_CMD_DISC, is answered with ESHUTDOWN, if at all.",
        clause: "nbdkit_shutdown(3), nbdkit_disconnect",
        antecedent: "a request that comes after nbdkit_disconnect(0), and is answered",
        good: "NBD_CMD_WRITE { L0.pwrite { Disconnect b=0 } } NBD_CMD_READ {} = ESHUTDOWN",
        bad: "NBD_CMD_WRITE { L0.pwrite { Disconnect b=0 } } NBD_CMD_READ {} = EIO",
        fix: "answer ESHUTDOWN",
        check: by!(remembering(
            notes(Kind::Reply).notes(Kind::Probe).exits_where(Callback::is_data),
            shutdown
        )),
        ..Rule::REQUIRED
    },
];

/// Why a request is refused, and with which errors it may be.
pub(super) struct Reason {
    why: &'static str,
    errors: &'static [i32],
}

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
    let request = answered.request;
    let top = answered.top;
    let not = |query| history.offered(top, query) == Some(0);
    let (offset, count) = (request.event.offset(), u64::from(request.event.count()));
    let flags = request.event.flags();
    let size = history.offered(top, Callback::GetSize).and_then(|size| u64::try_from(size).ok());
    let beyond = size.is_some_and(|size| offset.checked_add(count).is_none_or(|end| end > size));
    let operation = request.operation;
    // Then nothing is offered that writes, either.
    let denied = matches!(operation, Write | Trim | Zero) && not(Callback::CanWrite);
    let ranged = !matches!(operation, Flush | UnknownCommand);
    let end = if matches!(operation, Write | Zero) { &[libc::ENOSPC] } else { INVALID };
    let negotiated = !history.run().is_some_and(|run| run.no_structured_replies);
    let cases: [(bool, &'static str, &'static [i32]); 15] = [
        (operation == UnknownCommand, "the protocol has no such request", INVALID),
        (denied, "the export is read-only", &[libc::EPERM]),
        (ranged && beyond && count > 0, "it goes beyond the end", end),
        (
            operation != UnknownCommand && flags & !flags_of(operation) != 0,
            "it has a flag that it cannot have",
            INVALID,
        ),
        // What the protocol leaves to the client not to ask for.
        (ranged && count == 0, "it is for no byte", ORDINARY),
        (operation == Flush && (offset, count) != (0, 0), "a flush has no range", ORDINARY),
        (!denied && operation == Trim && not(Callback::CanTrim), "can_trim is false", ORDINARY),
        (!denied && operation == Zero && not(Callback::CanZero), "can_zero is none", ORDINARY),
        (operation == Flush && not(Callback::CanFlush), "can_flush is false", ORDINARY),
        (operation == Cache && not(Callback::CanCache), "can_cache is none", ORDINARY),
        (!denied && flags & FUA != 0 && not(Callback::CanFua), "can_fua is none", ORDINARY),
        (!denied && flags & FAST_ZERO != 0 && not(Callback::CanFastZero), "can_fast_zero is false", ORDINARY),
        (
            matches!(operation, Read | Write) && count > MOST_SERVED.into(),
            "it is larger than what the server takes",
            ORDINARY,
        ),
        (
            flags & DF != 0 && !answered.client.structured,
            "structured replies have not been negotiated",
            ORDINARY,
        ),
        (
            operation == BlockStatus && !(negotiated && answered.client.has_context),
            "base:allocation has not been negotiated",
            ORDINARY,
        ),
    ];
    let is_so = cases.into_iter().filter(|(is_so, ..)| *is_so);
    is_so.map(|(_, why, errors)| Reason { why, errors }).collect()
}

/// The server must refuse it: there is a reason, and none that the protocol leaves open.
fn is_forbidden(reasons: &[Reason]) -> bool {
    reasons.iter().any(|reason| reason.errors != ORDINARY)
}

/// This reply is a success that another rule finds: a call made for the request has failed, or it must be refused.
pub(in super::super) fn is_wrong_success(now: &Now<'_>) -> bool {
    Answered::by(now).filter(|answered| answered.error().is_none()).is_some_and(|answered| {
        let made = answered.request.made.calls();
        failing(now.history, made).is_some() || is_forbidden(&reasons(now.history, &answered))
    })
}

/// The server refuses, and says why.
fn refused(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(answered) = Answered::by(now) else { return };
    let reasons = reasons(now.history, &answered);
    let Some(first) = reasons.first() else { return };
    let stops = answered.error() == Some(libc::ESHUTDOWN);
    let certain = |error: i32| reasons.iter().any(|reason| reason.errors.contains(&error));
    // What is not promised to be refused is another rule's business.
    let promised = reasons.iter().all(|reason| reason.errors != ORDINARY);
    let holds = match answered.error() {
        Some(error) => stops || !promised || certain(error),
        None => !is_forbidden(&reasons),
    };
    if !promised && holds {
        return;
    }
    let mut errors: Vec<i32> = reasons.iter().flat_map(|reason| reason.errors.iter().copied()).collect();
    errors.dedup();
    let expected = format!("{}, because {}", names(&errors), first.why);
    report.expect(holds, [&answered.request.event, now.event], expected, told(answered.error()));
}

/// After the end of a connection has been asked for.
fn shutdown(ended: &mut Vec<(ConnectionId, u32, Option<Event>)>, now: &Now<'_>, report: &mut Report<'_>) {
    let event = now.event;
    match event.kind {
        Kind::Probe => {
            let soft = event.probe() == Some(Probe::Disconnect) && event.a == 1 && event.b == 0;
            let thread = now.history.thread(event.tid).filter(|_| soft);
            let by = thread.and_then(|thread| thread.stack().first());
            ended.extend(by.and_then(|by| Some((by.connection?, by.id(), None))));
        }
        Kind::Exit => {
            for (_, _, exit) in ended.iter_mut().filter(|(_, by, _)| *by == event.call) {
                *exit = Some(event.clone());
            }
        }
        _ => {
            let Some(answered) = Answered::by(now) else { return };
            let connection = answered.client.connection;
            let ended = ended.iter().find(|(id, ..)| Some(*id) == connection);
            let Some(exit) = ended.and_then(|(_, _, exit)| exit.as_ref()) else { return };
            if answered.request.event.position < exit.position || !answered.request.made.calls().is_empty() {
                return;
            }
            let holds = answered.error() == Some(libc::ESHUTDOWN);
            let events = [exit, &answered.request.event, event];
            report.expect(holds, events, "ESHUTDOWN", told(answered.error()));
        }
    }
}
