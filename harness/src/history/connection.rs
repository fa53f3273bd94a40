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
    /// Layers whose `default_export` has returned a name, a bit each.
    named: [u64; 4],
}

impl Connection {
    /// This layer's `default_export` has returned a name.
    pub fn has_named(&self, layer: u8) -> bool {
        self.named.get(usize::from(layer / 64)).is_some_and(|bits| bits & (1 << (layer % 64)) != 0)
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
            .insert(id, Connection { id, tid, first: event.clone(), denied: false, named: [0; 4] });
        if let Some(thread) = self.threads.iter_mut().find(|thread| thread.tid == tid) {
            thread.connection = Some(id);
        }
        self.match_client(id);
        id
    }

    pub(super) fn named(&mut self, call: &Call) {
        let connection = call.connection.and_then(|id| self.connections.get_mut(&id));
        let layer = call.layer();
        if let Some(bits) =
            connection.and_then(|connection| connection.named.get_mut(usize::from(layer / 64)))
        {
            *bits |= 1 << (layer % 64);
        }
    }

    pub(super) fn denied(&mut self, call: &Call) {
        if let Some(connection) = call.connection.and_then(|id| self.connections.get_mut(&id)) {
            connection.denied = true;
        }
    }
}
