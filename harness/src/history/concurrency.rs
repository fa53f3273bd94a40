//! How much was in progress at the same time, at most.

use layers_trace::Callback;

use super::call::Call;
use super::connection::ConnectionId;

/// Calls that the server makes for clients, the outermost of each thread.
#[derive(Debug, Default)]
pub(super) struct Concurrency {
    callbacks: Vec<Count<Callback>>,
    /// Data calls, on each connection that has any.
    data: Vec<Count<ConnectionId>>,
    most_data: u32,
}

/// What is counted, how many are in progress now, and the most there have been.
type Count<K> = (K, u32, u32);

/// One more has begun; returns how many that makes.
fn up<K: PartialEq>(counts: &mut Vec<Count<K>>, key: K) -> u32 {
    let Some((_, now, most)) = counts.iter_mut().find(|(other, ..)| *other == key) else {
        counts.push((key, 1, 1));
        return 1;
    };
    *now += 1;
    *most = (*most).max(*now);
    *now
}

/// One is over; `forgets` the key with the last of them.
fn down<K: PartialEq>(counts: &mut Vec<Count<K>>, key: K, forgets: bool) {
    let Some(index) = counts.iter().position(|(other, ..)| *other == key) else { return };
    let Some((_, now, _)) = counts.get_mut(index) else { return };
    *now = now.saturating_sub(1);
    if *now == 0 && forgets {
        counts.swap_remove(index);
    }
}

impl Concurrency {
    pub(super) fn entered(&mut self, call: &Call) {
        up(&mut self.callbacks, call.callback);
        if let Some(connection) = call.connection.filter(|_| call.callback.is_data()) {
            self.most_data = up(&mut self.data, connection).max(self.most_data);
        }
    }

    pub(super) fn exited(&mut self, call: &Call) {
        down(&mut self.callbacks, call.callback, false);
        if let Some(connection) = call.connection.filter(|_| call.callback.is_data()) {
            down(&mut self.data, connection, true);
        }
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
