//! Handles: what one `open` of one layer returned, until its `close` has returned.

use std::collections::BTreeMap;

use layers_trace::{Callback, Event, Field};

use super::call::{Call, ChainId};
use super::connection::ConnectionId;

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
    /// The enter of its `prepare`; of its `open`, where it has had none.
    pub fn preparation(&self) -> &Event {
        self.preparing.as_ref().unwrap_or(&self.open)
    }

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

/// The open handles.
#[derive(Debug, Default)]
pub(super) struct Handles {
    by_id: BTreeMap<u32, Handle>,
    minted: u32,
    /// The first close in each chain that is not closed as a whole.
    closing: BTreeMap<ChainId, Event>,
}

impl Handles {
    pub(super) fn get(&self, id: u32) -> Option<&Handle> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Handle> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Handle> {
        self.by_id.values()
    }

    /// The handles of one chain, in no order.
    pub(super) fn chain(&self, chain: ChainId) -> impl Iterator<Item = &Handle> {
        self.by_id.values().filter(move |handle| handle.chain == chain)
    }

    /// Some handle is of this connection.
    pub(super) fn has_connection(&self, id: ConnectionId) -> bool {
        self.by_id.values().any(|handle| handle.connection == Some(id))
    }

    pub(super) fn was_minted(&self, id: u32) -> bool {
        id > 0 && id <= self.minted
    }

    pub(super) fn first_close(&self, chain: ChainId) -> Option<&Event> {
        self.closing.get(&chain)
    }

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
        self.by_id.insert(handle.id, handle);
    }

    /// The server begins to close a chain.
    pub(super) fn begin_close(&mut self, chain: ChainId, close: &Event) {
        self.closing.entry(chain).or_insert_with(|| close.clone());
    }

    pub(super) fn closed(&mut self, call: &Call) {
        self.by_id.remove(&call.handle());
        if let Some(chain) = call.chain.filter(|chain| self.chain(*chain).next().is_none()) {
            self.closing.remove(&chain);
        }
    }
}
