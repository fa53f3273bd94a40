//! What no server can bring about, whatever it does: a thread that leaves a call which it is not in, an answer to something
//! that nobody asked. A trace in which that happens tells of a faulty recording, and is no ground to judge anybody.
//!
//! What a server can do and must not is for the rules.

use layers_trace::{Callback, Event, Kind, Probe};

use super::{Call, History};
use crate::run::Start;

/// One such thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// An exit whose call is not in flight on its thread.
    #[error("a thread leaves a call that it is not in")]
    Stray,
    /// An exit although a call inside has not returned.
    #[error("a thread leaves a call before one that is inside it")]
    Crossed,
    /// An exit of another callback, layer or handle than its enter, or of another process.
    #[error("an exit does not match its enter")]
    Unlike,
    /// A call inside one of the same layer, or of one further in: calls of next go inwards.
    #[error("a call is made inside one of the same layer, or of an inner one")]
    Outwards,
    /// A call that takes no handle, with one.
    #[error("a call that takes no handle has one")]
    Needless,
    /// A call of a layer that has not registered the callback.
    #[error("a layer gets a call that it has not registered")]
    Unregistered,
    /// A layer registered twice.
    #[error("a layer is registered twice")]
    Twice,
    /// A handle that an `open` gives under the number of another one, or under none, or a failed one gives.
    #[error("an open gives a handle with a number that is not its own")]
    Number,
    /// A probe of a call that its thread is not in, or of another layer's.
    #[error("an instrument looks at a call that its thread is not in")]
    Astray,
    /// A filter asks something on a thread that is in a call of another layer.
    #[error("a filter asks something, and its thread is in a call of another layer")]
    Elsewhere,
    /// A reply to a request that no client waits for, or an answer to what no filter asks.
    #[error("there is an answer, and nobody has asked")]
    Unasked,
    /// The process ended with success in the middle of a call, although no layer ends it.
    #[error("the process ended with success in the middle of a call, and no layer ends it")]
    Unfinished,
    /// A call after the server has ended.
    #[error("a callback is called when the server has ended")]
    Late,
}

/// Flaws so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flaws {
    /// How many there are.
    pub count: u64,
    /// The first, and the position of its event.
    pub first: Option<(Flaw, u32)>,
}

/// Numbers that are left free for a moment, by threads that open at the same time.
const MOST_FREE: u32 = 4096;

/// Numbers of handles.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// The highest so far.
    highest: u32,
    /// Lower ones that no `open` has given yet.
    free: Vec<u32>,
}

impl Numbers {
    /// Whether this can be the number of a handle that is new; from now on it cannot.
    fn take(&mut self, number: u32) -> bool {
        if number > self.highest && number - self.highest <= MOST_FREE {
            self.free.extend(self.highest + 1..number);
            self.free.truncate(MOST_FREE as usize);
            self.highest = number;
            return true;
        }
        let place = self.free.iter().position(|free| *free == number);
        place.is_some_and(|place| {
            self.free.swap_remove(place);
            true
        })
    }
}

impl History {
    /// What no server can have brought about.
    pub fn flaws(&self) -> Flaws {
        self.flaws
    }

    pub(super) fn flaw(&mut self, flaw: Flaw, event: &Event) {
        self.flaws.count += 1;
        self.flaws.first = self.flaws.first.or(Some((flaw, event.position)));
    }

    /// Looks at an event as it comes, with the call that it enters or has just left.
    pub(super) fn inspect(&mut self, event: &Event, call: Option<&Call>) {
        // Of HAProxy's calls nothing of the kind is known for certain.
        if self.run().is_some_and(|run| run.server != "nbdkit") {
            return;
        }
        let found = match (event.kind, call) {
            (Kind::Enter | Kind::Exit, _) if self.end.is_some() => Some(Flaw::Late),
            (Kind::Enter, Some(call)) => self.misplaced(call),
            (Kind::Exit, Some(call)) => self.unlike(event, call),
            (Kind::Exit, None) => Some(Flaw::Stray),
            (Kind::Layer, _) if !layers_trace::appctx::is_registration(event) => {
                self.layer(event.layer).is_some().then_some(Flaw::Twice)
            }
            (Kind::Probe, _) => self.astray(event),
            (Kind::End, _) => self.unfinished(event),
            (Kind::Reply | Kind::Answer, _) => (!self.is_asked(event)).then_some(Flaw::Unasked),
            (Kind::Ask, _) => {
                let current = self.thread(event.tid).and_then(|thread| thread.current());
                current.is_some_and(|call| call.layer() != event.layer).then_some(Flaw::Elsewhere)
            }
            _ => None,
        };
        if let Some(flaw) = found {
            self.flaw(flaw, event);
        }
    }

    fn misplaced(&self, call: &Call) -> Option<Flaw> {
        if call.callback.is_appctx() {
            return None;
        }
        let outwards = self.parent(call).is_some_and(|parent| parent.layer() <= call.layer());
        let needless = !call.callback.has_handle() && call.handle() != 0;
        let unregistered = !self.layers.is_empty() && !self.records(call.layer(), call.callback);
        let flaws =
            [(unregistered, Flaw::Unregistered), (outwards, Flaw::Outwards), (needless, Flaw::Needless)];
        flaws.into_iter().find(|(is_so, _)| *is_so).map(|(_, flaw)| flaw)
    }

    fn unlike(&mut self, exit: &Event, call: &Call) -> Option<Flaw> {
        let enter = &call.enter;
        let same = |event: &Event| (event.layer, event.number, event.pid);
        if same(enter) != same(exit) {
            return Some(Flaw::Unlike);
        }
        if call.callback != Callback::Open {
            return (enter.handle != exit.handle && !call.callback.is_appctx()).then_some(Flaw::Unlike);
        }
        let own = if exit.a == 0 { exit.handle == 0 } else { self.numbers.take(exit.handle) };
        (!own).then_some(Flaw::Number)
    }

    /// Under `--run`, and of a daemon, the status is not always that of the process that serves.
    fn unfinished(&self, end: &Event) -> Option<Flaw> {
        let run = self.run().filter(|run| run.never_exits)?;
        let own = !matches!(run.start, Start::Captive | Start::Daemon);
        (own && end.a == 0 && self.in_flight().next().is_some()).then_some(Flaw::Unfinished)
    }

    /// Probes that are taken inside a call, and name it.
    fn astray(&self, event: &Event) -> Option<Flaw> {
        use Probe::{ConfigStrings, ContextBackend, ExportName, InternedGlobally, InternedInConnection};
        let names = [ConfigStrings, ExportName, InternedInConnection, InternedGlobally, ContextBackend];
        event.probe().filter(|probe| names.contains(probe))?;
        let call = self.call(event.tid, event.call);
        let own = call.is_some_and(|call| (call.layer(), call.handle()) == (event.layer, event.handle));
        (!own).then_some(Flaw::Astray)
    }

    fn is_asked(&self, event: &Event) -> bool {
        let asked = match event.kind {
            Kind::Reply => self
                .client(event.handle)
                .and_then(|client| client.waits_for(event.call))
                .map(|request| &request.event),
            _ => self.thread(event.tid).and_then(|thread| thread.ask(event.call)),
        };
        asked.is_some_and(|asked| asked.number == event.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::*;

    fn found(script: Script) -> Option<Flaw> {
        judged(script).history.flaws().first.map(|(flaw, _)| flaw)
    }

    /// The n-th exit of this callback of the plugin, changed.
    fn left(callback: Callback, change: impl FnOnce(&mut Event)) -> Script {
        reference().changed(Kind::Exit, 0, callback, 0, change)
    }

    #[test]
    fn a_whole_trace_has_no_flaw() {
        assert_eq!(found(reference()), None);
    }

    #[test]
    fn a_thread_leaves_the_calls_that_it_is_in_innermost_first() {
        assert_eq!(found(left(Callback::Pread, |exit| exit.tid += 1)), Some(Flaw::Stray));
        let mut lost = reference();
        let exit = lost.index(Kind::Exit, 0, Callback::Pread, 0);
        lost.events.remove(exit);
        assert_eq!(found(lost), Some(Flaw::Crossed));
        assert_eq!(found(left(Callback::Pread, |exit| exit.layer = 1)), Some(Flaw::Unlike));
        let mut stuck = reference();
        let exit = stuck.index(Kind::Exit, 0, Callback::Load, 0);
        stuck.events.remove(exit);
        assert_eq!(found(stuck), Some(Flaw::Outwards));
        let mut handle = reference();
        let load = handle.index(Kind::Enter, 0, Callback::Load, 0);
        handle.events[load].handle = 1;
        assert_eq!(found(handle), Some(Flaw::Needless));
        assert_eq!(found(left(Callback::Pread, |exit| exit.handle += 1)), Some(Flaw::Unlike));
        let mut late = reference();
        late.call(0, Callback::Load, 0);
        assert_eq!(found(late), Some(Flaw::Late));
        let mut unfinished = settled();
        let exit = unfinished.index(Kind::Exit, 2, Callback::Unload, 0);
        unfinished.events.remove(exit);
        assert_eq!(found(unfinished), Some(Flaw::Unfinished));
        assert_eq!(found(settled()), None);
    }

    #[test]
    fn layers_and_handles_are_registered_once() {
        let mut unknown = reference();
        unknown.events.iter_mut().filter(|event| event.kind == Kind::Layer).for_each(|layer| layer.a = 0);
        assert_eq!(found(unknown), Some(Flaw::Unregistered));
        let mut twice = reference();
        let layer = twice.events.iter().find(|event| event.kind == Kind::Layer).unwrap().clone();
        let again = twice.note(Kind::Layer, 0).position;
        *twice.events.last_mut().unwrap() = Event { position: again, ..layer };
        assert_eq!(found(twice), Some(Flaw::Twice));
        let second = |exit: &mut Event| exit.handle = 1;
        assert_eq!(found(reference().changed(Kind::Exit, 0, Callback::Open, 1, second)), Some(Flaw::Number));
        assert_eq!(found(left(Callback::Open, |exit| exit.handle = 0)), Some(Flaw::Number));
    }

    #[test]
    fn who_answers_has_been_asked() {
        let mut answered = reference();
        let reply = answered.events.iter().position(|event| event.kind == Kind::Reply).unwrap();
        let again = answered.events[reply].clone();
        let position = answered.note(Kind::Reply, 0).position;
        *answered.events.last_mut().unwrap() = Event { position, ..again };
        assert_eq!(found(answered), Some(Flaw::Unasked));
        let asking = |layer: u8| {
            let good = reference();
            let pread = good.index(Kind::Exit, 1, Callback::Pread, 0);
            good.with(pread, |script| {
                let ask = script.note(Kind::Ask, Callback::Pread as u8);
                (ask.layer, ask.call) = (layer, ask.position);
            })
        };
        assert_eq!(found(asking(1)), None);
        assert_eq!(found(asking(2)), Some(Flaw::Elsewhere));
        let mut astray = reference();
        let probe = astray.events.iter_mut().find(|event| event.kind == Kind::Probe).unwrap();
        probe.layer += 1;
        assert_eq!(found(astray), Some(Flaw::Astray));
    }

    #[test]
    fn threads_may_open_at_the_same_time() {
        let mut numbers = Numbers::default();
        assert!([2, 1, 3].into_iter().all(|number| numbers.take(number)));
        assert!(![1, 3, 0, u32::MAX].into_iter().any(|number| numbers.take(number)));
    }
}
