//! nbdkit-filter(3), ".can_zero"; nbdkit-plugin(3), ".zero": zeroes that are written.

use layers_trace::Callback;

use super::task::{Task, Untiled, watches};
use crate::history::{FAST_ZERO, MAY_TRIM, Made, Way};
use crate::protocol::MOST_SERVED;
use crate::rules::check::{Now, Report, Rule, at, by};
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "emul.zero.as-writes",
        since: Version(1, 31, 9),
        statement: "Where can_zero says emulate, zeroes are written with that layer's pwrite: in ascending pieces of 64 MiB or less that cover the range, without MAY_TRIM.",
        clause: "nbdkit-filter(3), .can_write … .can_cache (NBDKIT_ZERO_EMULATE); nbdkit-plugin(3), .can_zero",
        antecedent: "zeroes asked for where can_zero says emulate",
        good: "L1 can_zero=1; NBD_CMD_WRITE_ZEROES { L1.pwrite }",
        bad: "L1 can_zero=1; NBD_CMD_WRITE_ZEROES { L1.pwrite count=256 }",
        fix: "write zeroes until the end of the range",
        check: by!(at(watches(&[Callback::Zero]), as_writes)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "emul.zero.fallback",
        statement: "If a plugin has no zero, or it fails with ENOTSUP or EOPNOTSUPP, the same range is written with pwrite, in pieces that cover it.",
        clause: "nbdkit-plugin(3), .zero and .can_zero",
        antecedent: "zeroes asked for of a plugin without zero, or whose zero fails in this way",
        good: "NBD_CMD_WRITE_ZEROES { L0.zero = ENOTSUP L0.pwrite }",
        bad: "NBD_CMD_WRITE_ZEROES { L0.zero = ENOTSUP L0.pwrite count=256 }",
        fix: "write zeroes to the whole range, each piece where the one before has ended",
        check: by!(at(watches(&[Callback::Zero]), fallback)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "emul.zero.fast-no-fallback",
        since: Version(1, 15, 0),
        statement: "Zeroes asked for with FAST_ZERO are never written with pwrite: where zero cannot be used the request fails with ENOTSUP.",
        clause: "nbdkit-plugin(3), .zero and .can_fast_zero",
        antecedent: "zeroes asked for with FAST_ZERO",
        good: "NBD_CMD_WRITE_ZEROES flags=FAST_ZERO { L0.zero = ENOTSUP } = ENOTSUP",
        bad: "NBD_CMD_WRITE_ZEROES flags=FAST_ZERO { L0.zero = ENOTSUP L0.pwrite } = ENOTSUP",
        fix: "fail with ENOTSUP",
        check: by!(at(watches(&[Callback::Zero]), fast_no_fallback)),
        ..Rule::FORBIDDEN
    },
];

fn report_untiled(task: &Task<'_>, untiled: Untiled<'_>, report: &mut Report<'_>) {
    let piece = untiled.piece.map(|piece| &piece.enter);
    report.broken(
        [task.asked].into_iter().chain(piece).chain([task.answer]),
        untiled.expected,
        untiled.actual,
    );
}

/// These writes are to be zeroes.
fn bytes_are_zero<'a>(task: &Task<'a>, pieces: impl Iterator<Item = &'a Made>, report: &mut Report<'_>) {
    for piece in pieces.filter(|piece| piece.inside.nonzero > 0) {
        report.broken(task.events(Some(piece)), "a buffer full of zeroes", "other bytes in it");
    }
}

/// Where a layer wants it, the server writes.
fn as_writes(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(task) = Task::ending(now).filter(|task| task.callback == Callback::Zero) else { return };
    if task.flags & FAST_ZERO != 0 || task.made().is_empty() && !task.succeeded() {
        return;
    }
    // A filter that makes nothing of it has its reasons.
    if task.of_filter && task.made().is_empty() {
        return;
    }
    let Some(Way::Emulated { at, by, callback }) = task.way(now) else { return };
    if now.history.offered(at, Callback::CanZero) == Some(crate::history::ZERO_NATIVE) {
        return;
    }
    report.exercised();
    let pieces = || task.made_of(callback);
    for piece in pieces() {
        if piece.layer() != by.layer {
            let (expected, actual) =
                (format!("writes of L{}", by.layer), format!("one of L{}", piece.layer()));
            return report.broken(task.events(Some(piece)), expected, actual);
        }
        if piece.enter.flags() & MAY_TRIM != 0 {
            report.broken(task.events(Some(piece)), "writes without MAY_TRIM", "MAY_TRIM");
        }
    }
    if let Err(untiled) = task.tiling(pieces(), MOST_SERVED) {
        report_untiled(&task, untiled, report);
    }
    bytes_are_zero(&task, pieces(), report);
}

/// A zero among these that has failed because it is not supported.
fn unsupported<'a>(now: &Now<'_>, task: &Task<'a>) -> Option<&'a Made> {
    let said = |made: &&Made| {
        let exit = made.exit.as_ref().filter(|exit| exit.result() < 0);
        let error = exit.and_then(|exit| {
            let left = || if made.layer() == 0 { Some(exit.errno()) } else { exit.err() };
            now.history.failure(made.callback, exit).or_else(left)
        });
        error.is_some_and(|error| [libc::ENOTSUP, libc::EOPNOTSUPP].contains(&error.cast_signed()))
    };
    task.made_of(Callback::Zero).find(said)
}

/// What a plugin cannot do is done with its pwrite.
fn fallback(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(task) = Task::ending(now).filter(|task| task.callback == Callback::Zero) else { return };
    if task.flags & FAST_ZERO != 0 {
        return;
    }
    let Some(plugin) = now.history.chain(task.from.chain).into_iter().find(|handle| handle.layer == 0) else {
        return;
    };
    let missing = !now.history.implements(plugin, Callback::Zero);
    let writes = || task.made_of(Callback::Pwrite);
    let zero = unsupported(now, &task).filter(|zero| zero.layer() == 0);
    // With somebody's plugin errno need not be what it has told the server.
    let certain = now.history.layer(0).is_some_and(|layer| layer.target.is_none());
    if zero.is_none() && !(missing && writes().next().is_some()) || !certain && writes().next().is_none() {
        return;
    }
    report.exercised();
    if let Err(untiled) = task.tiling(writes(), MOST_SERVED) {
        report_untiled(&task, untiled, report);
    }
    bytes_are_zero(&task, writes(), report);
}

/// What is not fast is not done.
fn fast_no_fallback(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(task) = Task::ending(now) else { return };
    if task.callback != Callback::Zero || task.flags & FAST_ZERO == 0 {
        return;
    }
    report.exercised();
    if let Some(write) = task.made_of(Callback::Pwrite).next() {
        return report.broken(task.events(Some(write)), "no write for a fast zero", "one");
    }
    let refused = now.history.offered(task.from, Callback::CanFastZero) == Some(0);
    // With somebody's plugin errno need not be what it has told the server.
    let certain = now.history.layer(0).is_some_and(|layer| layer.target.is_none());
    let nobody = task.made().is_empty() && !task.of_filter && !refused;
    let emulated = nobody && matches!(task.way(now), Some(Way::Emulated { .. }));
    let zero = unsupported(now, &task).filter(|_| certain);
    if (emulated || zero.is_some()) && task.error() != Some(libc::ENOTSUP.cast_unsigned()) {
        let actual = task.error().map_or("success".to_owned(), |error| format!("error {error}"));
        report.broken(task.events(zero), "it fails with ENOTSUP", actual);
    }
}
