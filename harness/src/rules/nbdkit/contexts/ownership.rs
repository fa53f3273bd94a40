//! nbdkit_context_set_next.

use layers_trace::event::{Below, ContextFunction};
use layers_trace::{Callback, Event, Kind};

use crate::rules::check::{Check, Now, Report, Watch};

/// A filter's own context, as far as it writes down what it associates with it.
struct Association {
    layer: u8,
    context: u64,
    /// What is associated now.
    next: u64,
    /// Who said so.
    tid: u32,
    ask: Event,
}

/// The pointer changes hands.
#[derive(Default)]
pub(super) struct Ownership {
    associations: Vec<Association>,
    /// The first handle of each chain that begins below a filter which manages contexts, and the `next` for it.
    below: Vec<(u32, u8, u64)>,
    /// Those that a filter has got back: handle, and the answer that gave it.
    taken: Vec<(u32, Event)>,
}

impl Ownership {
    fn answered(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(ask) = now.history.thread(now.event.tid).and_then(|thread| thread.asking()) else { return };
        match now.event.below() {
            Some(Below::Context(ContextFunction::SetNext)) => self.set(now, ask, report),
            Some(Below::Context(ContextFunction::Open)) if now.event.b != 0 => {
                let newest = now.history.handles().filter(|handle| handle.opened > ask.position);
                if let Some(top) = newest.max_by_key(|handle| handle.layer) {
                    self.knows(top.id, ask.layer, now.event.b);
                }
            }
            _ => {}
        }
    }

    fn knows(&mut self, handle: u32, layer: u8, next: u64) {
        self.below.retain(|(id, other, pointer)| *id != handle && (*other, *pointer) != (layer, next));
        self.below.push((handle, layer, next));
    }

    fn set(&mut self, now: &Now<'_>, ask: &Event, report: &mut Report<'_>) {
        let (layer, context) = (ask.layer, ask.context);
        let known = self.associations.iter().position(|one| (one.layer, one.context) == (layer, context));
        let known = known.map(|index| self.associations.swap_remove(index));
        let mut handles = now.history.handles();
        let handle = handles.find(|handle| handle.layer == layer && handle.context() == context);
        let before = known.as_ref().map(|one| one.next).or(handle.and_then(|handle| handle.next));
        if let Some(before) = before {
            report.exercised();
            if before != now.event.b {
                let earlier = known.as_ref().map(|one| &one.ask).or(handle.map(|handle| &handle.open));
                report.broken(
                    earlier.into_iter().chain([ask, now.event]),
                    "nbdkit_context_set_next gives back what was associated before",
                    if now.event.b == 0 { "NULL" } else { "something else" },
                );
            }
        }
        // What was never associated by hand is the chain that the server opened with the handle.
        let automatic = handle.filter(|_| known.is_none());
        let inner = automatic.and_then(|handle| now.history.handle_inside(handle, Callback::Close));
        if let Some(inner) = inner.filter(|_| now.event.b != 0) {
            self.knows(inner.id, layer, now.event.b);
        }
        let handle_of =
            |next: u64| self.below.iter().find(|one| (one.1, one.2) == (layer, next)).map(|one| one.0);
        let (got, given) = (handle_of(now.event.b), handle_of(ask.b));
        self.taken.retain(|(handle, _)| Some(*handle) != given);
        self.taken.extend(got.map(|handle| (handle, now.event.clone())));
        let ask = ask.clone();
        self.associations.push(Association { layer, context, next: ask.b, tid: ask.tid, ask });
    }

    /// The server finalizes or closes what is no longer its own.
    fn ended(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(call) = now.call else { return };
        let taken = self.taken.iter().find(|(handle, _)| *handle == call.handle());
        if let Some((handle, answer)) = taken.filter(|_| call.parent.is_none()) {
            report.broken(
                [answer, now.event],
                format!("handle {handle} of L{} is the filter's to finalize and close", call.layer()),
                format!("the server calls {}", call.callback),
            );
        }
        if call.callback == Callback::Close {
            self.taken.retain(|(handle, _)| *handle != call.handle());
            self.below.retain(|(handle, ..)| *handle != call.handle());
            let own = now.handle.map(|handle| (handle.layer, handle.context()));
            self.associations.retain(|one| Some((one.layer, one.context)) != own);
        }
    }

    fn given(&self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(handle) = now.handle else { return };
        let own = |one: &&Association| (one.layer, one.context) == (handle.layer, handle.context());
        // On another thread the call may have begun before.
        let Some(one) = self.associations.iter().find(own).filter(|one| one.tid == now.event.tid) else {
            return;
        };
        report.exercised();
        if now.event.context != one.next {
            report.broken(
                [&one.ask, now.event],
                format!("L{} gets the next that it has associated with handle {}", handle.layer, handle.id),
                if now.event.context == 0 { "NULL" } else { "another one" },
            );
        }
    }
}

impl Check for Ownership {
    fn watches(&self) -> Watch {
        Watch::NONE.enters_where(Callback::has_handle).notes(Kind::Answer)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        match now.event.callback() {
            None => self.answered(now, report),
            Some(callback) => {
                if matches!(callback, Callback::Finalize | Callback::Close) {
                    self.ended(now, report);
                }
                if callback != Callback::Close {
                    self.given(now, report);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::rules::testing::*;
    use layers_trace::{Below, Callback, ContextFunction, Event, Kind};

    const RULE: &str = "manual.set_next.ownership";
    const NEW: u64 = 0xd000;

    /// In its first pread L1 takes its `next` away, closes what is below, and puts another in its place. `gets` is what
    /// the first call gives back.
    fn reopening(gets: u64) -> Script {
        let good = served(&run(1));
        let pread = good.index(Kind::Enter, 0, Callback::Pread, 0);
        let own = context(1, 2);
        let set = |script: &mut Script, to: u64, back: u64| {
            let shape = move |event: &mut Event| (event.context, event.b) = (own, to);
            let below = Below::Context(ContextFunction::SetNext);
            asks(script, 1, below, shape, move |event| event.b = back, |_| {});
        };
        let mut fresh = Vec::new();
        let script = good.with(pread, |script| {
            set(script, 0, gets);
            script.on(&[3, 4], 0, Callback::Close, 0);
            fresh = opens(script, 1, false, NEW);
            set(script, NEW, 0);
        });
        // From here on the plugin's handle is the new one, and the server closes that.
        let mut later = script;
        let from = later.index(Kind::Enter, 0, Callback::Pread, 0);
        for event in later.events.iter_mut().skip(from) {
            match (event.layer, event.callback()) {
                (0, Some(_)) if event.handle == 3 => event.handle = fresh[0],
                (1, Some(_)) if event.context != 0 && event.handle == 4 && event.kind == Kind::Enter => {
                    event.context = NEW;
                }
                _ => {}
            }
        }
        later
    }

    #[test]
    fn what_was_associated_comes_back_and_what_is_stays() {
        exercised_and_holds(RULE, reopening(context(0, 2)));
        rejects(RULE, reopening(0));
        rejects(RULE, reopening(NEW));
        let good = reopening(context(0, 2));
        rejects(RULE, good.changed(Kind::Enter, 1, Callback::Flush, 0, |event| event.context = 0));
        assert_eq!(judged(reference()).result(RULE).unwrap().exercised, 0);
    }

    #[test]
    fn the_server_leaves_alone_what_the_filter_has_taken_back() {
        // The filter does not close it, the server does.
        let last = reopening(context(0, 2)).index(Kind::Exit, 0, Callback::Close, 2);
        let bad = reopening(context(0, 2)).without(0, Callback::Close, 1);
        let bad = bad.with(last - 1, |script| script.on(&[3, 4], 0, Callback::Close, 0));
        rejects(RULE, bad);
    }
}
