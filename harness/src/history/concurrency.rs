//! How much was in progress at the same time, at most.

use layers_trace::Callback;

use super::call::Call;
use super::connection::ConnectionId;

/// Calls that the server makes for clients, the outermost of each thread.
#[derive(Debug, Default)]
pub(super) struct Concurrency {
    /// For each callback that was called: how many calls are in progress now, and the most there have been.
    callbacks: Vec<(Callback, u32, u32)>,
    /// Data calls in progress now, on each connection that has any.
    data: Vec<(ConnectionId, u32)>,
    most_data: u32,
}

impl Concurrency {
    pub(super) fn entered(&mut self, call: &Call) {
        match self.of(call.callback) {
            Some((_, now, most)) => {
                *now += 1;
                *most = (*most).max(*now);
            }
            None => self.callbacks.push((call.callback, 1, 1)),
        }
        if let Some(connection) = call.connection.filter(|_| call.callback.is_data()) {
            let now = match self.data.iter_mut().find(|(other, _)| *other == connection) {
                Some((_, now)) => {
                    *now += 1;
                    *now
                }
                None => {
                    self.data.push((connection, 1));
                    1
                }
            };
            self.most_data = self.most_data.max(now);
        }
    }

    pub(super) fn exited(&mut self, call: &Call) {
        if let Some((_, now, _)) = self.of(call.callback) {
            *now = now.saturating_sub(1);
        }
        if let Some(connection) = call.connection.filter(|_| call.callback.is_data())
            && let Some(index) = self.data.iter().position(|(other, _)| *other == connection)
            && let Some((_, now)) = self.data.get_mut(index)
        {
            *now = now.saturating_sub(1);
            if *now == 0 {
                self.data.swap_remove(index);
            }
        }
    }

    fn of(&mut self, callback: Callback) -> Option<&mut (Callback, u32, u32)> {
        self.callbacks.iter_mut().find(|(other, ..)| *other == callback)
    }

    /// The most calls of this callback that have been in progress at the same time.
    pub(super) fn most(&self, callback: Callback) -> u32 {
        self.callbacks.iter().find(|(other, ..)| *other == callback).map_or(0, |(_, _, most)| *most)
    }

    /// The most data calls of one connection that have been in progress at the same time.
    pub(super) fn most_data(&self) -> u32 {
        self.most_data
    }
}
