//! nbdkit-plugin(3), "Flags" and ".can_fua": a flush in place of FUA.

use layers_trace::Callback::{self, CanFua, Flush, Pwrite, Trim, Zero};

use super::task::{Task, watches};
use crate::history::{FAST_ZERO, FUA, FUA_EMULATE, FUA_NATIVE, Handle, Made, Way, present};
use crate::rules::check::{Now, Report, Rule, Said, at, by, given};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "emul.fua.flush-after",
        statement: "Where a plugin's can_fua says emulate, a write, trim or zero with FUA comes to it without the flag, and one flush follows on the same thread if it has succeeded, and none if it has failed.",
        clause: "nbdkit-plugin(3), Flags and .can_fua",
        antecedent: "a write, trim or zero with FUA on a plugin whose can_fua says emulate",
        good: "L0 can_fua=1; NBD_CMD_WRITE flags=FUA { L0.pwrite flags=0 L0.flush }",
        bad: "L0 can_fua=1; NBD_CMD_WRITE flags=FUA { L0.pwrite flags=0 }",
        fix: "flush once the request has been carried out, before it is answered",
        check: by!(at(watches(WRITING), flush_after)),
        ..Rule::REQUIRED.since(1, 3, 0)
    },
    Rule {
        id: "emul.fua.split",
        statement: "Where zeroes with FUA are written in several pieces, each piece has FUA if that is native, and one flush follows the last piece if it is emulated.",
        clause: "nbdkit-filter(3), .can_write … .can_cache (.can_fua)",
        antecedent: "zeroes with FUA that are written in more than one piece",
        good: "L1 can_zero=1; NBD_CMD_WRITE_ZEROES flags=FUA { L1.pwrite count=256 flags=FUA L1.pwrite offset=4352 count=256 flags=FUA }",
        bad: "L1 can_zero=1; NBD_CMD_WRITE_ZEROES flags=FUA { L1.pwrite count=256 flags=FUA L1.pwrite offset=4352 count=256 flags=0 }",
        fix: "pass FUA on with every piece, or flush once at the end",
        check: by!(at(watches(&[Zero]), split)),
        ..Rule::REQUIRED.since(1, 31, 9)
    },
];

const WRITING: &[Callback] = &[Pwrite, Trim, Zero];

fn plugin_of<'a>(now: &Now<'a>, task: &Task<'_>) -> Option<&'a Handle> {
    let plugin = now.history.chain(task.from.chain).into_iter().find(|handle| handle.layer == 0)?;
    now.history.implements(plugin, Flush).then_some(plugin)
}

/// A flush makes up for FUA.
fn flush_after(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let task = Task::ending(now)?;
    let on_plugin = task.made().iter().any(|made| made.layer() == 0);
    given(WRITING.contains(&task.callback) && task.flags & FUA != 0 && on_plugin)?;
    let plugin = plugin_of(now, &task)?;
    given(now.history.offered(plugin, CanFua) == Some(FUA_EMULATE))?;
    let made = || task.made().iter().filter(|made| made.layer() == 0);
    let is_flush = |made: &&Made| present(made.callback) == Flush;
    let (last, flushes) = (made().rfind(|made| !is_flush(made))?, made().filter(is_flush).count());
    report.exercised();
    if let Some(write) = made().find(|made| made.enter.flags() & FUA != 0) {
        return report.broken((task.asked, write), "no FUA on the plugin", "FUA");
    }
    let first = made().find(is_flush);
    let expected = if last.failed() { 0 } else { 1 };
    // What has failed otherwise need not have come as far as the flush.
    if flushes > expected || flushes < expected && task.succeeded() {
        let expected = match expected {
            0 => "no flush, because it has failed",
            _ => "one flush of the plugin after it",
        };
        return report.broken((task.asked, last), expected, flushes);
    }
    if let Some(flush) = first.filter(|flush| flush.enter.position < last.enter.position) {
        let what = format!("the flush after {}", last.callback);
        return report.without_present().broken((task.asked, (flush, last)), what, "before it");
    }
    let flush = first.filter(|flush| flush.enter.flags() != 0)?;
    report.broken((task.asked, flush), "no flags", format!("{:#x}", flush.enter.flags()))
}

/// FUA of something that is done in pieces.
fn split(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let task = Task::ending(now)?;
    given(task.callback == Zero && task.flags & FUA != 0 && task.flags & FAST_ZERO == 0)?;
    let pieces = || task.made_of(Pwrite);
    let last = pieces().last().filter(|_| pieces().nth(1).is_some())?;
    let at = match task.way(now) {
        Some(Way::Emulated { at, .. }) => Some(at),
        // A plugin's zero that is not supported.
        _ => plugin_of(now, &task),
    };
    let plugin = plugin_of(now, &task)?;
    let answer = |handle| now.history.offered(handle, CanFua);
    if at.and_then(answer) == Some(FUA_NATIVE) && (last.layer() > 0 || answer(plugin) == Some(FUA_NATIVE)) {
        let without = pieces().find(|piece| piece.enter.flags() & FUA == 0);
        let cited = (task.asked, without);
        return report.expect(without.is_none(), cited, "FUA on each piece", "none on this one");
    }
    // A filter may say emulate over a plugin that says native: what becomes of FUA then is that filter's affair.
    given(answer(plugin) == Some(FUA_EMULATE))?;
    report.exercised();
    let early = Task::inside(pieces().filter(|piece| piece.enter.position < last.enter.position));
    let all = Task::inside(task.made().iter());
    let only_ours = now.history.layers().iter().all(|layer| layer.target.is_none());
    given(task.succeeded() && only_ours && (all.flushes != 1 || early.flushes > 0))?;
    let actual = format!("{}, of which {} before it", all.flushes, early.flushes);
    report.broken((task.asked, last), "one flush, after the last piece", actual)
}
