//! Looks at each event as it comes: is it one that a server can have brought about?

use layers_trace::{Callback, Event, Kind, Probe};

use super::call::Call;
use super::recording_fault::RecordingFault;
use super::state::History;
use crate::run::Start;

impl History {
    /// Looks at an event as it comes, with the call that it enters or has just left.
    pub(super) fn inspect(&mut self, event: &Event, call: Option<&Call>) {
        // Of HAProxy's calls nothing of the kind is known for certain.
        if self.run().is_some_and(|run| run.server != "nbdkit") {
            return;
        }
        let found = match (event.kind, call) {
            (Kind::Enter | Kind::Exit, _) if self.end().is_some() => Some(RecordingFault::Late),
            (Kind::Enter, Some(call)) => self.misplaced(call),
            (Kind::Exit, Some(call)) => self.unlike(event, call),
            (Kind::Exit, None) => Some(RecordingFault::Stray),
            (Kind::Layer, _) if !layers_trace::appctx::is_registration(event) => {
                self.layer(event.layer).is_some().then_some(RecordingFault::Twice)
            }
            (Kind::Probe, _) => self.astray(event),
            (Kind::End, _) => self.unfinished(event),
            (Kind::Reply | Kind::Answer, _) => (!self.is_asked(event)).then_some(RecordingFault::Unasked),
            (Kind::Ask, _) => {
                let current = self.thread(event.tid).and_then(|thread| thread.current());
                current.is_some_and(|call| call.layer() != event.layer).then_some(RecordingFault::Elsewhere)
            }
            _ => None,
        };
        if let Some(flaw) = found {
            self.flaws.add(flaw, event);
        }
    }

    fn misplaced(&self, call: &Call) -> Option<RecordingFault> {
        if call.callback.is_appctx() {
            return None;
        }
        let outwards = self.parent(call).is_some_and(|parent| parent.layer() <= call.layer());
        let needless = !call.callback.has_handle() && call.handle() != 0;
        let unregistered = !self.layers().is_empty() && !self.records(call.layer(), call.callback);
        let flaws = [
            (unregistered, RecordingFault::Unregistered),
            (outwards, RecordingFault::Outwards),
            (needless, RecordingFault::Needless),
        ];
        flaws.into_iter().find(|(is_so, _)| *is_so).map(|(_, flaw)| flaw)
    }

    fn unlike(&mut self, exit: &Event, call: &Call) -> Option<RecordingFault> {
        let enter = &call.enter;
        let same = |event: &Event| (event.layer, event.number, event.pid);
        if same(enter) != same(exit) {
            return Some(RecordingFault::Unlike);
        }
        if call.callback != Callback::Open {
            return (enter.handle != exit.handle && !call.callback.is_appctx())
                .then_some(RecordingFault::Unlike);
        }
        let own = if exit.a == 0 { exit.handle == 0 } else { self.numbers.take(exit.handle) };
        (!own).then_some(RecordingFault::Number)
    }

    /// Under `--run`, and of a daemon, the status is not always that of the process that serves.
    fn unfinished(&self, end: &Event) -> Option<RecordingFault> {
        let run = self.run().filter(|run| run.never_exits)?;
        let own = !matches!(run.start, Start::Captive | Start::Daemon);
        (own && end.a == 0 && self.in_flight().next().is_some()).then_some(RecordingFault::Unfinished)
    }

    /// Probes that are taken inside a call, and name it.
    fn astray(&self, event: &Event) -> Option<RecordingFault> {
        use Probe::{ConfigStrings, ContextBackend, ExportName, InternedGlobally, InternedInConnection};
        let names = [ConfigStrings, ExportName, InternedInConnection, InternedGlobally, ContextBackend];
        event.probe().filter(|probe| names.contains(probe))?;
        let call = self.call(event.tid, event.call);
        let own = call.is_some_and(|call| (call.layer(), call.handle()) == (event.layer, event.handle));
        (!own).then_some(RecordingFault::Astray)
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
    use crate::history::recording_fault::Numbers;
    use crate::testing::*;

    fn found(script: Script) -> Option<RecordingFault> {
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
        assert_eq!(found(left(Callback::Pread, |exit| exit.tid += 1)), Some(RecordingFault::Stray));
        let mut lost = reference();
        let exit = lost.index(Kind::Exit, 0, Callback::Pread, 0);
        lost.events.remove(exit);
        assert_eq!(found(lost), Some(RecordingFault::Crossed));
        assert_eq!(found(left(Callback::Pread, |exit| exit.layer = 1)), Some(RecordingFault::Unlike));
        let mut stuck = reference();
        let exit = stuck.index(Kind::Exit, 0, Callback::Load, 0);
        stuck.events.remove(exit);
        assert_eq!(found(stuck), Some(RecordingFault::Outwards));
        let mut handle = reference();
        let load = handle.index(Kind::Enter, 0, Callback::Load, 0);
        handle.events[load].handle = 1;
        assert_eq!(found(handle), Some(RecordingFault::Needless));
        assert_eq!(found(left(Callback::Pread, |exit| exit.handle += 1)), Some(RecordingFault::Unlike));
        let mut late = reference();
        late.call(0, Callback::Load, 0);
        assert_eq!(found(late), Some(RecordingFault::Late));
        let mut unfinished = settled();
        let exit = unfinished.index(Kind::Exit, 2, Callback::Unload, 0);
        unfinished.events.remove(exit);
        assert_eq!(found(unfinished), Some(RecordingFault::Unfinished));
        assert_eq!(found(settled()), None);
    }

    #[test]
    fn layers_and_handles_are_registered_once() {
        let mut unknown = reference();
        unknown.events.iter_mut().filter(|event| event.kind == Kind::Layer).for_each(|layer| layer.a = 0);
        assert_eq!(found(unknown), Some(RecordingFault::Unregistered));
        let mut twice = reference();
        let layer = twice.events.iter().find(|event| event.kind == Kind::Layer).unwrap().clone();
        let again = twice.note(Kind::Layer, 0).position;
        *twice.events.last_mut().unwrap() = Event { position: again, ..layer };
        assert_eq!(found(twice), Some(RecordingFault::Twice));
        let second = |exit: &mut Event| exit.handle = 1;
        assert_eq!(
            found(reference().changed(Kind::Exit, 0, Callback::Open, 1, second)),
            Some(RecordingFault::Number)
        );
        assert_eq!(found(left(Callback::Open, |exit| exit.handle = 0)), Some(RecordingFault::Number));
    }

    #[test]
    fn who_answers_has_been_asked() {
        let mut answered = reference();
        let reply = answered.events.iter().position(|event| event.kind == Kind::Reply).unwrap();
        let again = answered.events[reply].clone();
        let position = answered.note(Kind::Reply, 0).position;
        *answered.events.last_mut().unwrap() = Event { position, ..again };
        assert_eq!(found(answered), Some(RecordingFault::Unasked));
        let asking = |layer: u8| {
            let good = reference();
            let pread = good.index(Kind::Exit, 1, Callback::Pread, 0);
            good.with(pread, |script| {
                let ask = script.note(Kind::Ask, Callback::Pread as u8);
                (ask.layer, ask.call) = (layer, ask.position);
            })
        };
        assert_eq!(found(asking(1)), None);
        assert_eq!(found(asking(2)), Some(RecordingFault::Elsewhere));
        let mut astray = reference();
        let probe = astray.events.iter_mut().find(|event| event.kind == Kind::Probe).unwrap();
        probe.layer += 1;
        assert_eq!(found(astray), Some(RecordingFault::Astray));
    }

    #[test]
    fn threads_may_open_at_the_same_time() {
        let mut numbers = Numbers::default();
        assert!([2, 1, 3].into_iter().all(|number| numbers.take(number)));
        assert!(![1, 3, 0, u32::MAX].into_iter().any(|number| numbers.take(number)));
    }
}
