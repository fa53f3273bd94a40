//! nbdkit-plugin(3), ".can_extents" and "Extents list": extents that the server makes up, and those that it cannot use.

use layers_trace::Callback::Extents;

use super::task::{Task, watches};
use crate::history::Way;
use crate::rules::check::{Now, Party, Report, Rule, Said, at, by, given};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "emul.extents.synthetic",
        statement: "Where can_extents says no the server answers by itself, and neither that layer nor one inside it is asked for extents.",
        clause: "nbdkit-plugin(3), .extents",
        antecedent: "extents asked for where can_extents says no",
        good: "L1 can_extents=0; NBD_CMD_BLOCK_STATUS {} = 0 list=512:0",
        bad: "L0 can_extents=0; NBD_CMD_BLOCK_STATUS { L0.extents } = 0 list=512:0",
        also: &["data.extents.gate", "data.one-per-request"],
        fix: "answer that all is allocated",
        check: by!(at(watches(&[Extents]), synthetic)),
        ..Rule::REQUIRED.since(1, 11, 10)
    },
    Rule {
        id: "emul.extents.nonempty",
        statement: "A plugin's extents that succeeds has added an extent that overlaps the offset; otherwise the request fails with EINVAL.",
        clause: "nbdkit-plugin(3), Extents list",
        antecedent: "a plugin's extents that succeeds",
        good: "NBD_CMD_BLOCK_STATUS { L0.extents = 0 extents=1 }",
        bad: "NBD_CMD_BLOCK_STATUS { L0.extents = 0 extents=0 }",
        fix: "add at least the extent at the offset, in ascending order, or fail",
        check: by!(at(watches(&[Extents]), nonempty)),
        ..Rule::REQUIRED.since(1, 11, 10).of(Party::Plugin)
    },
];

/// Nobody is asked who has nothing to say.
fn synthetic(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let task = Task::of(Extents, now)?;
    let Some(Way::Itself(handle)) = task.way(now) else { return None };
    // It may fail before anybody thinks of the layers: on a connection that is over, or without a context.
    given(task.succeeded() || !task.made().is_empty())?;
    report.exercised();
    let call = task.made_of(Extents).next()?;
    let expected = format!("no extents of L{} or below", handle.layer);
    report.broken((task.asked, call), expected, "one")
}

/// An answer without an extent is none.
fn nonempty(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if now.is_exit() && now.event.layer == 0 {
        return of_plugin(now, report);
    }
    let task = Task::of(Extents, now)?;
    let call = task.made_of(Extents).last().filter(|call| call.layer() == 0)?;
    given(call.exit.as_ref().is_some_and(|exit| exit.result() == 0 && exit.b == 0))?;
    report.exercised();
    given(task.error() != Some(libc::EINVAL.cast_unsigned()))?;
    report.broken_by(Party::Server, (task.asked, call), "failure with EINVAL", task.outcome())
}

/// A reference plugin leaves its list empty on purpose, and is not blamed for it.
fn of_plugin(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let call = now.call.filter(|_| now.event.result() == 0)?;
    if now.event.b > 0 {
        return report.exercised();
    }
    given(now.history.is_foreign(0))?;
    report.broken(call, "at least one extent", "none")
}
