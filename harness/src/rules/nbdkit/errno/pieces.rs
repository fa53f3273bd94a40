//! What a request stands on: each call made for it, and the failure of the one that fails.

use layers_trace::Callback::{self, Zero};
use layers_trace::Kind;

use super::super::emulation::task::Task;
use super::name;
use crate::history::{FAST_ZERO, History, Made, present};
use crate::rules::check::{Now, Report, Rule, Said, at, by, exits_where, unless};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "errno.success",
        statement: "A request succeeds only if every call made for it has: each piece of a range that is split, the writes in place of a zero, and the flush in place of FUA.",
        clause: "nbdkit-plugin(3), Flags, .pwrite … .cache, .can_fua, .can_zero, .can_cache; nbdkit-filter(3), .pread … .cache",
        antecedent: "a request that succeeds, of a client or of a filter that passes it on",
        good: "NBD_CMD_WRITE { L0.pwrite }",
        bad: "NBD_CMD_WRITE { L0.pwrite = EIO } = 0",
        fix: "look at the result of every call, and fail with the first that fails",
        check: by!(at(exits_where(Callback::is_data).notes(&[Kind::Reply]), success)),
        ..Rule::REQUIRED.since(1, 3, 0)
    },
    Rule {
        id: "errno.told",
        statement: "A filter is told the error number with which the layer below has failed: what the plugin gave to nbdkit_set_error, else errno where errno_is_preserved, else EIO; and what a filter left in err.",
        clause: "nbdkit_error(3), Setting errno; nbdkit-plugin(3), .errno_is_preserved; nbdkit-filter(3), ERROR HANDLING",
        antecedent: "a request of a filter that passes on what it is told, which fails below",
        good: "L0 set_error=told; L1 passes=all; NBD_CMD_READ { L1.pread { L0.pread = ENOSPC } = ENOSPC } = ENOSPC",
        bad: "L0 set_error=told; L1 passes=all; NBD_CMD_READ { L1.pread { L0.pread = ENOSPC } = EIO }",
        fix: "take the number from where the layer has put it, in this order",
        check: by!(at(exits_where(Callback::is_data), told)),
        ..Rule::REQUIRED.since(1, 3, 0)
    },
];

/// The error number of this call.
pub(super) fn error_of(history: &History, made: &Made) -> Option<i32> {
    history.failure(made.callback, made.exit.as_ref()?).map(u32::cast_signed)
}

/// The plugin says that it cannot zero, and writes may be made instead.
fn asks_for_writes(history: &History, made: &Made) -> bool {
    const UNSUPPORTED: [i32; 2] = [libc::ENOTSUP, libc::EOPNOTSUPP];
    let unsupported = error_of(history, made).is_none_or(|error| UNSUPPORTED.contains(&error));
    made.layer() == 0 && present(made.callback) == Zero && made.enter.flags() & FAST_ZERO == 0 && unsupported
}

/// The call among these by which the whole fails.
pub(super) fn failing<'a>(history: &History, made: &'a [Made]) -> Option<&'a Made> {
    let fails = |one: &&Made| one.failed() || error_of(history, one).is_some();
    made.iter().filter(fails).find(|one| !asks_for_writes(history, one))
}

/// It is of a filter about which nothing is known; of a client everything is.
fn is_strange(now: &Now<'_>, task: &Task<'_>) -> bool {
    task.of_filter && !now.call.is_some_and(|call| now.history.hands_on(call.layer(), present(call.callback)))
}

/// Nothing has failed.
fn success(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let task = Task::ending(now).filter(|task| task.succeeded())?;
    unless(is_strange(now, &task) || task.made().is_empty())?;
    report.exercised();
    let failed = failing(now.history, task.made())?;
    let why = error_of(now.history, failed).map_or(String::new(), |error| format!(" with {}", name(error)));
    let expected = format!("it fails, as {} of L{} has{why}", failed.callback, failed.layer());
    report.broken((task.asked, failed), expected, "success")
}

/// A filter is told what the layer below has said.
fn told(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let call = now.call.filter(|call| call.layer() > 0 && now.event.result() < 0)?;
    let err = now.event.err().filter(|_| now.history.hands_on(call.layer(), call.callback))?;
    let piece = failing(now.history, call.made.calls());
    let below = match piece {
        Some(piece) => error_of(now.history, piece)?,
        None if call.made.calls().is_empty() => call.handed.failure?.cast_signed(),
        None => return None,
    };
    let (err, expected) = (err.cast_signed(), format!("{} in err", name(below)));
    report.expect(err == below, (call, piece), expected, name(err))
}
