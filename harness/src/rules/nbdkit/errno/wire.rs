//! The error number that a client gets.

use layers_trace::{Kind, Operation, Probe};

use super::pieces::{error_of, failing};
use super::{Answered, ORDINARY, name, names, refused, told};
use crate::history::{Made, Way, callback_of};
use crate::protocol::ERRORS;
use crate::protocol::flag::{DF, FAST_ZERO};
use crate::rules::check::{Now, Report, Rule, Said, at, by, given, notes, remembering, unless};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "errno.wire",
        statement: "A client is told the error of the layer that has failed: EPERM, EIO, ENOMEM, EINVAL, ENOSPC and ESHUTDOWN as they are, EDQUOT and EFBIG as ENOSPC, ENOTSUP for a fast zero, EOVERFLOW for a read with NBD_CMD_FLAG_DF, and any other as one of EPERM, EIO, ENOMEM, EINVAL and ENOSPC.",
        clause: "nbdkit_error(3), Setting errno; nbdkit-filter(3), ERROR HANDLING; NBD protocol, Error values",
        antecedent: "a client's request that fails in a layer, where the layer's error is known",
        good: "L0 set_error=told; NBD_CMD_WRITE { L0.pwrite = EDQUOT } = ENOSPC",
        bad: "L0 set_error=told; NBD_CMD_WRITE { L0.pwrite = EDQUOT } = EIO",
        fix: "map the error of the layer to the one that the protocol has for it",
        check: by!(at(notes(&[Kind::Reply]), on_the_wire)),
        ..Rule::REQUIRED.since(1, 3, 0)
    },
    Rule {
        id: "errno.wire-others",
        statement: "EROFS is told as EPERM, and every error that the protocol does not have as EINVAL.",
        clause: "not in the manual",
        antecedent: "a client's request that fails in a layer with an error that the protocol does not have",
        good: "L0 set_error=told; NBD_CMD_READ { L0.pread = ENXIO } = EINVAL",
        bad: "L0 set_error=told; NBD_CMD_READ { L0.pread = ENXIO } = EIO",
        fix: "none needed",
        check: by!(at(notes(&[Kind::Reply]), others)),
        ..Rule::OBSERVED.since(1, 3, 0)
    },
    Rule {
        id: "errno.known",
        statement: "An error number is one that the protocol has: EOVERFLOW only for a read with NBD_CMD_FLAG_DF, and ENOTSUP only for a fast zero.",
        clause: "NBD protocol, Error values",
        antecedent: "a request that is refused or fails",
        good: "NBD_CMD_READ { L0.pread = EIO } = EIO",
        bad: "NBD_CMD_READ { L0.pread = EROFS } = EROFS",
        fix: "send EINVAL for what the protocol does not have",
        check: by!(at(notes(&[Kind::Reply]), known)),
        ..Rule::REQUIRED.since(1, 3, 0)
    },
    Rule {
        id: "errno.cause",
        statement: "A request that the server may not refuse fails only if a call made for it has failed.",
        clause: "nbdkit-plugin(3), .pread … .cache; NBD protocol, Request types",
        antecedent: "a request of a client that fails",
        good: "NBD_CMD_READ { L0.pread = EIO } = EIO",
        bad: "NBD_CMD_READ { L0.pread } = EIO",
        fix: "answer with the result of the outermost layer",
        check: by!(remembering(notes(&[Kind::Reply, Kind::Probe]), Cause::see)),
        ..Rule::REQUIRED.since(1, 3, 0)
    },
];

/// What the client may be told of this error.
fn allowed(error: i32, answered: &Answered<'_>) -> &'static [i32] {
    match error {
        libc::EPERM => &[libc::EPERM],
        libc::EIO => &[libc::EIO],
        libc::ENOMEM => &[libc::ENOMEM],
        libc::EINVAL => &[libc::EINVAL],
        libc::ENOSPC | libc::EDQUOT | libc::EFBIG => &[libc::ENOSPC],
        libc::ESHUTDOWN => &[libc::ESHUTDOWN],
        libc::ENOTSUP if answered.has(FAST_ZERO) => &[libc::ENOTSUP],
        libc::EOVERFLOW if answered.has(DF) => &[libc::EOVERFLOW],
        _ => ORDINARY,
    }
}

/// A reply of the server's, and the call because of which it is an error.
fn failed<'a>(now: &Now<'a>) -> Option<(Answered<'a>, &'a Made, i32)> {
    let answered = Answered::by(now).filter(|answered| answered.error().is_some())?;
    let piece = failing(now.history, answered.request.made.calls())?;
    Some((answered, piece, error_of(now.history, piece)?))
}

/// The layer's error reaches the client.
fn on_the_wire(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (answered, piece, error) = failed(now)?;
    let sent = answered.error()?;
    let allowed = allowed(error, &answered);
    let layer = format!("{} of L{} has failed with {}", piece.callback, piece.layer(), name(error));
    let cited = (answered.request, piece.exit.as_ref());
    report.expect(allowed.contains(&sent), cited, format_args!("{}, as {layer}", names(allowed)), name(sent))
}

/// What the protocol leaves open is done as always.
fn others(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (answered, piece, error) = failed(now)?;
    let sent = answered.error().filter(|_| allowed(error, &answered) == ORDINARY)?;
    let usual = if error == libc::EROFS { libc::EPERM } else { libc::EINVAL };
    let expected = format!("{} for {}", name(usual), name(error));
    report.expect(sent == usual, (answered.request, piece.exit.as_ref()), expected, name(sent))
}

/// The protocol has such an error.
fn known(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    given(now.event.speaker().is_some() && now.event.result() < 0)?;
    let request = now.request()?;
    let error = now.event.errno().cast_signed();
    let has = |flag: u32, operation| request.operation == operation && request.event.flags() & flag != 0;
    let fits = match error {
        libc::EOVERFLOW => has(DF, Operation::Read),
        libc::ENOTSUP => has(FAST_ZERO, Operation::Zero),
        other => ERRORS.contains(&other),
    };
    report.expect(fits, request, "an error that the protocol has for it", name(error))
}

/// There is a reason.
#[derive(Default)]
struct Cause {
    /// A layer has told the server to stop, or to end a connection.
    ends: bool,
    /// The latter: what is answered then is another rule's business.
    disconnects: bool,
}

impl Cause {
    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        if now.event.kind == Kind::Probe {
            self.ends |= matches!(now.event.probe(), Some(Probe::Shutdown | Probe::Disconnect));
            self.disconnects |= now.event.probe() == Some(Probe::Disconnect);
            return None;
        }
        let (answered, history) = (Answered::by(now)?, now.history);
        let error = answered.error()?;
        let stops = self.ends || history.may_stop() || history.end().is_some();
        // The server may be short of memory.
        unless(error == libc::ENOMEM || error == libc::ESHUTDOWN && stops)?;
        let made = answered.request.made.calls();
        unless(self.disconnects && made.is_empty())?;
        let failed = made.iter().any(|made| made.failed()) || failing(history, made).is_some();
        if failed || !refused::reasons(history, &answered).is_empty() {
            return report.exercised();
        }
        let way = history.way(answered.top, callback_of(answered.request.operation)?)?;
        // An answer that a layer could not give, or a fast zero that is none.
        if matches!(way, Way::Refused(_)) || error == libc::ENOTSUP && answered.has(FAST_ZERO) {
            return report.exercised();
        }
        let last = made.last();
        let expected = match last {
            Some(last) => format!("success, as {} of L{} has succeeded", last.callback, last.layer()),
            None => "a call for it, or success".to_owned(),
        };
        report.expect(false, (answered.request, last), expected, told(Some(error)))
    }
}
