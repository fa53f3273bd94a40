//! Which threads start and stop the layers.

use layers_trace::{Callback, Event};

use crate::rules::check::{Now, Report};

/// The callbacks of start-up.
pub(super) const START: &[Callback] = &[
    Callback::Load,
    Callback::Config,
    Callback::ConfigComplete,
    Callback::ThreadModel,
    Callback::DumpPlugin,
    Callback::GetReady,
    Callback::AfterFork,
];

/// One thread of a process makes all start-up calls.
pub(super) fn one_thread_starts(first: &mut Option<Event>, now: &Now<'_>, report: &mut Report<'_>) {
    match &*first {
        Some(first) if first.pid == now.event.pid => report.expect(
            first.tid == now.event.tid,
            [first, now.event],
            "one thread starts all layers",
            "another thread does",
        ),
        _ => *first = Some(now.event.clone()),
    }
}

/// The main thread starts and stops all layers.
pub(super) fn on_main_thread(now: &Now<'_>, report: &mut Report<'_>) {
    let on_main = now.event.tid == now.event.pid;
    report.expect(on_main, [now.event], "it runs on the main thread", "it runs on another thread");
}
