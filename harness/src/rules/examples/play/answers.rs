//! What layers answer where an example does not say it, and what a client is told then.

use layers_trace::{Callback, Event, Kind, Operation};

use super::Player;
use crate::rules::examples::fields::usual;

impl Player {
    /// Returns what a layer answers where a step does not say it.
    pub(super) fn answer(&self, layer: u8, callback: Callback) -> i64 {
        let said = self.answers.iter().find(|one| (one.0, one.1) == (layer, callback));
        said.map_or_else(|| usual(callback), |said| said.2)
    }

    /// Returns the answer of the outermost layer that has the callback, or what the server makes of its absence.
    pub(super) fn outermost(&self, query: Callback) -> i64 {
        use Callback::{
            Cache, CanCache, CanExtents, CanFastZero, CanFlush, CanFua, CanTrim, CanWrite, CanZero,
        };
        let has =
            |callback: Callback| i64::from(self.layers.first().is_some_and(|set| set & callback.bit() != 0));
        let layer = self.layers.iter().rposition(|set| set & query.bit() != 0);
        layer.map_or_else(
            || match query {
                CanWrite => has(Callback::Pwrite),
                CanFlush | CanFua => has(Callback::Flush),
                CanTrim => has(Callback::Trim),
                CanZero => 1,
                CanFastZero => 1 - has(Callback::Zero),
                CanCache => has(Cache),
                CanExtents => has(Callback::Extents),
                Callback::GetSize => usual(query),
                _ => 0,
            },
            |layer| self.answer(layer as u8, query),
        )
    }

    /// Returns true if the server has no reason to make this query, as answers to others tell it all.
    pub(super) fn is_spared(&self, callback: Callback) -> bool {
        use Callback::{CanFastZero, CanFua, CanTrim, CanWrite, CanZero};
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
        let asked = self.answers.iter().filter(|one| one.0 < layer && one.1 == Callback::ThreadModel);
        asked.map(|one| one.2.cast_unsigned()).min().unwrap_or(3)
    }

    /// Returns the transmission flags that the queries come to.
    pub(super) fn flags(&self) -> u64 {
        use Callback::{
            CanCache, CanFastZero, CanFlush, CanFua, CanMultiConn, CanTrim, CanWrite, CanZero, IsRotational,
        };
        let bits = [
            (CanFlush, 2),
            (CanFua, 3),
            (IsRotational, 4),
            (CanTrim, 5),
            (CanZero, 6),
            (CanMultiConn, 8),
            (CanCache, 10),
            (CanFastZero, 11),
        ];
        let said = |callback| !self.is_spared(callback) && self.outermost(callback) != 0;
        let flags =
            bits.iter().filter(|(callback, _)| said(*callback)).fold(1, |all, (_, bit)| all | 1 << bit);
        let replies = self
            .script
            .events
            .iter()
            .rev()
            .filter(|event| event.kind == Kind::Reply && event.handle == self.client);
        let decides = |operation| matches!(operation, Operation::StructuredReply | Operation::StartTls);
        let last = replies.filter_map(Event::operation).find(|operation| decides(*operation));
        let flags = if last == Some(Operation::StructuredReply) { flags | 1 << 7 } else { flags };
        if said(CanWrite) { flags } else { flags | 2 }
    }
}
