//! What else but the server may be the cause when a client does not get what it asks for.

use std::collections::{BTreeMap, BTreeSet};

use layers_trace::Callback::{self, BlockSize, DefaultExport, Finalize, Open};
use layers_trace::{Breach, Event, Kind, Operation, Probe};

use super::super::connection::default_export::is_name;
use super::super::negotiation::info::are_valid;
use crate::history::{ConnectionId, History, Request};
use crate::protocol::MOST_SERVED;
use crate::rules::check::{Now, Said, Watch, exits_where};

/// Causes that lie with a layer or with a client, as far as a trace has come.
#[derive(Default)]
pub(super) struct Blamed {
    /// A layer has told the server to stop, or to end a connection.
    ends: bool,
    /// Clients that have broken the protocol, or have found the server to do so.
    clients: BTreeSet<u32>,
    /// Where a layer has failed last, or has given an answer that no client may be told: for each connection, and for
    /// calls that belong to none. What becomes of a connection whose finalize has failed no page says: that is for good.
    layers: BTreeMap<Option<ConnectionId>, u32>,
}

/// The client that sends this owes and is owed nothing any more: it is no message, or half of one, or has more data than
/// the server takes.
fn breaks(request: &Event) -> bool {
    let cut_or_too_large = request.b != 0 || request.count() > MOST_SERVED;
    request.operation() == Some(Operation::Garbage)
        || request.operation() == Some(Operation::Write) && cut_or_too_large
}

/// With this exit a layer has failed, or has answered what cannot be told.
fn fails(exit: &Event) -> bool {
    exit.result() < 0
        || match exit.callback() {
            Some(Open) => exit.result() == 0,
            Some(DefaultExport) => !is_name(exit),
            Some(BlockSize) => !are_valid(exit.block_size()),
            _ => false,
        }
}

impl Blamed {
    /// What it needs to see.
    pub(super) fn watches() -> Watch {
        let calls = exits_where(|callback| Callback::NBDKIT.contains(&callback));
        calls.notes(&[Kind::Request, Kind::Probe, Kind::Breach])
    }

    /// Notes what this event is the cause of.
    pub(super) fn see(&mut self, now: &Now<'_>) -> Said {
        let event = now.event;
        match event.kind {
            Kind::Exit if fails(event) => {
                let finalizes = event.callback() == Some(Finalize);
                let at = if finalizes { u32::MAX } else { event.position };
                let last = self.layers.entry(now.connection()).or_default();
                *last = at.max(*last);
            }
            Kind::Probe => self.ends |= matches!(event.probe(), Some(Probe::Shutdown | Probe::Disconnect)),
            Kind::Request if event.operation() == Some(Operation::Connect) => {
                self.clients.remove(&event.handle);
            }
            Kind::Request if breaks(event) => {
                self.clients.insert(event.handle);
            }
            // That the server grants too much is no reason to leave.
            Kind::Breach if event.breach() != Some(Breach::Granted) => {
                self.clients.insert(event.handle);
            }
            _ => {}
        }
        None
    }

    /// The server stops, or ends a connection because it was told to.
    pub(super) fn stops(&self, history: &History) -> bool {
        self.ends || !history.signals().is_empty() || history.end().is_some()
    }

    /// Something else than the server may be the cause of what becomes of this client's request.
    pub(super) fn explains(&self, history: &History, client: u32, request: &Request) -> bool {
        self.stops(history) || self.clients.contains(&client) || self.layer(history, client, request)
    }

    /// A layer has failed since this client has made this request, in its connection or perhaps in it.
    fn layer(&self, history: &History, client: u32, request: &Request) -> bool {
        let own = history.client(client).and_then(|client| client.connection);
        let concerns =
            |connection: &Option<ConnectionId>| own.is_none() || connection.is_none() || *connection == own;
        let mut failures = self.layers.iter().filter(|(connection, _)| concerns(connection));
        failures.any(|(_, at)| *at > request.event.position)
    }
}
