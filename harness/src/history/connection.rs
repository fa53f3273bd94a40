//! Connections, as far as the calls show them.

use layers_trace::Event;

use super::{Call, History};

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

impl History {
    /// A thread serves one connection after another: a new one ends the one before, unless handles keep it.
    pub(super) fn begin_connection(&mut self, event: &Event) -> ConnectionId {
        let id = ConnectionId(event.position);
        let open: Vec<_> = self.handles.values().filter_map(|handle| handle.connection).collect();
        let tid = event.tid;
        self.connections.retain(|id, connection| connection.tid != tid || open.contains(id));
        self.connections
            .insert(id, Connection { id, tid, first: event.clone(), denied: false, named: Vec::new() });
        if let Some(thread) = self.threads.iter_mut().find(|thread| thread.tid == tid) {
            thread.connection = Some(id);
        }
        self.match_client(id);
        id
    }

    pub(super) fn named(&mut self, exit: &Event, call: &Call) {
        if let Some(connection) = call.connection.and_then(|id| self.connections.get_mut(&id)) {
            connection.named.retain(|other| other.layer != exit.layer);
            connection.named.push(exit.clone());
        }
    }

    pub(super) fn denied(&mut self, call: &Call) {
        if let Some(connection) = call.connection.and_then(|id| self.connections.get_mut(&id)) {
            connection.denied = true;
        }
    }
}
