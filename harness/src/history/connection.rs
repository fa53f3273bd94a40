//! Connections, as far as the calls show them.

use std::collections::BTreeMap;

use layers_trace::Event;

/// A connection, named by the position of its first enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u32);

/// What the server serves on one thread, from one `preconnect` on.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Position of its first enter.
    pub id: ConnectionId,
    /// The thread that negotiates.
    pub tid: u32,
    /// Its first enter.
    pub first: Event,
    /// A layer's `preconnect` refused it.
    pub denied: bool,
    /// The last exit of each layer's `default_export` that returned a name.
    named: Vec<Event>,
}

impl Connection {
    /// The last exit of this layer's `default_export`, of those that returned a name.
    pub fn named(&self, layer: u8) -> Option<&Event> {
        self.named.iter().find(|exit| exit.layer == layer)
    }
}

/// The connections that the server still serves.
#[derive(Debug, Default)]
pub(super) struct Connections {
    by_id: BTreeMap<ConnectionId, Connection>,
}

impl Connections {
    pub(super) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.by_id.get(&id)
    }

    /// All of them, in the order in which they began.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = &Connection> {
        self.by_id.values()
    }

    /// A thread serves one connection after another: a new one ends the one before, unless it is open still.
    pub(super) fn begin(&mut self, event: &Event, is_open: impl Fn(ConnectionId) -> bool) -> ConnectionId {
        let (id, tid) = (ConnectionId(event.position), event.tid);
        self.by_id.retain(|id, connection| connection.tid != tid || is_open(*id));
        let connection = Connection { id, tid, first: event.clone(), denied: false, named: Vec::new() };
        self.by_id.insert(id, connection);
        id
    }

    pub(super) fn retain(&mut self, keep: impl Fn(ConnectionId) -> bool) {
        self.by_id.retain(|id, _| keep(*id));
    }

    /// A `default_export` of this connection has returned a name.
    pub(super) fn named(&mut self, id: Option<ConnectionId>, exit: &Event) {
        if let Some(connection) = id.and_then(|id| self.by_id.get_mut(&id)) {
            connection.named.retain(|other| other.layer != exit.layer);
            connection.named.push(exit.clone());
        }
    }

    /// A `preconnect` has refused it.
    pub(super) fn denied(&mut self, id: Option<ConnectionId>) {
        if let Some(connection) = id.and_then(|id| self.by_id.get_mut(&id)) {
            connection.denied = true;
        }
    }
}
