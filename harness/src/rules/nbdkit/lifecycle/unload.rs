//! unload.

use layers_trace::{Callback, Event};

use crate::history::History;
use crate::rules::check::per_layer::PerLayer;
use crate::rules::check::{Check, Now, Report, Watch};

/// This callback is called at most once in each layer, and exactly once where the run owes it.
pub(super) struct AtTheEnd {
    callback: Callback,
    /// The run owes it to every layer.
    owed: fn(&History) -> bool,
    called: PerLayer<Event>,
}

impl AtTheEnd {
    pub(super) fn new(callback: Callback, owed: fn(&History) -> bool) -> AtTheEnd {
        AtTheEnd { callback, owed, called: PerLayer::default() }
    }
}

impl Check for AtTheEnd {
    fn watches(&self) -> Watch {
        Watch::NONE.enters(&[self.callback])
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let layer = now.event.layer;
        match self.called.get(layer) {
            Some(first) => {
                report.broken(
                    [first, now.event],
                    format!("one {} of L{layer}", self.callback),
                    "another one",
                );
            }
            None => {
                report.exercised();
                self.called.set(layer, now.event.clone());
            }
        }
    }

    fn end(&mut self, history: &History, report: &mut Report<'_>) {
        if !(self.owed)(history) {
            return;
        }
        for layer in history.layers() {
            if layer.records(self.callback) && !self.called.has(layer.number) {
                let expected = format!("{} of L{} before the server ends", self.callback, layer.number);
                report.expect(false, history.end_event(), expected, "the server ended without it");
            }
        }
    }
}

/// After a failed start there is neither cleanup nor unload.
pub(super) struct NothingAfterFailure;

impl Check for NothingAfterFailure {
    fn watches(&self) -> Watch {
        Watch::NONE.enters(&[Callback::Cleanup, Callback::Unload])
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if let Some(failed) = now.history.failed_start() {
            report.broken([failed, now.event], "the process exits without it", "it is called");
        }
    }

    fn end(&mut self, history: &History, report: &mut Report<'_>) {
        if history.failed_start().is_some() {
            report.exercised();
        }
    }
}

/// A layer is not called once its unload was entered.
#[derive(Default)]
pub(super) struct UnloadIsLast {
    unloaded: PerLayer<Event>,
}

impl Check for UnloadIsLast {
    fn watches(&self) -> Watch {
        Watch::NONE.enters_where(|_| true)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if now.event.callback() == Some(Callback::Unload) {
            report.exercised();
            self.unloaded.keep_first(now.event.layer, || now.event.clone());
        } else if let Some(unload) = self.unloaded.get(now.event.layer) {
            let expected = format!("nothing of L{} after its unload", now.event.layer);
            report.broken([unload, now.event], expected, "it is called");
        }
    }
}

/// An unload runs alone.
#[derive(Default)]
pub(super) struct UnloadRunsAlone {
    running: Option<Event>,
}

impl Check for UnloadRunsAlone {
    fn watches(&self) -> Watch {
        Watch::NONE.enters_where(|_| true).exits(&[Callback::Unload])
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let is_unload = now.event.callback() == Some(Callback::Unload);
        if now.is_exit() {
            self.running = None;
            return;
        }
        if let Some(unload) = &self.running {
            report.broken([unload, now.event], "nothing starts while an unload runs", "a call starts");
        } else if is_unload && let Some(call) = now.history.in_flight().next() {
            report.broken([&call.enter, now.event], "every call has returned", "one is still in progress");
        }
        if is_unload {
            report.exercised();
            self.running = Some(now.event.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::*;
    use crate::run::Start;
    use layers_trace::{Callback, Kind};

    /// The plugin's get_ready fails, and the process exits.
    fn failed_start() -> Script {
        let mut script = Script::new(&run(1));
        script.load(1);
        script.configure(1);
        script.through(1, Callback::ConfigComplete, 0, |_| {});
        script.thread_models(1);
        script.call(0, Callback::GetReady, -1);
        script.exited(1);
        script
    }

    #[test]
    fn unload_comes_once_after_a_clean_end() {
        const RULE: &str = "lifecycle.unload.once";
        accepts(RULE, reference());
        rejects(RULE, reference().doubled(0, Callback::Unload, 0));
        rejects(RULE, reference().without(2, Callback::Unload, 0));
    }

    #[test]
    fn help_owes_unload() {
        const RULE: &str = "lifecycle.unload.once";
        let mut help = Script::new(&started(1, Start::Help));
        help.load(1);
        help.unload(1);
        help.exited(0);
        accepts(RULE, help.clone());
        rejects(RULE, help.without(0, Callback::Unload, 0));
    }

    #[test]
    fn a_failed_start_owes_no_unload() {
        let judgement = judged(failed_start());
        assert_eq!(judgement.result("lifecycle.unload.once").unwrap().exercised, 0);
        assert_eq!(judgement.findings().next(), None);
    }

    #[test]
    fn the_end_of_a_daemons_parent_owes_no_unload() {
        let mut script = Script::new(&started(1, Start::Daemon));
        script.start(1);
        let script = script.without(1, Callback::AfterFork, 0);
        let mut script = script.without(0, Callback::AfterFork, 0);
        script.exited(0);
        let judgement = judged(script);
        assert_eq!(judgement.result("lifecycle.unload.once").unwrap().exercised, 0);
        assert_eq!(judgement.findings().next(), None);
    }

    #[test]
    fn a_server_that_ends_inside_a_callback_owes_no_unload() {
        let mut script = Script::new(&run(0));
        script.start(0);
        script.tid = CONNECTION;
        script.enter(0, Callback::Preconnect);
        script.exited(0);
        assert_eq!(judged(script).result("lifecycle.unload.once").unwrap().exercised, 0);
    }

    #[test]
    fn a_failed_start_ends_without_unload() {
        const RULE: &str = "lifecycle.unload.not-on-failure";
        accepts(RULE, failed_start());
        let mut bad = failed_start();
        bad.unload(1);
        rejects(RULE, bad);
    }

    #[test]
    fn nothing_follows_unload() {
        const RULE: &str = "lifecycle.unload.last";
        accepts(RULE, reference());
        let good = reference();
        let end = good.events.len();
        rejects(RULE, good.moved(1, Callback::Cleanup, 0, end));
    }

    #[test]
    fn unload_runs_alone() {
        const RULE: &str = "lifecycle.unload.exclusive";
        accepts(RULE, reference());
        let good = reference();
        let inside = good.index(Kind::Exit, 0, Callback::Unload, 0);
        rejects(RULE, good.moved(1, Callback::Preconnect, 0, inside));
        let mut bad = reference();
        let exit = bad.index(Kind::Exit, 2, Callback::Preconnect, 0);
        let exit = bad.events.remove(exit);
        let end = bad.events.len();
        bad.events.insert(end, exit);
        rejects(RULE, bad);
    }
}
