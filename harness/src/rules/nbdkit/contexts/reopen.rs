//! Reopening what is below, in the middle of a request.

use layers_trace::{Callback, Event, Kind};

use super::opens_manual;
use crate::history::{Call, History};
use crate::rules::check::{Check, Now, Report, Watch};

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
}

impl Check for Reopen {
    fn watches(&self) -> Watch {
        Watch::CALLS
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
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

    fn end(&mut self, history: &History, report: &mut Report<'_>) {
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

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::rules::testing::*;
    use layers_trace::{Callback, Kind};

    const RULE: &str = "manual.reopen";

    /// In its first pread L1 closes what is below and opens it again.
    fn reopening() -> Script {
        let good = reference();
        let pread = good.index(Kind::Enter, 0, Callback::Pread, 0);
        let mut script = good.with(pread, |script| {
            script.on(&[4, 5, 6], 0, Callback::Close, 0);
            opens(script, 1, false, 0xd000);
        });
        let from = script.index(Kind::Enter, 0, Callback::Pread, 0);
        let later = script.events.iter_mut().skip(from).filter(|event| event.layer == 0);
        later
            .filter(|event| event.handle == 4 && event.callback().is_some())
            .for_each(|event| event.handle = 7);
        script
    }

    #[test]
    fn a_filter_reopens_what_is_below_and_nobody_else_notices() {
        exercised_and_holds(RULE, reopening());
        assert_eq!(judged(reference()).result(RULE).unwrap().exercised, 0);
        rejects(RULE, reopening().without(1, Callback::Finalize, 1));
        rejects(RULE, reopening().without(1, Callback::Finalize, 1).without(1, Callback::Close, 1));
        let open = reopening().index(Kind::Exit, 0, Callback::Open, 2);
        rejects(RULE, reopening().with(open + 2, |script| script.on(&[4, 5, 6], 2, Callback::Flush, 0)));
    }

    #[test]
    fn a_filter_that_cannot_reopen_is_closed_all_the_same() {
        let mut script = reopening();
        let exit = script.index(Kind::Exit, 0, Callback::Open, 2);
        (script.events[exit].a, script.events[exit].handle) = (0, 0);
        let answer = script.events.iter_mut().find(|event| event.kind == Kind::Answer).unwrap();
        (answer.a, answer.b) = (0, 0);
        let gone: Vec<u32> =
            script.events.iter().filter(|e| e.handle == 7 && e.layer == 0).map(|e| e.call).collect();
        script.events.retain(|event| event.callback().is_none() || !gone.contains(&event.call));
        exercised_and_holds(RULE, script.clone());
        rejects(RULE, script.without(1, Callback::Finalize, 1));
    }
}
