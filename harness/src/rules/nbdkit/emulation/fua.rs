//! nbdkit-plugin(3), "Flags" and ".can_fua": a flush in place of FUA.

use layers_trace::Callback;

use super::task::{Task, watches};
use crate::history::{FAST_ZERO, FUA, FUA_EMULATE, FUA_NATIVE, Handle, Made, Way, present};
use crate::rules::check::{Now, Report, Rule, at, by};
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "emul.fua.flush-after",
        since: Version(1, 3, 0),
        statement: "Where a plugin's can_fua says emulate, a write, trim or zero with FUA comes to it without the flag, and one flush follows on the same thread if it has succeeded, and none if it has failed.",
        clause: "nbdkit-plugin(3), Flags and .can_fua",
        antecedent: "a write, trim or zero with FUA on a plugin whose can_fua says emulate",
        good: "L0 can_fua=1; NBD_CMD_WRITE flags=FUA { L0.pwrite flags=0 L0.flush }",
        bad: "L0 can_fua=1; NBD_CMD_WRITE flags=FUA { L0.pwrite flags=0 }",
        fix: "flush once the request has been carried out, before it is answered",
        check: by!(at(watches(WRITING), flush_after)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "emul.fua.split",
        since: Version(1, 31, 9),
        statement: "Where zeroes with FUA are written in several pieces, each piece has FUA if that is native, and one flush follows the last piece if it is emulated.",
        clause: "nbdkit-filter(3), .can_write … .can_cache (.can_fua)",
        antecedent: "zeroes with FUA that are written in more than one piece",
        good: "L1 can_zero=1; NBD_CMD_WRITE_ZEROES flags=FUA { L1.pwrite count=256 flags=FUA L1.pwrite offset=4352 count=256 flags=FUA }",
        bad: "L1 can_zero=1; NBD_CMD_WRITE_ZEROES flags=FUA { L1.pwrite count=256 flags=FUA L1.pwrite offset=4352 count=256 flags=0 }",
        fix: "pass FUA on with every piece, or flush once at the end",
        check: by!(at(watches(&[Callback::Zero]), split)),
        ..Rule::REQUIRED
    },
];

const WRITING: &[Callback] = &[Callback::Pwrite, Callback::Trim, Callback::Zero];

fn plugin_of<'a>(now: &Now<'a>, task: &Task<'_>) -> Option<&'a Handle> {
    let plugin = now.history.chain(task.from.chain).into_iter().find(|handle| handle.layer == 0)?;
    now.history.implements(plugin, Callback::Flush).then_some(plugin)
}

/// A flush makes up for FUA.
fn flush_after(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(task) = Task::ending(now) else { return };
    let on_plugin = task.made().iter().any(|made| made.layer() == 0);
    if !WRITING.contains(&task.callback) || task.flags & FUA == 0 || !on_plugin {
        return;
    }
    let Some(plugin) = plugin_of(now, &task) else { return };
    if now.history.offered(plugin, Callback::CanFua) != Some(FUA_EMULATE) {
        return;
    }
    let made = || task.made().iter().filter(|made| made.layer() == 0);
    let is_flush = |made: &&Made| present(made.callback) == Callback::Flush;
    let (Some(last), flushes) = (made().rfind(|made| !is_flush(made)), made().filter(is_flush).count())
    else {
        return;
    };
    report.exercised();
    if let Some(write) = made().find(|made| made.enter.flags() & FUA != 0) {
        return report.broken(task.events(Some(write)), "no FUA on the plugin", "FUA");
    }
    let first = made().find(is_flush);
    let expected = if last.failed() { 0 } else { 1 };
    // What has failed otherwise need not have come as far as the flush.
    if flushes > expected || flushes < expected && task.succeeded() {
        let expected = match expected {
            0 => "no flush, because it has failed",
            _ => "one flush of the plugin after it",
        };
        return report.broken(task.events(Some(last)), expected, format!("{flushes}"));
    }
    if let Some(flush) = first.filter(|flush| flush.enter.position < last.enter.position) {
        let what = format!("the flush after {}", last.callback);
        return report.broken([task.asked, &flush.enter, &last.enter], what, "before it");
    }
    if let Some(flush) = first.filter(|flush| flush.enter.flags() != 0) {
        report.broken(task.events(Some(flush)), "no flags", format!("{:#x}", flush.enter.flags()));
    }
}

/// FUA of something that is done in pieces.
fn split(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(task) = Task::ending(now) else { return };
    if task.callback != Callback::Zero || task.flags & FUA == 0 || task.flags & FAST_ZERO != 0 {
        return;
    }
    let pieces = || task.made_of(Callback::Pwrite);
    let Some(last) = pieces().last().filter(|_| pieces().nth(1).is_some()) else { return };
    let at = match task.way(now) {
        Some(Way::Emulated { at, .. }) => Some(at),
        // A plugin's zero that is not supported.
        _ => plugin_of(now, &task),
    };
    let Some(plugin) = plugin_of(now, &task) else { return };
    let answer = |handle| now.history.offered(handle, Callback::CanFua);
    if at.and_then(answer) == Some(FUA_NATIVE) && (last.layer() > 0 || answer(plugin) == Some(FUA_NATIVE)) {
        report.exercised();
        if let Some(piece) = pieces().find(|piece| piece.enter.flags() & FUA == 0) {
            report.broken(task.events(Some(piece)), "FUA on each piece", "none on this one");
        }
        return;
    }
    // A filter may say emulate over a plugin that says native: what becomes of FUA then is that filter's affair.
    if answer(plugin) != Some(FUA_EMULATE) {
        return;
    }
    report.exercised();
    let early = Task::inside(pieces().filter(|piece| piece.enter.position < last.enter.position));
    let all = Task::inside(task.made().iter());
    let only_ours = now.history.layers().iter().all(|layer| layer.target.is_none());
    if task.succeeded() && only_ours && (all.flushes != 1 || early.flushes > 0) {
        let actual = format!("{}, of which {} before it", all.flushes, early.flushes);
        report.broken(task.events(Some(last)), "one flush, after the last piece", actual);
    }
}
