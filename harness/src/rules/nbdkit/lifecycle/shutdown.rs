//! nbdkit-plugin(3), "SHUTDOWN": what is over when cleanup begins.

use layers_trace::{Callback, Event, Kind};

use crate::history::{Call, End, Handle, History};
use crate::rules::check::{Now, Report};
use crate::run::Start;

/// SIGINT, SIGQUIT and SIGTERM (nbdkit(1), "SIGNALS").
const SHUTDOWN_SIGNALS: &[u64] = &[2, 3, 15];

/// Handles of connections, whose closing the trace would show.
fn clients_handles(history: &History) -> impl Iterator<Item = &Handle> {
    let closes = |handle: &&Handle| history.records(handle.layer, Callback::Close);
    history.handles().filter(|handle| !handle.manual).filter(closes)
}

/// Connected calls in progress that the server is responsible for.
fn clients_calls(history: &History) -> impl Iterator<Item = &Call> {
    history.in_flight().filter(|call| call.callback.is_connected() && history.is_for_client(call))
}

/// It gets its signal from its own parent, when the command has ended, and has the exit status of that.
fn is_captive(history: &History) -> bool {
    history.run().is_some_and(|run| run.start == Start::Captive)
}

/// No handle of a connection is open when the first cleanup begins.
pub(super) fn all_closed(now: &Now<'_>, report: &mut Report<'_>) {
    if now.history.cleaning().is_some() || !now.history.was_minted(1) {
        return;
    }
    report.exercised();
    let mut open: Vec<_> = clients_handles(now.history).collect();
    open.sort_by_key(|handle| handle.opened);
    for handle in open {
        report.broken(
            [&handle.open, now.event],
            format!("handle {} of L{} is closed before the first cleanup", handle.id, handle.layer),
            "it is still open",
        );
    }
}

/// Nothing is called for a client once the first cleanup has begun.
pub(super) fn quiescent(cleanup: &mut Option<Event>, now: &Now<'_>, report: &mut Report<'_>) {
    let Some(cleanup) = &*cleanup else {
        if now.event.callback() == Some(Callback::Cleanup) {
            *cleanup = Some(now.event.clone());
            if now.history.connections().next().is_some() {
                report.exercised();
            }
        }
        return;
    };
    let Some(call) = now.call.filter(|call| call.callback.is_connected()) else { return };
    let within_cleanup = now.history.root(call).callback == Callback::Cleanup;
    if !within_cleanup && now.history.is_for_client(call) {
        report.broken(
            [cleanup, now.event],
            "no call for a client after the first cleanup has begun",
            format!("{} of L{} starts", call.callback, call.layer()),
        );
    }
}

/// After a shutdown signal: running calls return, handles are closed, cleanup, unload, and the server exits cleanly.
#[derive(Default)]
pub(super) struct ShutdownSequence {
    signal: Option<Event>,
    /// A client had been there before the signal, and so the server had begun to serve.
    served: bool,
    begun: bool,
    /// Layers whose unload has returned.
    unloaded: usize,
}

impl ShutdownSequence {
    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if now.event.kind == Kind::Signal {
            if SHUTDOWN_SIGNALS.contains(&now.event.a) && self.signal.is_none() {
                self.signal = Some(now.event.clone());
                self.served = now.history.connections().next().is_some();
            }
            return;
        }
        if now.event.kind == Kind::Exit {
            self.unloaded += 1;
            return;
        }
        let signalled = self.signal.is_some() || is_captive(now.history);
        if !signalled || std::mem::replace(&mut self.begun, true) {
            return;
        }
        report.exercised();
        if let Some(call) = clients_calls(now.history).min_by_key(|call| call.id()) {
            let expected = format!("{} of L{} returns first", call.callback, call.layer());
            report.broken([&call.enter, now.event], expected, "it is still running");
        }
        if let Some(handle) = clients_handles(now.history).min_by_key(|handle| handle.opened) {
            let expected = format!("handle {} of L{} is closed first", handle.id, handle.layer);
            report.broken([&handle.open, now.event], expected, "it is still open");
        }
        if now.event.callback() == Some(Callback::Unload)
            && let Some(layer) = now.history.outermost(Callback::Cleanup)
        {
            let expected = format!("cleanup of L{layer} comes before any unload");
            report.broken(self.signal.iter().chain([now.event]), expected, "unload comes first");
        }
    }

    pub(super) fn end(&mut self, history: &History, report: &mut Report<'_>) {
        let Some(signal) = &self.signal else { return };
        let events = [signal].into_iter().chain(history.end_event());
        let unloads = history.layers().iter().filter(|layer| layer.records(Callback::Unload)).count();
        // A module can end the process in any of its calls; after the last of them nobody but the server does.
        let ends_itself = unloads > 0 && self.unloaded == unloads && !is_captive(history);
        match history.end() {
            Some(End::Killed(number))
                if self.served && !self.begun && u64::try_from(number) == Ok(signal.a) =>
            {
                report.exercised();
                report.broken(events, "the server shuts down: cleanup, then unload", "the signal kills it");
            }
            Some(End::Exited(status)) if status != 0 && ends_itself => {
                report.broken(events, "the server exits cleanly", format!("its exit status is {status}"));
            }
            _ => {}
        }
    }
}
