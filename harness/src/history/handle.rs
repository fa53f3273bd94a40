//! Handles: what one `open` of one layer returned, until its `close` has returned.

use layers_trace::{Callback, Event, Field};

use super::connection::ConnectionId;
use super::{Call, History};

/// One traversal of `open`, named by the position of its outermost enter; the handles that it made belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(pub u32);

/// Queries that there are: the callbacks from `get_size` to `can_cache`.
const QUERIES: usize = (Callback::CanCache as usize) - (Callback::GetSize as usize) + 1;

fn query_index(query: Callback) -> Option<usize> {
    (query as usize).checked_sub(Callback::GetSize as usize)
}

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
    /// A filter opened the chain itself (nbdkit_next_context_open), instead of the server.
    pub manual: bool,
    /// Which filter that is.
    pub owner: Option<u8>,
    /// `next` of the first callback after `open`; filters only.
    pub next: Option<u64>,
    /// Enter of its `prepare`.
    pub preparing: Option<Event>,
    /// Whether its `prepare` has returned, and with success.
    pub prepared: Option<bool>,
    /// Enter of its first data call.
    pub first_data: Option<Event>,
    /// Enter of its first data call that is nested in no other call: the server's own, for a client.
    pub first_served: Option<Event>,
    /// Enter of its `finalize`.
    pub finalizing: Option<Event>,
    /// Whether its `finalize` has returned, and with success.
    pub finalized: Option<bool>,
    /// Enter of its `close`.
    pub closing: Option<Event>,
    /// Calls of this handle in flight.
    pub in_flight: u32,
    /// Exit of the first query that failed.
    pub failed_query: Option<Event>,
    /// Exits of the queries that have succeeded, one each.
    answers: Vec<Event>,
    /// What they gave, by callback.
    values: [Option<i64>; QUERIES],
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
        *self.values.get(query_index(query)?)?
    }

    /// The exit of this query with that answer.
    pub fn answered(&self, query: Callback) -> Option<&Event> {
        self.answers.iter().find(|exit| exit.callback() == Some(query))
    }

    /// The exits of all queries that have succeeded.
    pub fn answers(&self) -> &[Event] {
        &self.answers
    }

    pub(super) fn entered(&mut self, call: &Call) {
        self.in_flight += 1;
        if self.next.is_none() && call.enter.context != 0 && call.callback != Callback::Close {
            self.next = Some(call.enter.context);
        }
        let first = match call.callback {
            Callback::Prepare => &mut self.preparing,
            Callback::Finalize => &mut self.finalizing,
            Callback::Close => &mut self.closing,
            data if data.is_data() => {
                if call.parent.is_none() && self.first_served.is_none() {
                    self.first_served = Some(call.enter.clone());
                }
                &mut self.first_data
            }
            _ => return,
        };
        if first.is_none() {
            *first = Some(call.enter.clone());
        }
    }

    pub(super) fn exited(&mut self, event: &Event, call: &Call) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match call.callback {
            Callback::Prepare => self.prepared = Some(event.result() == 0),
            Callback::Finalize => self.finalized = Some(event.result() == 0),
            query if query.is_query() && event.result() < 0 => {
                self.failed_query = self.failed_query.take().or_else(|| Some(event.clone()));
            }
            query if query.is_query() && self.answer(query).is_none() => {
                if let Some(value) = query_index(query).and_then(|index| self.values.get_mut(index)) {
                    *value = Some(event.result());
                }
                self.answers.push(event.clone());
            }
            _ => {}
        }
    }
}

impl History {
    pub(super) fn opened(&mut self, event: &Event, call: &Call) {
        self.minted = self.minted.max(event.handle);
        let chain = call.chain.unwrap_or(ChainId(call.id()));
        let handle = Handle {
            id: event.handle,
            layer: call.layer(),
            chain,
            connection: call.connection,
            open: call.enter.clone(),
            opened: event.position,
            manual: call.owner.is_some(),
            owner: call.owner,
            next: None,
            preparing: None,
            prepared: None,
            first_data: None,
            first_served: None,
            finalizing: None,
            finalized: None,
            closing: None,
            in_flight: 0,
            failed_query: None,
            answers: Vec::new(),
            values: [None; QUERIES],
        };
        self.handles.insert(handle.id, handle);
    }

    /// This filter manages contexts of its own.
    pub(super) fn manages(&mut self, layer: u8) {
        self.openers.add(layer);
    }

    /// Notes who opens: the server, a filter that passes on its own `open` (once), or a filter for itself.
    pub(super) fn open_entered(&mut self, call: &Call) {
        let passed_on = match self.thread_mut(call.enter.tid, call.enter.pid).current_mut() {
            Some(parent) if parent.callback == Callback::Open && parent.chain == call.chain => {
                parent.opened_below = true;
                true
            }
            _ => false,
        };
        if let Some(owner) = call.owner.filter(|_| !passed_on) {
            self.manages(owner);
        }
    }

    /// The filter that does this below itself, instead of the server. (In an `open` that fails the server closes what is
    /// already open below.)
    fn done_by_filter(&self, call: &Call) -> Option<u8> {
        let parent = self.parent(call).filter(|_| !self.is_intrusion(call))?;
        let undoes = parent.callback == Callback::Open && call.callback == Callback::Close;
        (parent.layer() > call.layer() && !undoes).then(|| parent.layer())
    }

    pub(super) fn finalize_entered(&mut self, call: &Call) {
        if let Some(filter) = self.done_by_filter(call) {
            self.manages(filter);
        }
    }

    pub(super) fn close_entered(&mut self, call: &Call) {
        if let Some(filter) = self.done_by_filter(call) {
            // What it puts in the place of these is another chain; the handle of its own stays open.
            self.manages(filter);
        } else if let Some(chain) = call.chain {
            self.closing.entry(chain).or_insert_with(|| call.enter.clone());
        }
    }

    pub(super) fn closed(&mut self, call: &Call) {
        self.handles.remove(&call.handle());
        if let Some(chain) = call.chain.filter(|chain| self.chain(*chain).is_empty()) {
            self.closing.remove(&chain);
        }
    }

    /// The enter of the first close of any handle in this chain, while others of it are open.
    pub fn first_close(&self, chain: ChainId) -> Option<&Event> {
        self.closing.get(&chain)
    }

    /// The server has opened this handle, and nothing in the trace says that a filter may have taken it over: it is
    /// the server that prepares, finalizes and closes it.
    pub fn is_servers(&self, handle: &Handle) -> bool {
        !handle.manual
            && !self.layers.iter().any(|l| l.number > handle.layer && self.opens_contexts(l.number))
    }

    /// The next handle inwards in the chain of `handle` whose layer records this callback.
    pub fn handle_inside(&self, handle: &Handle, callback: Callback) -> Option<&Handle> {
        let inside = |other: &&Handle| other.chain == handle.chain && other.layer < handle.layer;
        let recorded = |other: &&Handle| self.records(other.layer, callback);
        self.handles().filter(inside).filter(recorded).max_by_key(|other| other.layer)
    }

    /// The next handle outwards in the chain of `handle` whose layer records this callback.
    pub fn handle_outside(&self, handle: &Handle, callback: Callback) -> Option<&Handle> {
        let outside = |other: &&Handle| other.chain == handle.chain && other.layer > handle.layer;
        let recorded = |other: &&Handle| self.records(other.layer, callback);
        self.handles().filter(outside).filter(recorded).min_by_key(|other| other.layer)
    }

    /// The handles of one chain, outermost first.
    pub fn chain(&self, chain: ChainId) -> Vec<&Handle> {
        let mut handles: Vec<_> = self.handles.values().filter(|handle| handle.chain == chain).collect();
        handles.sort_by_key(|handle| std::cmp::Reverse(handle.layer));
        handles
    }
}
