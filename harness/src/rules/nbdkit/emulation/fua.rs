//! nbdkit-plugin(3), "Flags" and ".can_fua": a flush in place of FUA.

use layers_trace::Callback;

use super::task::{Task, watches};
use crate::history::{FAST_ZERO, FUA, FUA_EMULATE, FUA_NATIVE, Handle, Made, Way, present};
use crate::rules::check::{Check, Checker, Now, Report, Rule, Watch};
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
        check: Checker::Trace(|| Box::new(FlushAfter)),
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
        check: Checker::Trace(|| Box::new(Split)),
        ..Rule::REQUIRED
    },
];

const WRITING: &[Callback] = &[Callback::Pwrite, Callback::Trim, Callback::Zero];

fn plugin_of<'a>(now: &Now<'a>, task: &Task<'_>) -> Option<&'a Handle> {
    let plugin = now.history.chain(task.from.chain).into_iter().find(|handle| handle.layer == 0)?;
    now.history.implements(plugin, Callback::Flush).then_some(plugin)
}

/// A flush makes up for FUA.
struct FlushAfter;

impl Check for FlushAfter {
    fn watches(&self) -> Watch {
        watches(WRITING)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
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
}

/// FUA of something that is done in pieces.
struct Split;

impl Check for Split {
    fn watches(&self) -> Watch {
        watches(&[Callback::Zero])
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
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
        if at.and_then(answer) == Some(FUA_NATIVE) && (last.layer() > 0 || answer(plugin) == Some(FUA_NATIVE))
        {
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
}

#[cfg(test)]
mod tests {
    use crate::history::FUA;
    use crate::protocol::flag;
    use crate::rules::testing::*;
    use layers_trace::{Callback, Event, Kind, Operation};

    fn index(script: &Script, kind: Kind, operation: Operation) -> usize {
        let found = |event: &Event| event.kind == kind && event.operation() == Some(operation);
        script.events.iter().position(found).unwrap()
    }

    fn handles(script: &Script) -> Vec<u32> {
        (0..=2)
            .map(|layer| script.events[script.index(Kind::Enter, layer, Callback::Pread, 0)].handle)
            .collect()
    }

    fn emulating(mut script: Script) -> Script {
        for layer in 0..=2 {
            script = script.changed(Kind::Exit, layer, Callback::CanFua, 1, |exit| exit.a = 1);
        }
        script
    }

    /// A call of the plugin's on its own handle, before the event at `at`.
    fn call(script: Script, at: usize, callback: Callback) -> Script {
        let handle = handles(&script)[0];
        script.with(at, |script| {
            let enter = script.enter(0, callback);
            enter.handle = handle;
            let call = enter.position;
            script.exit(call, 0);
        })
    }

    /// The request has FUA, which the plugin wants to have emulated, and this many flushes follow.
    fn flushed(operation: Operation, callback: Callback, times: usize) -> Script {
        let mut script = emulating(reference());
        let request = index(&script, Kind::Request, operation);
        script.events[request].d = flag::FUA;
        for layer in 1..=2 {
            script = script.changed(Kind::Enter, layer, callback, 0, |enter| enter.d |= FUA);
        }
        let after = script.index(Kind::Exit, 0, callback, 0) + 1;
        (0..times).fold(script, |script, _| call(script, after, Callback::Flush))
    }

    #[test]
    fn a_flush_follows_where_fua_is_emulated() {
        const RULE: &str = "emul.fua.flush-after";
        for (operation, callback) in [
            (Operation::Write, Callback::Pwrite),
            (Operation::Trim, Callback::Trim),
            (Operation::Zero, Callback::Zero),
        ] {
            let good = || flushed(operation, callback, 1);
            exercised_and_holds(RULE, good());
            rejects(RULE, flushed(operation, callback, 0));
            rejects(RULE, flushed(operation, callback, 2));
            rejects(RULE, good().changed(Kind::Enter, 0, callback, 0, |enter| enter.d |= FUA));
            let before = good().index(Kind::Enter, 0, callback, 0);
            let nth = good()
                .events
                .iter()
                .take(before)
                .filter(|event| {
                    event.kind == Kind::Enter && event.layer == 0 && event.callback() == Some(Callback::Flush)
                })
                .count();
            rejects(RULE, good().moved(0, Callback::Flush, nth, before));
            rejects(RULE, good().changed(Kind::Exit, 0, callback, 0, |exit| exit.a = u64::MAX));
            rejects(RULE, good().changed(Kind::Enter, 0, Callback::Flush, nth, |enter| enter.d = FUA));
        }
        assert_eq!(judged(reference()).result(RULE).unwrap().exercised, 0);
    }

    /// Zeroes with FUA are written by L1 in two pieces: FUA of each, and the flushes after each.
    fn split(can_fua: u64, fua: [bool; 2], flushes: [usize; 2]) -> Script {
        let mut script = reference();
        for layer in 0..=2 {
            script = script.changed(Kind::Exit, layer, Callback::CanFua, 1, |exit| exit.a = can_fua);
            script =
                script.changed(Kind::Exit, layer, Callback::CanZero, 1, |exit| exit.a = u64::from(layer > 0));
        }
        let chain = handles(&script);
        script = (0..=2).rev().fold(script, |script, layer| script.without(layer, Callback::Zero, 0));
        let request = index(&script, Kind::Request, Operation::Zero);
        script.events[request].d = flag::FUA;
        for (nth, offset) in [4096_u64, 4352].into_iter().enumerate() {
            let reply = index(&script, Kind::Reply, Operation::Zero);
            script = script.with(reply, |script| {
                script.through_chain(&chain, Callback::Pwrite, 0, |enter| {
                    let shown = fua[nth] && (enter.layer > 0 || can_fua == 2);
                    (enter.a, enter.c, enter.d) = (offset, 256, if shown { FUA } else { 0 });
                });
            });
            // The last three events before the answer are exits; the flush comes after the first of them.
            let exit = script.index(Kind::Exit, 0, Callback::Pwrite, nth + 1) + 1;
            script = (0..flushes[nth]).fold(script, |script, _| call(script, exit, Callback::Flush));
        }
        script
    }

    #[test]
    fn fua_of_pieces() {
        const RULE: &str = "emul.fua.split";
        exercised_and_holds(RULE, split(2, [true, true], [0, 0]));
        rejects(RULE, split(2, [false, true], [0, 0]));
        rejects(RULE, split(2, [true, false], [0, 0]));
        exercised_and_holds(RULE, split(1, [false, true], [0, 1]));
        rejects(RULE, split(1, [false, true], [1, 1]));
        rejects(RULE, split(1, [false, true], [1, 0]));
        rejects(RULE, split(1, [false, true], [0, 0]));
    }
}
