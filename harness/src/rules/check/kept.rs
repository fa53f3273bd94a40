//! What a check remembers of each layer or connection. There are few of them at a time, so this is a list.

use super::Said;
use crate::history::{ConnectionId, History};

/// At most one value for each key.
#[derive(Clone, Debug)]
pub(in crate::rules) struct Kept<K, T>(Vec<(K, T)>);

/// At most one value for each layer.
pub(in crate::rules) type PerLayer<T> = Kept<u8, T>;

/// At most one value for each connection.
pub(in crate::rules) type PerConnection<T> = Kept<ConnectionId, T>;

impl<K, T> Default for Kept<K, T> {
    fn default() -> Kept<K, T> {
        Kept(Vec::new())
    }
}

impl<K: PartialEq, T> Kept<K, T> {
    /// What is remembered of this one.
    pub(in crate::rules) fn get(&self, key: K) -> Option<&T> {
        self.0.iter().find(|(other, _)| *other == key).map(|(_, value)| value)
    }

    /// What is remembered of this one, to be changed.
    pub(in crate::rules) fn get_mut(&mut self, key: K) -> Option<&mut T> {
        self.0.iter_mut().find(|(other, _)| *other == key).map(|(_, value)| value)
    }

    /// All that is remembered, the oldest first as long as nothing was forgotten.
    pub(in crate::rules) fn iter(&self) -> impl Iterator<Item = &(K, T)> {
        self.0.iter()
    }

    /// Nothing is remembered.
    pub(in crate::rules) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Something is remembered of this one.
    pub(in crate::rules) fn has(&self, key: K) -> bool {
        self.get(key).is_some()
    }

    /// Remembers this instead of what there was.
    pub(in crate::rules) fn set(&mut self, key: K, value: T) -> Said {
        self.0.retain(|(other, _)| *other != key);
        self.0.push((key, value));
        Some(())
    }

    /// Forgets those of which this is not true.
    pub(in crate::rules) fn retain(&mut self, keep: impl Fn(&K) -> bool) -> Said {
        self.0.retain(|(key, _)| keep(key));
        Some(())
    }

    /// Forgets this one, and returns what was remembered of it.
    pub(in crate::rules) fn take(&mut self, key: K) -> Option<T> {
        self.take_where(|other, _| *other == key)
    }

    /// Forgets the first of which this is true, and returns what was remembered of it.
    pub(in crate::rules) fn take_where(&mut self, is: impl Fn(&K, &T) -> bool) -> Option<T> {
        let index = self.0.iter().position(|(key, value)| is(key, value))?;
        Some(self.0.swap_remove(index).1)
    }
}

impl<T> PerConnection<T> {
    /// Remembers this instead of what there was, and forgets the connections that are over.
    pub(in crate::rules) fn renew(&mut self, history: &History, connection: ConnectionId, value: T) -> Said {
        self.0.retain(|(other, _)| history.connection(*other).is_some());
        self.set(connection, value)
    }
}
