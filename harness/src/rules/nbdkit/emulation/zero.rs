//! nbdkit-filter(3), ".can_zero"; nbdkit-plugin(3), ".zero": zeroes that are written.

use layers_trace::Callback;

use super::super::data::range::MOST;
use super::task::{Task, Untiled, watches};
use crate::history::{FAST_ZERO, MAY_TRIM, Made, Way};
use crate::rules::check::{Check, Checker, Now, Report, Rule, Watch};
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
        check: Checker::Trace(|| Box::new(AsWrites)),
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
        check: Checker::Trace(|| Box::new(Fallback)),
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
        check: Checker::Trace(|| Box::new(FastNoFallback)),
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
struct AsWrites;

impl Check for AsWrites {
    fn watches(&self) -> Watch {
        watches(&[Callback::Zero])
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
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
        if let Err(untiled) = task.tiling(pieces(), MOST) {
            report_untiled(&task, untiled, report);
        }
        bytes_are_zero(&task, pieces(), report);
    }
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
struct Fallback;

impl Check for Fallback {
    fn watches(&self) -> Watch {
        watches(&[Callback::Zero])
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(task) = Task::ending(now).filter(|task| task.callback == Callback::Zero) else { return };
        if task.flags & FAST_ZERO != 0 {
            return;
        }
        let Some(plugin) = now.history.chain(task.from.chain).into_iter().find(|handle| handle.layer == 0)
        else {
            return;
        };
        let missing = !now.history.implements(plugin, Callback::Zero);
        let writes = || task.made_of(Callback::Pwrite);
        let zero = unsupported(now, &task).filter(|zero| zero.layer() == 0);
        // With somebody's plugin errno need not be what it has told the server.
        let certain = now.history.layer(0).is_some_and(|layer| layer.target.is_none());
        if zero.is_none() && !(missing && writes().next().is_some()) || !certain && writes().next().is_none()
        {
            return;
        }
        report.exercised();
        if let Err(untiled) = task.tiling(writes(), MOST) {
            report_untiled(&task, untiled, report);
        }
        bytes_are_zero(&task, writes(), report);
    }
}

/// What is not fast is not done.
struct FastNoFallback;

impl Check for FastNoFallback {
    fn watches(&self) -> Watch {
        watches(&[Callback::Zero])
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
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
}

#[cfg(test)]
mod tests {
    use crate::history::FAST_ZERO as FAST;
    use crate::protocol::flag;
    use crate::rules::testing::*;
    use layers_trace::{Callback, Event, Kind, Operation};

    fn answering(layer: u8, query: Callback, answer: u64, script: Script) -> Script {
        script.changed(Kind::Exit, layer, query, 1, |exit| exit.a = answer)
    }

    fn nothing(script: Script) -> Script {
        (0..=2).rev().fold(script, |script, layer| script.without(layer, Callback::Zero, 0))
    }

    /// The client's record of this kind about zeroes.
    fn zeroes(script: &Script, kind: Kind) -> usize {
        let found = |event: &Event| event.kind == kind && event.operation() == Some(Operation::Zero);
        script.events.iter().position(found).unwrap()
    }

    /// The handles of the chain that takes requests, plugin's first.
    fn handles(script: &Script) -> Vec<u32> {
        (0..=2)
            .map(|layer| script.events[script.index(Kind::Enter, layer, Callback::Pread, 0)].handle)
            .collect()
    }

    /// Every layer wants zeroes to be written, and they are, in these pieces (offset and count).
    fn written(pieces: &[(u64, u32)]) -> Script {
        let mut script = reference();
        script = answering(0, Callback::CanZero, 0, script);
        for layer in 1..=2 {
            script = answering(layer, Callback::CanZero, 1, script);
        }
        let chain = handles(&script);
        let script = nothing(script);
        let reply = zeroes(&script, Kind::Reply);
        script.with(reply, |script| {
            for (offset, count) in pieces {
                script.through_chain(&chain, Callback::Pwrite, 0, |enter| {
                    (enter.a, enter.c) = (*offset, *count)
                });
            }
        })
    }

    #[test]
    fn zeroes_are_written_where_a_layer_wants_that() {
        const RULE: &str = "emul.zero.as-writes";
        accepts(RULE, written(&[(4096, 512)]));
        accepts(RULE, written(&[(4096, 500), (4596, 12)]));
        for wrong in [
            &[(4096, 500)][..],
            &[(4096, 500), (4600, 8)],
            &[(4096, 256), (4096, 256)],
            &[(4352, 256), (4096, 256)],
            &[(4096, 256), (4352, 512)],
            &[],
        ] {
            rejects(RULE, written(wrong));
        }
        let write = |change: fn(&mut Event)| {
            written(&[(4096, 512)]).changed(Kind::Enter, 2, Callback::Pwrite, 1, change)
        };
        rejects(RULE, write(|enter| enter.d = 1));
        let bytes =
            |seen| written(&[(4096, 512)]).changed(Kind::Exit, 0, Callback::Pwrite, 1, |exit| exit.b = seen);
        exercised_and_holds(RULE, bytes(1));
        rejects(RULE, bytes(2));
    }

    /// The plugin cannot zero, and its pwrite is called with these pieces.
    fn fallen_back(pieces: &[(u64, u32)]) -> Script {
        let script = reference().changed(Kind::Exit, 0, Callback::Zero, 0, |exit| {
            (exit.a, exit.c) = (u64::MAX, libc::EOPNOTSUPP.cast_unsigned());
        });
        let chain = handles(&script);
        let after = script.index(Kind::Exit, 0, Callback::Zero, 0) + 1;
        script.with(after, |script| {
            for (offset, count) in pieces {
                let enter = script.enter(0, Callback::Pwrite);
                (enter.handle, enter.a, enter.c) = (chain[0], *offset, *count);
                let call = enter.position;
                script.exit(call, 0);
            }
        })
    }

    #[test]
    fn what_a_plugin_cannot_zero_is_written() {
        const RULE: &str = "emul.zero.fallback";
        accepts(RULE, fallen_back(&[(4096, 512)]));
        accepts(RULE, fallen_back(&[(4096, 128), (4224, 384)]));
        for wrong in [&[(4096, 128), (4096, 384)][..], &[(4096, 128)], &[]] {
            rejects(RULE, fallen_back(wrong));
        }
        // Where the plugin has not the callback at all, the outermost layer already writes.
        exercised_and_holds(RULE, written(&[(4096, 512)]).lacking(0, Callback::Zero));
        rejects(RULE, written(&[(4096, 256), (4096, 256)]).lacking(0, Callback::Zero));
    }

    fn fast(mut script: Script, error: i32) -> Script {
        let (request, reply) = (zeroes(&script, Kind::Request), zeroes(&script, Kind::Reply));
        script.events[request].d = flag::FAST_ZERO;
        (script.events[reply].a, script.events[reply].c) = (u64::MAX, error.cast_unsigned());
        for event in script.events.iter_mut().filter(|event| event.callback() == Some(Callback::Zero)) {
            if event.kind == Kind::Enter {
                event.d = FAST;
            } else {
                event.a = u64::MAX;
                event.d = libc::EOPNOTSUPP.cast_unsigned();
            }
        }
        script
    }

    #[test]
    fn a_fast_zero_is_not_written() {
        const RULE: &str = "emul.zero.fast-no-fallback";
        exercised_and_holds(RULE, fast(fallen_back(&[]), libc::ENOTSUP));
        rejects(RULE, fast(fallen_back(&[]), libc::EIO));
        rejects(RULE, fast(fallen_back(&[(4096, 512)]), libc::ENOTSUP));
        exercised_and_holds(RULE, fast(written(&[]), libc::ENOTSUP));
        rejects(RULE, fast(written(&[(4096, 512)]), libc::ENOTSUP));
        rejects(RULE, fast(written(&[]), libc::EINVAL));
    }
}
