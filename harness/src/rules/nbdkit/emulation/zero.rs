//! nbdkit-filter(3), ".can_zero"; nbdkit-plugin(3), ".zero": zeroes that are written.

use layers_trace::Callback::{self, CanFastZero, CanZero, Pwrite, Zero};

use super::task::{Task, watches};
use crate::history::{FAST_ZERO, MAY_TRIM, Made, Way, ZERO_NATIVE};
use crate::protocol::MOST_SERVED;
use crate::rules::check::{Now, Report, Rule, Said, at, by, given, unless};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "emul.zero.as-writes",
        statement: "Where can_zero says emulate, zeroes are written with that layer's pwrite: in ascending pieces of 64 MiB or less that cover the range, without MAY_TRIM.",
        clause: "nbdkit-filter(3), .can_write … .can_cache (NBDKIT_ZERO_EMULATE); nbdkit-plugin(3), .can_zero",
        antecedent: "zeroes asked for where can_zero says emulate",
        good: "L1 can_zero=1; NBD_CMD_WRITE_ZEROES { L1.pwrite }",
        bad: "L1 can_zero=1; NBD_CMD_WRITE_ZEROES { L1.pwrite count=256 }",
        fix: "write zeroes until the end of the range",
        check: by!(at(watches(&[Zero]), as_writes)),
        ..Rule::REQUIRED.since(1, 31, 9)
    },
    Rule {
        id: "emul.zero.fallback",
        statement: "If a plugin has no zero, or it fails with ENOTSUP or EOPNOTSUPP, the same range is written with pwrite, in pieces that cover it.",
        clause: "nbdkit-plugin(3), .zero and .can_zero",
        antecedent: "zeroes asked for of a plugin without zero, or whose zero fails in this way",
        good: "NBD_CMD_WRITE_ZEROES { L0.zero = ENOTSUP L0.pwrite }",
        bad: "NBD_CMD_WRITE_ZEROES { L0.zero = ENOTSUP L0.pwrite count=256 }",
        fix: "write zeroes to the whole range, each piece where the one before has ended",
        check: by!(at(watches(&[Zero]), fallback)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "emul.zero.fast-no-fallback",
        statement: "Zeroes asked for with FAST_ZERO are never written with pwrite: where zero cannot be used the request fails with ENOTSUP.",
        clause: "nbdkit-plugin(3), .zero and .can_fast_zero",
        antecedent: "zeroes asked for with FAST_ZERO",
        good: "NBD_CMD_WRITE_ZEROES flags=FAST_ZERO { L0.zero = ENOTSUP } = ENOTSUP",
        bad: "NBD_CMD_WRITE_ZEROES flags=FAST_ZERO { L0.zero = ENOTSUP L0.pwrite } = ENOTSUP",
        fix: "fail with ENOTSUP",
        check: by!(at(watches(&[Zero]), fast_no_fallback)),
        ..Rule::FORBIDDEN.since(1, 15, 0)
    },
];

/// The range is written with this callback, and with zeroes.
fn is_written(task: &Task<'_>, write: Callback, report: &mut Report<'_>) -> Said {
    task.tiles(task.made_of(write), MOST_SERVED, report);
    for piece in task.made_of(write).filter(|piece| piece.inside.nonzero > 0) {
        report.broken((task.asked, piece), "a buffer full of zeroes", "other bytes in it");
    }
    Some(())
}

/// Where a layer wants it, the server writes.
fn as_writes(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let task = Task::of(Zero, now)?;
    given(task.flags & FAST_ZERO == 0)?;
    // A filter that makes nothing of it has its reasons.
    unless(task.made().is_empty() && (task.of_filter || !task.succeeded()))?;
    let Some(Way::Emulated { at, by, callback }) = task.way(now) else { return None };
    given(now.history.offered(at, CanZero) != Some(ZERO_NATIVE))?;
    report.exercised();
    for piece in task.made_of(callback) {
        if piece.layer() != by.layer {
            let expected = format!("writes of L{}", by.layer);
            return report.broken((task.asked, piece), expected, format_args!("one of L{}", piece.layer()));
        }
        if piece.enter.flags() & MAY_TRIM != 0 {
            report.broken((task.asked, piece), "writes without MAY_TRIM", "MAY_TRIM");
        }
    }
    is_written(&task, callback, report)
}

/// With somebody's plugin errno need not be what it has told the server.
fn knows_errors(now: &Now<'_>) -> bool {
    now.history.layer(0).is_some_and(|plugin| plugin.target.is_none())
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
    task.made_of(Zero).find(said)
}

/// What a plugin cannot do is done with its pwrite.
fn fallback(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let task = Task::of(Zero, now)?;
    given(task.flags & FAST_ZERO == 0)?;
    let plugin = now.history.chain(task.from.chain).into_iter().find(|handle| handle.layer == 0)?;
    let missing = !now.history.implements(plugin, Zero);
    let writes = task.made_of(Pwrite).next().is_some();
    let fails = unsupported(now, &task).is_some_and(|zero| zero.layer() == 0);
    given((fails || missing && writes) && (writes || knows_errors(now)))?;
    report.exercised();
    is_written(&task, Pwrite, report)
}

/// What is not fast is not done.
fn fast_no_fallback(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let task = Task::ending(now)?;
    given(task.callback == Zero && task.flags & FAST_ZERO != 0)?;
    report.exercised();
    if let Some(write) = task.made_of(Pwrite).next() {
        return report.broken((task.asked, write), "no write for a fast zero", "one");
    }
    let refused = now.history.offered(task.from, CanFastZero) == Some(0);
    let nobody = task.made().is_empty() && !task.of_filter && !refused;
    let emulated = nobody && matches!(task.way(now), Some(Way::Emulated { .. }));
    let zero = unsupported(now, &task).filter(|_| knows_errors(now));
    given((emulated || zero.is_some()) && task.error() != Some(libc::ENOTSUP.cast_unsigned()))?;
    report.broken((task.asked, zero), "it fails with ENOTSUP", task.outcome())
}
