//! Handles: what one `open` of one layer returned, until its `close` has returned.

use layers_trace::{Callback, Event, Field};

use super::connection::ConnectionId;
use super::{Call, History};

/// One traversal of `open`, named by the position of its outermost enter; the handles that it made belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(pub u32);

/// An open handle.
#[derive(Clone, Debug)]
pub struct Handle {
    /// Minted id.
    pub id: u32,
    /// Layer whose `open` returned it.
    pub layer: u8,
    /// The traversal of `open` that made it.
    pub chain: ChainId,
    /// The connection; `None` for a context that a filter opened outside any.
    pub connection: Option<ConnectionId>,
    /// Enter of its `open`.
    pub open: Event,
    /// Position of the exit of its `open`.
    pub opened: u32,
    /// The filter opened the chain itself (nbdkit_next_context_open), instead of the server.
    pub manual: bool,
    /// `next` of the first callback after `open`; filters only.
    pub next: Option<u64>,
    /// Whether its `prepare` has returned, and with success.
    pub prepared: Option<bool>,
    /// Position of the enter of its `finalize`.
    pub finalizing: Option<u32>,
    /// Whether its `finalize` has returned, and with success.
    pub finalized: Option<bool>,
    /// Position of the enter of its `close`.
    pub closing: Option<u32>,
    /// Calls of this handle in flight.
    pub in_flight: u32,
    /// Exits of the queries that have succeeded, one each: (callback, answer).
    answers: Vec<(Callback, i64)>,
}

impl Handle {
    /// The `readonly` argument of its `open`.
    pub fn readonly(&self) -> bool {
        self.open.readonly()
    }

    /// The name of the export in its `open`.
    pub fn export(&self) -> Option<&[u8]> {
        self.open.text(Field::Export).map(|text| text.bytes.as_slice())
    }

    /// The filter's own `nbdkit_context *`.
    pub fn context(&self) -> u64 {
        self.open.context
    }

    /// What the layer answered to this query, if it was asked and did not fail.
    pub fn answer(&self, query: Callback) -> Option<i64> {
        self.answers.iter().find(|(callback, _)| *callback == query).map(|(_, answer)| *answer)
    }

    pub(super) fn entered(&mut self, call: &Call) {
        self.in_flight += 1;
        if self.next.is_none() && call.enter.context != 0 && call.callback != Callback::Close {
            self.next = Some(call.enter.context);
        }
        match call.callback {
            Callback::Finalize => self.finalizing = self.finalizing.or(Some(call.id())),
            Callback::Close => self.closing = self.closing.or(Some(call.id())),
            _ => {}
        }
    }

    pub(super) fn exited(&mut self, event: &Event, call: &Call) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match call.callback {
            Callback::Prepare => self.prepared = Some(event.result() == 0),
            Callback::Finalize => self.finalized = Some(event.result() == 0),
            query if query.is_query() && event.result() >= 0 && self.answer(query).is_none() => {
                self.answers.push((query, event.result()));
            }
            _ => {}
        }
    }
}

impl History {
    pub(super) fn opened(&mut self, event: &Event, call: &Call) {
        self.minted = self.minted.max(event.handle);
        let chain = call.chain.unwrap_or(ChainId(call.id()));
        // In a chain that the server opens, the outermost call stands alone on its thread; a filter's own begins
        // inside another callback, or on a thread that serves no connection.
        let root = self.thread(event.tid).and_then(|thread| thread.stack().first()).unwrap_or(call);
        let manual = root.callback != Callback::Open || Some(root.layer()) != self.outermost(Callback::Open);
        let handle = Handle {
            id: event.handle,
            layer: call.layer(),
            chain,
            connection: call.connection,
            open: call.enter.clone(),
            opened: event.position,
            manual,
            next: None,
            prepared: None,
            finalizing: None,
            finalized: None,
            closing: None,
            in_flight: 0,
            answers: Vec::new(),
        };
        self.handles.insert(handle.id, handle);
    }

    /// Notes who opens: the server, a filter that passes on its own `open` (once), or a filter for itself.
    pub(super) fn open_entered(&mut self, call: &Call) {
        let below = call.layer();
        let Some(opener) = self.layers.iter().map(|layer| layer.number).find(|number| *number > below) else {
            return;
        };
        let passes_on = match self.thread_mut(call.enter.tid, call.enter.pid).current_mut() {
            Some(parent) if parent.callback == Callback::Open && parent.layer() == opener => {
                !std::mem::replace(&mut parent.opened_below, true)
            }
            Some(_) => false,
            // A layer whose `open` is not recorded may stand between this one and the server.
            None => Some(below) == self.outermost(Callback::Open),
        };
        if !passes_on && let Some(bits) = self.openers.get_mut(usize::from(opener / 64)) {
            *bits |= 1 << (opener % 64);
        }
    }

    pub(super) fn closed(&mut self, call: &Call) {
        self.handles.remove(&call.handle());
    }

    /// The handles of one chain, outermost first.
    pub fn chain(&self, chain: ChainId) -> Vec<&Handle> {
        let mut handles: Vec<_> = self.handles.values().filter(|handle| handle.chain == chain).collect();
        handles.sort_by_key(|handle| std::cmp::Reverse(handle.layer));
        handles
    }
}
