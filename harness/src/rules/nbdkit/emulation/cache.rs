//! nbdkit-plugin(3), ".can_cache": reads in place of cache.

use layers_trace::Callback;

use super::super::data::range::MOST;
use super::task::{Task, watches};
use crate::history::Way;
use crate::rules::check::{Check, Checker, Now, Report, Rule, Watch};
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[Rule {
    id: "emul.cache.as-reads",
    since: Version(1, 13, 4),
    statement: "Where can_cache says emulate, the range is read, in ascending pieces of 64 MiB or less without flags; where it says native and there is no cache, the request succeeds without a call.",
    clause: "nbdkit-plugin(3), Flags, .can_cache and .cache",
    antecedent: "cache asked for where can_cache says emulate, or native without a callback",
    good: "L1 can_cache=1; NBD_CMD_CACHE { L1.pread }",
    bad: "L1 can_cache=1; NBD_CMD_CACHE { L1.pread count=256 }",
    fix: "read all of it, and throw it away",
    check: Checker::Trace(|| Box::new(AsReads)),
    ..Rule::REQUIRED
}];

/// Reading is caching.
struct AsReads;

impl Check for AsReads {
    fn watches(&self) -> Watch {
        watches(&[Callback::Cache])
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(task) = Task::ending(now).filter(|task| task.callback == Callback::Cache) else { return };
        if task.made().is_empty() && (task.of_filter || !task.succeeded()) {
            return;
        }
        let by = match task.way(now) {
            Some(Way::Emulated { by, .. }) => Some(by),
            Some(Way::Itself(_)) => None,
            _ => return,
        };
        report.exercised();
        let other = task.made().iter().find(|made| {
            by.is_none_or(|by| {
                made.callback != Callback::Pread || made.layer() != by.layer || made.enter.flags() != 0
            })
        });
        if let Some(other) = other {
            let expected =
                by.map_or("no call".to_owned(), |by| format!("reads of L{} without flags", by.layer));
            return report.broken(task.events(Some(other)), expected, "another call");
        }
        if by.is_some()
            && let Err(untiled) = task.tiling(task.made().iter(), MOST)
        {
            report.broken(task.events(untiled.piece), untiled.expected, untiled.actual);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::*;
    use layers_trace::{Callback, Event, Kind, Operation};

    /// Every layer wants caching to be reading, and it is, in these pieces.
    fn read(pieces: &[(u64, u32)]) -> Script {
        let mut script = reference();
        for layer in 0..=2 {
            script = script.changed(Kind::Exit, layer, Callback::CanCache, 1, |exit| exit.a = 1);
        }
        let chain: Vec<u32> = (0..=2)
            .map(|layer| script.events[script.index(Kind::Enter, layer, Callback::Pread, 0)].handle)
            .collect();
        script = (0..=2).rev().fold(script, |script, layer| script.without(layer, Callback::Cache, 0));
        let found = |event: &Event| event.kind == Kind::Reply && event.operation() == Some(Operation::Cache);
        let reply = script.events.iter().position(found).unwrap();
        script.with(reply, |script| {
            for (offset, count) in pieces {
                script.through_chain(&chain, Callback::Pread, 0, |enter| {
                    (enter.a, enter.c) = (*offset, *count)
                });
            }
        })
    }

    #[test]
    fn caching_is_reading_where_a_layer_wants_that() {
        const RULE: &str = "emul.cache.as-reads";
        accepts(RULE, read(&[(4096, 512)]));
        accepts(RULE, read(&[(4096, 256), (4352, 256)]));
        for wrong in [&[(4096, 256)][..], &[(4096, 256), (4096, 256)], &[(4096, 256), (4400, 8)], &[]] {
            rejects(RULE, read(wrong));
        }
        rejects(RULE, read(&[(4096, 512)]).changed(Kind::Enter, 2, Callback::Pread, 1, |enter| enter.d = 2));
        assert_eq!(judged(reference()).result(RULE).unwrap().exercised, 0);
    }

    #[test]
    fn native_caching_without_a_callback_is_nothing() {
        const RULE: &str = "emul.cache.as-reads";
        let missing = || (0..=2).fold(reference(), |script, layer| script.lacking(layer, Callback::Cache));
        accepts(RULE, missing());
        let read = missing().index(Kind::Enter, 2, Callback::Pread, 0);
        let handle = missing().events[read].handle;
        let found = |event: &Event| event.kind == Kind::Reply && event.operation() == Some(Operation::Cache);
        let reply = missing().events.iter().position(found).unwrap();
        rejects(
            RULE,
            missing().with(reply, |script| {
                let enter = script.enter(2, Callback::Pread);
                (enter.handle, enter.a, enter.c) = (handle, 4096, 512);
                let call = enter.position;
                script.exit(call, 0);
            }),
        );
    }
}
