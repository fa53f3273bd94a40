//! nbdkit_context_set_next.

use layers_trace::event::{Below, ContextFunction};
use layers_trace::{Callback, Event};

use crate::rules::check::{Now, Report};

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

    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
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
