//! Which threads start and stop the layers.

use layers_trace::Callback::{
    self, AfterFork, Config, ConfigComplete, DumpPlugin, GetReady, Load, ThreadModel,
};
use layers_trace::Event;

use crate::rules::check::{Now, Report, Said};

/// The callbacks of start-up.
pub(super) const START: &[Callback] =
    &[Load, Config, ConfigComplete, ThreadModel, DumpPlugin, GetReady, AfterFork];

/// One thread of a process makes all start-up calls.
pub(super) fn one_thread_starts(first: &mut Option<Event>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let same_process = first.as_ref().filter(|first| first.pid == now.event.pid);
    let Some(earlier) = same_process else {
        *first = Some(now.event.clone());
        return None;
    };
    let (expected, actual) = ("one thread starts all layers", "another thread does");
    report.expect(earlier.tid == now.event.tid, earlier, expected, actual)
}

/// The main thread starts and stops all layers.
pub(super) fn on_main_thread(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let on_main = now.event.tid == now.event.pid;
    report.expect(on_main, (), "it runs on the main thread", "it runs on another thread")
}
