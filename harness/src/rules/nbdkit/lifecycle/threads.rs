//! Which threads start and stop the layers.

use layers_trace::{Callback, Event};

use crate::rules::check::{Check, Now, Report, Watch, enters};

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
#[derive(Default)]
pub(super) struct OneThreadStarts {
    first: Option<Event>,
}

impl Check for OneThreadStarts {
    fn watches(&self) -> Watch {
        enters(START)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        match &self.first {
            Some(first) if first.pid == now.event.pid => report.expect(
                first.tid == now.event.tid,
                [first, now.event],
                "one thread starts all layers",
                "another thread does",
            ),
            _ => self.first = Some(now.event.clone()),
        }
    }
}

/// The main thread starts and stops all layers.
pub(super) fn on_main_thread(now: &Now<'_>, report: &mut Report<'_>) {
    let on_main = now.event.tid == now.event.pid;
    report.expect(on_main, [now.event], "it runs on the main thread", "it runs on another thread");
}
