//! What layers answer where an example does not say it, and what a client is told then.

use layers_trace::Callback::{
    self, Cache, CanCache, CanExtents, CanFastZero, CanFlush, CanFua, CanMultiConn, CanTrim, CanWrite,
    CanZero, Extents, Flush, GetSize, IsRotational, Pwrite, ThreadModel, Trim, Zero,
};
use layers_trace::{Event, Kind, Operation};

use super::Player;
use crate::testing::examples::fields::usual;

impl Player {
    /// Returns what a layer answers where a step does not say it.
    pub(super) fn answer(&self, layer: u8, callback: Callback) -> i64 {
        let said = self.answers.iter().find(|one| (one.0, one.1) == (layer, callback));
        said.map_or_else(|| usual(callback), |said| said.2)
    }

    /// Returns the answer of the outermost layer that has the callback, or what the server makes of its absence.
    pub(super) fn outermost(&self, query: Callback) -> i64 {
        if let Some(layer) = self.layers.iter().rposition(|set| set & query.bit() != 0) {
            return self.answer(layer as u8, query);
        }
        let has = |data: Callback| self.layers.first().is_some_and(|set| set & data.bit() != 0);
        match query {
            CanWrite => has(Pwrite).into(),
            CanFlush | CanFua => has(Flush).into(),
            CanTrim => has(Trim).into(),
            CanZero => 1,
            CanFastZero => (!has(Zero)).into(),
            CanCache => has(Cache).into(),
            CanExtents => has(Extents).into(),
            GetSize => usual(query),
            _ => 0,
        }
    }

    /// Returns true if the server has no reason to make this query, as answers to others tell it all.
    pub(super) fn is_spared(&self, callback: Callback) -> bool {
        let writes = !self.run.readonly && self.outermost(CanWrite) != 0;
        match callback {
            CanWrite => self.run.readonly,
            CanFastZero => !writes || self.outermost(CanZero) == 0,
            CanZero | CanTrim | CanFua => !writes,
            _ => false,
        }
    }

    /// Returns the most serial thread model of the layers below this one.
    pub(super) fn model(&self, layer: u8) -> u64 {
        let asked = self.answers.iter().filter(|one| one.0 < layer && one.1 == ThreadModel);
        asked.map(|one| one.2.cast_unsigned()).min().unwrap_or(3)
    }

    /// Returns the transmission flags that the queries come to.
    pub(super) fn flags(&self) -> u64 {
        let said = |callback| !self.is_spared(callback) && self.outermost(callback) != 0;
        let mine = |event: &&Event| event.kind == Kind::Reply && event.handle == self.client;
        let operations = self.script.events.iter().rev().filter(mine).filter_map(Event::operation);
        let mut deciding =
            operations.filter(|one| matches!(one, Operation::StructuredReply | Operation::StartTls));
        let bits = [
            (!said(CanWrite), 1),
            (said(CanFlush), 2),
            (said(CanFua), 3),
            (said(IsRotational), 4),
            (said(CanTrim), 5),
            (said(CanZero), 6),
            (deciding.next() == Some(Operation::StructuredReply), 7),
            (said(CanMultiConn), 8),
            (said(CanCache), 10),
            (said(CanFastZero), 11),
        ];
        bits.into_iter().fold(1, |flags, (is_set, bit)| flags | u64::from(is_set) << bit)
    }
}
