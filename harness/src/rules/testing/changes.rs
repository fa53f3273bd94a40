//! Changes to a trace.

use layers_trace::{Callback, Event, Field, Kind, Probe};

use super::{Script, text};
use crate::version::Version;

impl Script {
    /// Judged by the rules of this version.
    pub(crate) fn of_version(mut self, version: Version) -> Script {
        self.run.version = version;
        self
    }

    /// Of a run in which no layer ends the process.
    pub(crate) fn settled(mut self) -> Script {
        self.run.never_exits = true;
        let run = serde_json::to_string(&self.run).unwrap();
        self.events[0].texts = vec![text(Field::Json, &run)];
        self
    }

    /// Removes the n-th call of this callback at this layer, enter and exit.
    pub(crate) fn without(mut self, layer: u8, callback: Callback, nth: usize) -> Script {
        let call = self.events[self.index(Kind::Enter, layer, callback, nth)].position;
        self.events.retain(|event| !(is_call(event) && event.call == call));
        self
    }

    /// Moves the n-th call of this callback at this layer (enter and exit together) before the event at `to`.
    pub(crate) fn moved(mut self, layer: u8, callback: Callback, nth: usize, to: usize) -> Script {
        let call = self.events[self.index(Kind::Enter, layer, callback, nth)].position;
        let mine = |event: &Event| is_call(event) && event.call == call;
        let before = self.events.iter().take(to).filter(|event| mine(event)).count();
        let taken: Vec<Event> = self.events.iter().filter(|event| mine(event)).cloned().collect();
        self.events.retain(|event| !mine(event));
        self.events.splice(to - before..to - before, taken);
        self
    }

    /// Makes the n-th call of this callback at this layer on a thread of its own.
    pub(crate) fn elsewhere(mut self, layer: u8, callback: Callback, nth: usize) -> Script {
        let call = self.events[self.index(Kind::Enter, layer, callback, nth)].position;
        let calls = self.events.iter_mut().filter(|event| is_call(event) && event.call == call);
        calls.for_each(|event| event.tid += 50);
        self
    }

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

    /// The last probe of this kind found that something was not as promised.
    pub(crate) fn denied(mut self, probe: Probe) -> Script {
        self.events.iter_mut().rfind(|event| event.probe() == Some(probe)).unwrap().a = 0;
        self
    }

    /// Takes this callback away from a layer: from its registration, and its calls.
    pub(crate) fn lacking(mut self, layer: u8, callback: Callback) -> Script {
        for event in &mut self.events {
            if event.kind == Kind::Layer && event.layer == layer {
                event.a &= !callback.bit();
            }
        }
        let of_it = |event: &Event| event.layer == layer && event.callback() == Some(callback);
        let calls: Vec<u32> =
            self.events.iter().filter(|event| of_it(event)).map(|event| event.call).collect();
        self.events.retain(|event| !(is_call(event) && calls.contains(&event.call)));
        self
    }

    /// Registers the plugin without a magic key, and all else as it was.
    pub(crate) fn magic_none(mut self) -> Script {
        for event in self.events.iter_mut().filter(|event| event.kind == Kind::Layer && event.layer == 0) {
            let key = event.texts.iter_mut().find(|text| text.field == Field::Key).unwrap();
            key.bytes.clear();
        }
        self
    }

    /// Registers the plugin with this magic key; `None` registers nothing about it.
    pub(crate) fn magic(mut self, key: Option<&str>) -> Script {
        for event in self.events.iter_mut().filter(|event| event.kind == Kind::Layer && event.layer == 0) {
            event.texts = key.iter().map(|key| text(Field::Key, key)).collect();
        }
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

/// The event is part of a call.
fn is_call(event: &Event) -> bool {
    matches!(event.kind, Kind::Enter | Kind::Exit | Kind::Probe)
}
