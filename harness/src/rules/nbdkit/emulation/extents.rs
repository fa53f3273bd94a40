//! nbdkit-plugin(3), ".can_extents" and "Extents list": extents that the server makes up, and those that it cannot use.

use layers_trace::Callback;

use super::task::{Task, watches};
use crate::history::Way;
use crate::rules::check::{Now, Party, Report, Rule, at, by};
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "emul.extents.synthetic",
        since: Version(1, 11, 10),
        statement: "Where can_extents says no the server answers by itself, and neither that layer nor one inside it is asked for extents.",
        clause: "nbdkit-plugin(3), .extents",
        antecedent: "extents asked for where can_extents says no",
        good: "L1 can_extents=0; NBD_CMD_BLOCK_STATUS {} = 0 list=512:0",
        bad: "L0 can_extents=0; NBD_CMD_BLOCK_STATUS { L0.extents } = 0 list=512:0",
        also: &["data.extents.gate", "data.one-per-request"],
        fix: "answer that all is allocated",
        check: by!(at(watches(&[Callback::Extents]), synthetic)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "emul.extents.nonempty",
        party: Party::Plugin,
        since: Version(1, 11, 10),
        statement: "A plugin's extents that succeeds has added an extent that overlaps the offset; otherwise the request fails with EINVAL.",
        clause: "nbdkit-plugin(3), Extents list",
        antecedent: "a plugin's extents that succeeds",
        good: "NBD_CMD_BLOCK_STATUS { L0.extents = 0 extents=1 }",
        bad: "NBD_CMD_BLOCK_STATUS { L0.extents = 0 extents=0 }",
        fix: "add at least the extent at the offset, in ascending order, or fail",
        check: by!(at(watches(&[Callback::Extents]), nonempty)),
        ..Rule::REQUIRED
    },
];

/// Nobody is asked who has nothing to say.
fn synthetic(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(task) = Task::ending(now).filter(|task| task.callback == Callback::Extents) else { return };
    let Some(Way::Itself(handle)) = task.way(now) else { return };
    // It may fail before anybody thinks of the layers: on a connection that is over, or without a context.
    if !task.succeeded() && task.made().is_empty() {
        return;
    }
    report.exercised();
    if let Some(call) = task.made_of(Callback::Extents).next() {
        let expected = format!("no extents of L{} or below", handle.layer);
        report.broken(task.events(Some(call)), expected, "one");
    }
}

/// An answer without an extent is none.
fn nonempty(now: &Now<'_>, report: &mut Report<'_>) {
    if now.is_exit() && now.event.layer == 0 {
        return of_plugin(now, report);
    }
    let Some(task) = Task::ending(now).filter(|task| task.callback == Callback::Extents) else { return };
    let empty = |call: &&crate::history::Made| {
        call.layer() == 0 && call.exit.as_ref().is_some_and(|exit| exit.result() == 0 && exit.b == 0)
    };
    let Some(call) = task.made_of(Callback::Extents).last().filter(empty) else { return };
    report.exercised();
    if task.error() != Some(libc::EINVAL.cast_unsigned()) {
        let actual = task.error().map_or("success".to_owned(), |error| format!("error {error}"));
        report.broken_by(Party::Server, task.events(Some(call)), "failure with EINVAL", actual);
    }
}

/// A reference plugin leaves its list empty on purpose, and is not blamed for it.
fn of_plugin(now: &Now<'_>, report: &mut Report<'_>) {
    let wrapped = now.history.layer(0).is_some_and(|layer| layer.target.is_some());
    let Some(call) = now.call.filter(|_| now.event.result() == 0) else { return };
    if now.event.b > 0 {
        report.exercised();
    } else if wrapped {
        report.broken([&call.enter, now.event], "at least one extent", "none");
    }
}
