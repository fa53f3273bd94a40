//! nbdkit_context_set_next.

use layers_trace::Callback::{self, Close, Finalize};
use layers_trace::Event;
use layers_trace::Kind;
use layers_trace::event::{Below, ContextFunction};

use crate::rules::check::{Kept, Now, Report, Rule, Said, by, enters_where, given, remembering};

pub(super) const RULES: &[Rule] = &[Rule {
    id: "manual.set_next.ownership",
    statement: "nbdkit_context_set_next gives back what was associated before, which is the filter's from then on; later callbacks get what is associated now.",
    clause: "nbdkit-filter(3), nbdkit_context_set_next",
    antecedent: "a filter that changes its next, and writes that down",
    good: "NBD_CMD_READ { L1.pread { L1.set_next new=77 = 0xc000 } }",
    bad: "NBD_CMD_READ { L1.pread { L1.set_next new=77 = NULL } }",
    fix: "exchange the pointer in the context and nothing else",
    check: by!(remembering(enters_where(Callback::has_handle).notes(&[Kind::Answer]), Ownership::see)
        .minding_data_if(|ownership, _| !ownership.associations.is_empty())),
    ..Rule::REQUIRED.since(1, 25, 4)
}];

/// The pointer changes hands.
#[derive(Default)]
struct Ownership {
    /// Filters' own contexts, by layer, as far as they write down what they associate with them: who said so last.
    associations: Kept<(u8, u64), Event>,
    /// The first handle of each chain that begins below a filter which manages contexts, and the `next` for it.
    below: Vec<(u32, u8, u64)>,
    /// Those that a filter has got back: handle, and the answer that gave it.
    taken: Kept<u32, Event>,
}

impl Ownership {
    fn answered(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let ask = now.asking()?;
        match now.event.below() {
            Some(Below::Context(ContextFunction::SetNext)) => self.set(now, ask, report),
            Some(Below::Context(ContextFunction::Open)) if now.event.b != 0 => {
                let newest = now.history.handles().filter(|handle| handle.opened > ask.position);
                let top = newest.max_by_key(|handle| handle.layer)?;
                self.knows(top.id, ask.layer, now.event.b);
                Some(())
            }
            _ => None,
        }
    }

    fn knows(&mut self, handle: u32, layer: u8, next: u64) {
        self.below.retain(|(id, other, pointer)| *id != handle && (*other, *pointer) != (layer, next));
        self.below.push((handle, layer, next));
    }

    fn set(&mut self, now: &Now<'_>, ask: &Event, report: &mut Report<'_>) -> Said {
        let (layer, context) = (ask.layer, ask.context);
        let known = self.associations.take((layer, context));
        let mut handles = now.history.handles();
        let handle = handles.find(|handle| handle.layer == layer && handle.context() == context);
        let before = known.as_ref().map(|ask| ask.b).or(handle.and_then(|handle| handle.next));
        if let Some(before) = before {
            let earlier = known.as_ref().or(handle.map(|handle| &handle.open));
            let expected = "nbdkit_context_set_next gives back what was associated before";
            let actual = if now.event.b == 0 { "NULL" } else { "something else" };
            report.expect(before == now.event.b, (earlier, ask), expected, actual);
        }
        // What was never associated by hand is the chain that the server opened with the handle.
        let automatic = handle.filter(|_| known.is_none());
        let inner = automatic.and_then(|handle| now.history.handle_inside(handle, Close));
        if let Some(inner) = inner.filter(|_| now.event.b != 0) {
            self.knows(inner.id, layer, now.event.b);
        }
        let handle_of =
            |next: u64| self.below.iter().find(|one| (one.1, one.2) == (layer, next)).map(|one| one.0);
        let (got, handed_over) = (handle_of(now.event.b), handle_of(ask.b));
        handed_over.and_then(|handle| self.taken.take(handle));
        got.and_then(|handle| self.taken.set(handle, now.event.clone()));
        self.associations.set((layer, context), ask.clone())
    }

    /// The server finalizes or closes what is no longer its own.
    fn ended(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let (call, id) = (now.call?, now.call?.handle());
        if let Some(answer) = self.taken.get(id).filter(|_| call.parent.is_none()) {
            let expected = format!("handle {id} of L{} is the filter's to finalize and close", call.layer());
            report.broken(answer, expected, format!("the server calls {}", call.callback));
        }
        given(call.callback == Close)?;
        self.taken.take(id);
        self.below.retain(|(handle, ..)| *handle != id);
        let handle = now.handle?;
        self.associations.take((handle.layer, handle.context()));
        Some(())
    }

    fn called(&self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let handle = now.handle?;
        // On another thread the call may have begun before.
        let own = self.associations.get((handle.layer, handle.context()));
        let ask = own.filter(|ask| ask.tid == now.event.tid)?;
        let expected =
            format!("L{} gets the next that it has associated with handle {}", handle.layer, handle.id);
        let actual = if now.event.context == 0 { "NULL" } else { "another one" };
        report.expect(now.event.context == ask.b, ask, expected, actual)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        match now.event.callback() {
            None => self.answered(now, report),
            Some(callback) => {
                if matches!(callback, Finalize | Close) {
                    self.ended(now, report);
                }
                given(callback != Close)?;
                self.called(now, report)
            }
        }
    }
}
