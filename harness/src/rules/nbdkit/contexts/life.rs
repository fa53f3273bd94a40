//! From open to close, in a filter's hands.

use std::collections::VecDeque;

use layers_trace::{Below, Callback, ContextFunction, Event, Kind};

use super::{by_owner, top_of_manual};
use crate::history::{Call, ChainId, Handle, History};
use crate::rules::check::{Now, Report};

/// Prepared, used, finalized, closed.
#[derive(Default)]
pub(super) struct Life {
    /// Contexts of filters that write down what they do: opener, `next`, chain.
    contexts: Vec<(u8, u64, ChainId)>,
    /// Those of them that a filter has handed over to the server.
    associated: Vec<ChainId>,
    /// The chain that each thread has opened last.
    opened: Vec<(u32, ChainId)>,
    /// The latest that were closed by their filters: handle, filter, close.
    closed: VecDeque<(u32, u8, Event)>,
}

/// Closed contexts that are remembered.
const MOST_CLOSED: usize = 64;

impl Life {
    fn used(now: &Now<'_>, handle: &Handle, report: &mut Report<'_>) {
        if !by_owner(now, handle) || !now.history.records(handle.layer, Callback::Prepare) {
            return;
        }
        report.exercised();
        if handle.prepared != Some(true) {
            let earlier = handle.preparing.as_ref().unwrap_or(&handle.open);
            report.broken(
                [earlier, now.event],
                format!("the filter that opened handle {} of L{} prepares it first", handle.id, handle.layer),
                "it uses it",
            );
        }
    }

    fn closed(&mut self, now: &Now<'_>, handle: &Handle, report: &mut Report<'_>) {
        let Some(owner) = handle.owner.filter(|_| by_owner(now, handle)) else { return };
        report.exercised();
        self.closed.truncate(MOST_CLOSED - 1);
        self.closed.push_front((handle.id, owner, now.event.clone()));
        let owed = now.history.records(handle.layer, Callback::Finalize) && handle.prepared == Some(true);
        if let Some(prepare) = handle.preparing.as_ref().filter(|_| owed && handle.finalizing.is_none()) {
            let expected = format!("finalize of handle {} of L{} before its close", handle.id, handle.layer);
            report.broken([prepare, now.event], expected, "it was left out");
        }
    }

    fn closed_again(&self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some((id, filter)) = now.call.map(Call::handle).zip(now.parent().map(Call::layer)) else {
            return;
        };
        if let Some((.., first)) = self.closed.iter().find(|one| (one.0, one.1) == (id, filter)) {
            let expected = format!("one close of handle {id} of L{}", now.event.layer);
            report.broken([first, now.event], expected, "another one");
        }
    }

    fn answered(&mut self, now: &Now<'_>) {
        let Some(ask) = now.history.thread(now.event.tid).and_then(|thread| thread.asking()) else { return };
        match now.event.below() {
            Some(Below::Context(ContextFunction::Open)) if now.event.b != 0 => {
                let opened = self.opened.iter().find(|(tid, _)| *tid == now.event.tid);
                if let Some((_, chain)) = opened.filter(|(_, chain)| chain.0 > ask.position) {
                    self.contexts.retain(|(layer, next, _)| (*layer, *next) != (ask.layer, now.event.b));
                    self.contexts.push((ask.layer, now.event.b, *chain));
                }
            }
            Some(Below::Context(ContextFunction::SetNext)) => {
                let chain = |next| {
                    self.contexts.iter().find(|one| (one.0, one.1) == (ask.layer, next)).map(|one| one.2)
                };
                let (given, taken) = (chain(ask.b), chain(now.event.b));
                self.associated.retain(|chain| Some(*chain) != taken);
                self.associated.extend(given);
            }
            _ => {}
        }
    }

    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        match (now.event.kind, now.event.callback()) {
            (Kind::Answer, _) => self.answered(now),
            (Kind::Exit, _) => {
                if let Some(chain) = now.call.and_then(|call| call.chain).filter(|_| now.event.result() != 0)
                {
                    self.opened.retain(|(tid, _)| *tid != now.event.tid);
                    self.opened.push((now.event.tid, chain));
                }
            }
            (_, Some(Callback::Close)) => match (now.handle, top_of_manual(now)) {
                (_, Some(handle)) => self.closed(now, handle, report),
                (None, _) => self.closed_again(now, report),
                _ => {}
            },
            _ => {
                if let Some(handle) = top_of_manual(now) {
                    Life::used(now, handle, report);
                }
            }
        }
    }

    pub(super) fn end(&mut self, history: &History, report: &mut Report<'_>) {
        if !history.ended_cleanly() {
            return;
        }
        let mut left: Vec<&Handle> = history
            .handles()
            .filter(|handle| handle.manual && handle.open.position == handle.chain.0)
            .filter(|handle| history.records(handle.layer, Callback::Close))
            // Of one whose filter tells nothing it is not known whether the server was to close it.
            .filter(|handle| self.contexts.iter().any(|(.., chain)| *chain == handle.chain))
            .filter(|handle| !self.associated.contains(&handle.chain))
            .collect();
        left.sort_by_key(|handle| handle.opened);
        for handle in left {
            let events: Vec<&Event> = [&handle.open].into_iter().chain(history.end_event()).collect();
            let expected =
                format!("the filter that opened handle {} of L{} closes it", handle.id, handle.layer);
            report.broken(events, expected, "it never does");
        }
    }
}
