//! Reopening what is below, in the middle of a request.

use layers_trace::{Callback, Event, Kind};

use super::opens_manual;
use crate::history::{Call, History};
use crate::rules::check::{Now, Report};

/// A request in which a filter has closed what was below it.
struct Below {
    /// The filter's call.
    call: u32,
    layer: u8,
    tid: u32,
    handle: u32,
    close: Event,
    /// It has opened something there since; false once that has failed.
    opened: Option<bool>,
}

/// The filter's handle outlives what is below.
#[derive(Default)]
pub(super) struct Reopen {
    running: Vec<Below>,
    /// Handles of filters that have reopened what is below.
    survivors: Vec<(u32, Event)>,
}

/// The filter's request from which it does this to the layers below.
fn request<'a>(now: &Now<'a>) -> Option<&'a Call> {
    now.parent().filter(|parent| parent.callback.is_data() && parent.layer() > now.event.layer)
}

impl Reopen {
    fn closes(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if let Some(call) = request(now) {
            self.running.retain(|one| one.call != call.id());
            self.running.push(Below {
                call: call.id(),
                layer: call.layer(),
                tid: now.event.tid,
                handle: call.handle(),
                close: now.event.clone(),
                opened: None,
            });
        }
        let survivor = self.survivors.iter().position(|(handle, _)| *handle == now.event.handle);
        let (Some(index), Some(handle)) = (survivor, now.handle) else { return };
        let (_, close) = self.survivors.swap_remove(index);
        let finalizes =
            now.history.records(handle.layer, Callback::Finalize) && handle.prepared == Some(true);
        if finalizes && handle.finalizing.is_none() {
            report.broken(
                [&close, now.event],
                format!("finalize of handle {} of L{} before its close", handle.id, handle.layer),
                "it was left out",
            );
        }
    }

    fn opened(&mut self, now: &Now<'_>) {
        let Some(owner) = now.call.and_then(opens_manual) else { return };
        let call = request(now).map(Call::id);
        if let Some(one) = self.running.iter_mut().find(|one| Some(one.call) == call && one.layer == owner) {
            one.opened = Some(now.event.result() != 0);
        }
    }

    /// A layer above the filter is called from inside.
    fn above(&self, now: &Now<'_>, report: &mut Report<'_>) {
        let inside = |one: &&Below| one.tid == now.event.tid && now.event.layer > one.layer;
        if let Some(one) = self.running.iter().find(inside) {
            report.broken(
                [&one.close, now.event],
                format!("L{} reopens what is below, and no layer above it is called", one.layer),
                format!("{} of L{}", now.event.callback().map_or("", Callback::name), now.event.layer),
            );
        }
    }

    fn over(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(call) = now.call else { return };
        let Some(index) = self.running.iter().position(|one| one.call == call.id()) else { return };
        let one = self.running.swap_remove(index);
        if one.opened.is_some() {
            report.exercised();
            self.survivors.retain(|(handle, _)| *handle != one.handle);
            self.survivors.push((one.handle, one.close));
        }
    }

    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        match (now.event.kind, now.event.callback()) {
            (Kind::Enter, Some(callback)) => {
                if !self.running.is_empty() {
                    self.above(now, report);
                }
                if callback == Callback::Close {
                    self.closes(now, report);
                }
            }
            (Kind::Exit, Some(Callback::Open)) if !self.running.is_empty() => self.opened(now),
            (Kind::Exit, Some(callback)) if callback.is_data() && !self.running.is_empty() => {
                self.over(now, report);
            }
            _ => {}
        }
    }

    pub(super) fn end(&mut self, history: &History, report: &mut Report<'_>) {
        // A server that is told to stop while clients are connected has a rule of its own.
        let last = history.signals().first().map_or(u32::MAX, |signal| signal.position);
        if !history.ended_cleanly() {
            return;
        }
        for (id, close) in &self.survivors {
            let Some(handle) = history.handle(*id) else { continue };
            let client = handle.connection.and_then(|connection| history.client_of(connection));
            let left = client.and_then(|client| client.leaving.as_ref());
            if left.is_none_or(|left| left.position > last) {
                continue;
            }
            report.broken(
                [close].into_iter().chain(history.end_event()),
                format!("handle {} of L{} is closed all the same", handle.id, handle.layer),
                "it never is",
            );
        }
    }
}
