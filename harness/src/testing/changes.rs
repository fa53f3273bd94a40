//! Changes to a trace.

use layers_trace::{Callback, Event, Kind};

use super::Script;

impl Script {
    /// Puts what `add` adds before the event at `at`, in the thread and process of that event.
    pub(crate) fn with(mut self, at: usize, add: impl FnOnce(&mut Script)) -> Script {
        let rest = self.events.split_off(at);
        (self.tid, self.pid) = (rest[0].tid, rest[0].pid);
        add(&mut self);
        self.events.extend(rest);
        self
    }

    /// Repeats the n-th call of this callback at this layer right after its exit.
    pub(crate) fn doubled(mut self, layer: u8, callback: Callback, nth: usize) -> Script {
        let enter = self.index(Kind::Enter, layer, callback, nth);
        let exit = self.index(Kind::Exit, layer, callback, nth);
        let fresh = self.fresh;
        self.fresh += 2;
        let mut again = [self.events[enter].clone(), self.events[exit].clone()];
        again[0].position = fresh;
        again[1].position = fresh + 1;
        again.iter_mut().for_each(|event| event.call = fresh);
        self.events.splice(exit + 1..exit + 1, again);
        self
    }

    /// Changes the n-th event of this kind, layer and callback.
    pub(crate) fn changed(
        mut self,
        kind: Kind,
        layer: u8,
        callback: Callback,
        nth: usize,
        change: impl FnOnce(&mut Event),
    ) -> Script {
        let index = self.index(kind, layer, callback, nth);
        change(&mut self.events[index]);
        self
    }
}
