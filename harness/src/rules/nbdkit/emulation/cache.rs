//! nbdkit-plugin(3), ".can_cache": reads in place of cache.

use layers_trace::Callback::{Cache, Pread};

use super::task::{Task, watches};
use crate::history::Way;
use crate::protocol::MOST_SERVED;
use crate::rules::check::{Now, Report, Rule, Said, at, by, given, unless};

pub(super) const RULES: &[Rule] = &[Rule {
    id: "emul.cache.as-reads",
    statement: "Where can_cache says emulate, the range is read, in ascending pieces of 64 MiB or less without flags; where it says native and there is no cache, the request succeeds without a call.",
    clause: "nbdkit-plugin(3), Flags, .can_cache and .cache",
    antecedent: "cache asked for where can_cache says emulate, or native without a callback",
    good: "L1 can_cache=1; NBD_CMD_CACHE { L1.pread }",
    bad: "L1 can_cache=1; NBD_CMD_CACHE { L1.pread count=256 }",
    fix: "read all of it, and throw it away",
    check: by!(at(watches(&[Cache]), as_reads)),
    ..Rule::REQUIRED.since(1, 13, 4)
}];

/// Reading is caching.
fn as_reads(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let task = Task::of(Cache, now)?;
    unless(task.made().is_empty() && (task.of_filter || !task.succeeded()))?;
    let by = match task.way(now) {
        Some(Way::Emulated { by, .. }) => Some(by),
        Some(Way::Itself(_)) => None,
        _ => return None,
    };
    report.exercised();
    let other = task.made().iter().find(|made| {
        by.is_none_or(|by| made.callback != Pread || made.layer() != by.layer || made.enter.flags() != 0)
    });
    if let Some(other) = other {
        let expected = by.map_or("no call".to_owned(), |by| format!("reads of L{} without flags", by.layer));
        return report.broken((task.asked, other), expected, "another call");
    }
    given(by.is_some())?;
    task.tiles(task.made().iter(), MOST_SERVED, report)
}
