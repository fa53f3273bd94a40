//! Which threads start and stop the layers.

use layers_trace::Callback::{
    self, AfterFork, Cleanup, Config, ConfigComplete, DumpPlugin, GetReady, Load, ThreadModel, Unload,
};
use layers_trace::Event;

use crate::rules::check::{Now, Report, Rule, Said, at, by, enters, remembering};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "lifecycle.start-single-threaded",
        statement: "One thread of the server's makes all calls from load to after_fork.",
        clause: "not in the manual",
        antecedent: "two calls of start-up in one process",
        good: "L0.load L0.config_complete",
        bad: "t7: L0.load L0.config_complete",
        also: &["lifecycle.main-thread"],
        fix: "none needed; a module should not count on it",
        check: by!(remembering(enters(START), one_thread_starts)),
        ..Rule::OBSERVED
    },
    Rule {
        id: "lifecycle.main-thread",
        statement: "Load to after_fork, cleanup and unload run on the main thread of their process.",
        clause: "not in the manual",
        antecedent: "any call of start-up, cleanup or unload",
        good: "stop",
        bad: "t7: L0.cleanup",
        fix: "none needed; a module should not count on it",
        check: by!(at(enters(START).enters(&[Cleanup, Unload]), on_main_thread)),
        ..Rule::OBSERVED
    },
];

/// The callbacks of start-up.
const START: &[Callback] = &[Load, Config, ConfigComplete, ThreadModel, DumpPlugin, GetReady, AfterFork];

/// One thread of a process makes all start-up calls.
fn one_thread_starts(first: &mut Option<Event>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let same_process = first.as_ref().filter(|first| first.pid == now.event.pid);
    let Some(earlier) = same_process else {
        *first = Some(now.event.clone());
        return None;
    };
    let (expected, actual) = ("one thread starts all layers", "another thread does");
    report.expect(earlier.tid == now.event.tid, earlier, expected, actual)
}

/// The main thread starts and stops all layers.
fn on_main_thread(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let on_main = now.event.tid == now.event.pid;
    report.expect(on_main, (), "it runs on the main thread", "it runs on another thread")
}
