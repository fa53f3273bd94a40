//! How much was in progress at the same time, at most.

use std::collections::BTreeMap;

use layers_trace::Callback;

use super::call::Call;
use super::connection::ConnectionId;

/// Calls that the server makes for clients, the outermost of each thread.
#[derive(Debug, Default)]
pub(super) struct Concurrency {
    /// For each callback: in progress now, and the most there have been.
    callbacks: BTreeMap<Callback, (u32, u32)>,
    /// Data calls in progress now, on each connection that has any.
    data: BTreeMap<ConnectionId, u32>,
    most_data: u32,
}

impl Concurrency {
    pub(super) fn entered(&mut self, call: &Call) {
        let (now, most) = self.callbacks.entry(call.callback).or_default();
        *now += 1;
        *most = (*most).max(*now);
        if let Some(connection) = call.connection.filter(|_| call.callback.is_data()) {
            let now = self.data.entry(connection).or_default();
            *now += 1;
            self.most_data = self.most_data.max(*now);
        }
    }

    pub(super) fn exited(&mut self, call: &Call) {
        if let Some((now, _)) = self.callbacks.get_mut(&call.callback) {
            *now = now.saturating_sub(1);
        }
        if let Some(connection) = call.connection.filter(|_| call.callback.is_data())
            && let Some(now) = self.data.get_mut(&connection)
        {
            *now = now.saturating_sub(1);
            if *now == 0 {
                self.data.remove(&connection);
            }
        }
    }

    /// The most calls of this callback that have been in progress at the same time.
    pub(super) fn most(&self, callback: Callback) -> u32 {
        self.callbacks.get(&callback).map_or(0, |(_, most)| *most)
    }

    /// The most data calls of one connection that have been in progress at the same time.
    pub(super) fn most_data(&self) -> u32 {
        self.most_data
    }
}
