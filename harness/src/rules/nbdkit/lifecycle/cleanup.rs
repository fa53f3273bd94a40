//! The order and the number of cleanups.

use layers_trace::Callback::{AfterFork, Cleanup, Unload};
use layers_trace::Event;

use super::unload::once_by_the_end;
use crate::history::History;
use crate::rules::check::{
    Now, PerLayer, Report, Rule, Said, at, by, calls, enters, exits, given, remembering,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "lifecycle.cleanup.outer-to-inner",
        statement: "Cleanup visits the outermost filter first and the plugin last; each finishes before the next starts.",
        clause: "nbdkit-filter(3), .cleanup",
        antecedent: "two layers with cleanup, and a server that ends by itself",
        good: "L1.cleanup L0.cleanup",
        bad: "enter L1.cleanup L0.cleanup",
        fix: "call cleanup from the outermost layer inwards, each after the previous one has returned",
        check: by!(remembering(calls(&[Cleanup]), outer_first)),
        ..Rule::REQUIRED.since(1, 25, 8)
    },
    Rule {
        id: "lifecycle.cleanup.before-unload",
        statement: "The cleanups of all layers are over before the first unload of any layer begins.",
        clause: "nbdkit-plugin(3), Callback lifecycle, .cleanup and .unload; nbdkit-filter(3), .cleanup",
        antecedent: "a layer with cleanup and one with unload, and a server that ends by itself",
        good: "SIGTERM L1.cleanup L0.cleanup L0.unload",
        bad: "SIGTERM L1.cleanup L0.unload L0.cleanup",
        also: &["lifecycle.unload.last"],
        fix: "call every cleanup before the first module is removed from memory",
        check: by!(at(enters(&[Cleanup, Unload]), before_unload)),
        ..Rule::REQUIRED.since(1, 25, 8)
    },
    Rule {
        id: "lifecycle.cleanup.iff-after-fork",
        statement: "Cleanup is only for runs in which after_fork was reached: not for --help, --dump-plugin or a failed start.",
        clause: "nbdkit-plugin(3), .cleanup",
        antecedent: "a layer with cleanup, in a run that cleans up or never comes to after_fork",
        good: "start stop",
        bad: "load config config_complete thread_model get_ready L0.cleanup",
        fix: "skip cleanup when after_fork has not been called",
        check: by!(
            remembering(exits(&[AfterFork]).enters(&[Cleanup]), after_every_fork).and_end(none_without_fork)
        ),
        ..Rule::REQUIRED.since(1, 25, 8)
    },
    Rule {
        id: "lifecycle.cleanup.once",
        statement: "Cleanup of a layer is never called twice, and is called when a server that has served ends cleanly.",
        clause: "nbdkit-filter(3), .cleanup",
        antecedent: "a layer with cleanup, and a server that serves and ends by itself with success",
        good: "SIGTERM L1.cleanup L0.cleanup unload ends",
        bad: "SIGTERM L0.cleanup L0.cleanup",
        fix: "clean each layer up once, after the last connection is closed",
        check: by!(once_by_the_end(Cleanup, |history| history.ended_cleanly() && history.serves())),
        ..Rule::REQUIRED.since(1, 25, 8)
    },
];

/// Cleanup visits the outermost layer first, and each returns before the next; `left` is the one that has returned last.
fn outer_first(left: &mut Option<Event>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if now.is_exit() {
        *left = Some(now.event.clone());
        return None;
    }
    let outer = now.history.outer(now.event.layer, Cleanup)?;
    let in_order = left.as_ref().is_some_and(|left| left.layer == outer);
    let expected = format!("cleanup of L{outer} has returned before L{} is cleaned up", now.event.layer);
    report.expect(in_order, left.as_ref(), expected, "cleanup starts out of order")
}

/// All cleanups are over when the first unload begins.
fn before_unload(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    const EXPECTED: &str = "every cleanup is over before the first unload";
    let unload = now.history.first_enters(Unload).next();
    if now.is(Cleanup) {
        return report.expect(false, unload?, EXPECTED, "a cleanup starts after it");
    }
    given(unload.is_none() && now.history.cleaning().is_some())?;
    let running = now.history.in_flight().find(|call| call.callback == Cleanup);
    report.expect(running.is_none(), running, EXPECTED, "a cleanup is in progress")
}

/// Cleanup is for runs that have come through every after_fork; `forked` are the layers of which it has succeeded.
fn after_every_fork(forked: &mut PerLayer<()>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if now.is_exit() {
        given(now.event.result() == 0)?;
        return forked.set(now.event.layer, ());
    }
    report.exercised();
    if now.history.run().is_some_and(|run| !run.start.serves()) {
        report.broken((), "no cleanup: this run serves nobody", "cleanup is called");
    }
    let layer = now.history.recording(AfterFork).find(|layer| !forked.has(*layer))?;
    report.broken((), format!("after_fork of L{layer} has returned 0 earlier"), "it has not")
}

fn none_without_fork(_: &mut PerLayer<()>, history: &History, report: &mut Report<'_>) -> Said {
    let never_forked = history.failed_start().is_some() || !history.serves();
    let has_cleanup = history.outermost(Cleanup).is_some();
    given(never_forked && has_cleanup && history.end().is_some())?;
    report.exercised_if(history.cleaning().is_none())
}
