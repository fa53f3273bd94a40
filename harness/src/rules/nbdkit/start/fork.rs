//! Processes: what comes before the fork, and what after it.

use layers_trace::{Callback, Event};

use crate::history::History;
use crate::rules::check::per_layer::PerLayer;
use crate::rules::check::{Now, Report};
use crate::run::Start;

/// get_ready and load share a process.
pub(super) fn ready_before_fork(loaded: &mut PerLayer<Event>, now: &Now<'_>, report: &mut Report<'_>) {
    if now.event.callback() == Some(Callback::Load) {
        loaded.keep_first(now.event.layer, || now.event.clone());
    } else if let Some(load) = loaded.get(now.event.layer) {
        let same = load.pid == now.event.pid;
        report.expect(same, [load, now.event], "get_ready runs in the process of load", "in another process");
    }
}

/// Every run that serves calls after_fork of every layer.
#[derive(Default)]
pub(super) struct AlwaysAfterFork {
    called: PerLayer<()>,
    client: Option<Event>,
}

impl AlwaysAfterFork {
    pub(super) fn see(&mut self, now: &Now<'_>, _report: &mut Report<'_>) {
        if now.event.callback() == Some(Callback::AfterFork) {
            self.called.set(now.event.layer, ());
        } else if self.client.is_none() && now.call.is_some_and(|call| now.history.is_for_client(call)) {
            self.client = Some(now.event.clone());
        }
    }

    pub(super) fn end(&mut self, history: &History, report: &mut Report<'_>) {
        let serves = history.run().is_some_and(|run| run.start.serves());
        if !serves || !(self.client.is_some() || history.ended_cleanly()) {
            return;
        }
        for layer in history.layers().iter().filter(|layer| layer.records(Callback::AfterFork)) {
            report.expect(
                self.called.has(layer.number),
                self.client.iter().chain(history.end_event()),
                format!("after_fork of L{}", layer.number),
                "it was never called",
            );
        }
    }
}

/// A daemon changes its process before after_fork; in the foreground it stays.
pub(super) fn forks_as_asked(before: &mut Option<Event>, now: &Now<'_>, report: &mut Report<'_>) {
    if now.event.callback() != Some(Callback::AfterFork) {
        *before = Some(now.event.clone());
        return;
    }
    let (Some(before), Some(run)) = (&*before, now.history.run()) else { return };
    let same = before.pid == now.event.pid;
    match run.start {
        Start::Daemon => {
            report.expect(!same, [before, now.event], "a daemon has forked", "it is the same process");
        }
        Start::Foreground | Start::Single | Start::ExitWithParent => {
            report.expect(same, [before, now.event], "there is no fork", "it is another process");
        }
        _ => {}
    }
}

/// A client is served only when every after_fork has returned.
pub(super) fn forked_before_clients(returned: &mut PerLayer<()>, now: &Now<'_>, report: &mut Report<'_>) {
    if now.is_exit() {
        returned.set(now.event.layer, ());
        return;
    }
    let Some(call) = now.call.filter(|call| call.parent.is_none()) else { return };
    if !now.history.is_for_client(call) || now.history.outermost(Callback::AfterFork).is_none() {
        return;
    }
    report.exercised();
    let missing = now
        .history
        .layers()
        .iter()
        .find(|layer| layer.records(Callback::AfterFork) && !returned.has(layer.number));
    if let Some(layer) = missing {
        let running = now.history.in_flight().find(|other| other.callback == Callback::AfterFork);
        report.broken(
            running.map(|other| &other.enter).into_iter().chain([now.event]),
            format!("after_fork of L{} has returned before the first client", layer.number),
            "it has not",
        );
    }
}

/// What a fork leaves behind calls nothing.
#[derive(Default)]
pub(super) struct ParentSilent {
    /// The first event of the process that is served by now.
    current: Option<Event>,
    left: Vec<u32>,
}

impl ParentSilent {
    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        match &self.current {
            Some(current) if current.pid == now.event.pid => {}
            Some(current) if self.left.contains(&now.event.pid) => {
                let expected = "no call in the process before the fork";
                report.broken([current, now.event], expected, "it makes one");
            }
            current => {
                if let Some(before) = current {
                    self.left.push(before.pid);
                    report.exercised();
                }
                self.current = Some(now.event.clone());
            }
        }
    }
}
