//! From open to close, in a filter's hands.

use layers_trace::Callback::{Close, Finalize, Open, Prepare};
use std::collections::VecDeque;

use layers_trace::{Below, ContextFunction, Event, Kind};

use super::{by_owner, top_of_manual};
use crate::history::{Call, ChainId, Handle, History};
use crate::rules::check::{Kept, Now, Party, Report, Rule, Said, by, enters_where, given, remembering};

pub(super) const RULES: &[Rule] = &[Rule {
    id: "manual.life",
    statement: "A filter prepares a context of its own before it uses it, finalizes what is prepared, and closes it once.",
    clause: "nbdkit-filter(3), nbdkit_next and nbdkit_next_context_close",
    antecedent: "a context that a filter has opened itself, and then uses or closes",
    good: "NBD_CMD_READ { L1.pread { L1.context_open { L0.open } = 77 L0.get_size of=2 L0.pread of=2 L0.close of=2 } }",
    bad: "NBD_CMD_READ { L2.pread { L2.context_open { L1.open { L0.open } } = 77 L1.get_size of=2 } }",
    fix: "call next->prepare after nbdkit_next_context_open, and next->finalize before nbdkit_next_context_close",
    check: by!(remembering(
        enters_where(|callback| callback.is_query() || callback.is_data())
            .enters(&[Close])
            .exits(&[Open])
            .notes(&[Kind::Answer]),
        Life::see
    )
    .minding_data_if(|_, history| history.handles().any(|handle| handle.manual))
    .and_end(Life::end)),
    ..Rule::REQUIRED.since(1, 25, 4).of(Party::Filter)
}];

/// Prepared, used, finalized, closed.
#[derive(Default)]
struct Life {
    /// Contexts of filters that write down what they do, by opener and `next`.
    contexts: Kept<(u8, u64), ChainId>,
    /// Those of them that a filter has handed over to the server.
    associated: Vec<ChainId>,
    /// The chain that each thread has opened last.
    opened: Kept<u32, ChainId>,
    /// The latest that were closed by their filters: handle, filter, close.
    closed: VecDeque<(u32, u8, Event)>,
}

/// Closed contexts that are remembered.
const MOST_CLOSED: usize = 64;

impl Life {
    fn used(now: &Now<'_>, handle: &Handle, report: &mut Report<'_>) -> Said {
        given(by_owner(now, handle) && now.history.records(handle.layer, Prepare))?;
        report.exercised();
        given(handle.prepared != Some(true))?;
        let expected =
            format!("the filter that opened handle {} of L{} prepares it first", handle.id, handle.layer);
        report.broken(handle.preparation(), expected, "it uses it")
    }

    fn closed(&mut self, now: &Now<'_>, handle: &Handle, report: &mut Report<'_>) -> Said {
        let owner = handle.owner.filter(|_| by_owner(now, handle))?;
        report.exercised();
        self.closed.truncate(MOST_CLOSED - 1);
        self.closed.push_front((handle.id, owner, now.event.clone()));
        let owed = now.history.records(handle.layer, Finalize) && handle.prepared == Some(true);
        let prepare = handle.preparing.as_ref().filter(|_| owed && handle.finalizing.is_none())?;
        let expected = format!("finalize of handle {} of L{} before its close", handle.id, handle.layer);
        report.broken(prepare, expected, "it was left out")
    }

    fn closed_again(&self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let (id, filter) = now.call.map(Call::handle).zip(now.parent().map(Call::layer))?;
        let (.., first) = self.closed.iter().find(|one| (one.0, one.1) == (id, filter))?;
        let expected = format!("one close of handle {id} of L{}", now.event.layer);
        report.broken(first, expected, "another one")
    }

    fn answered(&mut self, now: &Now<'_>) -> Said {
        let ask = now.asking()?;
        match now.event.below() {
            Some(Below::Context(ContextFunction::Open)) if now.event.b != 0 => {
                let chain = self.opened.get(now.event.tid).filter(|chain| chain.0 > ask.position)?;
                self.contexts.set((ask.layer, now.event.b), *chain)
            }
            Some(Below::Context(ContextFunction::SetNext)) => {
                let chain = |next| self.contexts.get((ask.layer, next)).copied();
                let (handed_over, taken) = (chain(ask.b), chain(now.event.b));
                self.associated.retain(|chain| Some(*chain) != taken);
                self.associated.extend(handed_over);
                Some(())
            }
            _ => None,
        }
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        match (now.event.kind, now.event.callback()) {
            (Kind::Answer, _) => self.answered(now),
            (Kind::Exit, _) => {
                let chain = now.call.filter(|_| now.event.result() != 0)?.chain?;
                self.opened.set(now.event.tid, chain)
            }
            (_, Some(Close)) if now.handle.is_none() => self.closed_again(now, report),
            (_, Some(Close)) => self.closed(now, top_of_manual(now)?, report),
            _ => Life::used(now, top_of_manual(now)?, report),
        }
    }

    fn end(&mut self, history: &History, report: &mut Report<'_>) -> Said {
        given(history.ended_cleanly())?;
        let mut left: Vec<&Handle> = history
            .handles()
            .filter(|handle| handle.manual && handle.open.position == handle.chain.0)
            .filter(|handle| history.records(handle.layer, Close))
            // Of one whose filter tells nothing it is not known whether the server was to close it.
            .filter(|handle| self.contexts.iter().any(|(_, chain)| *chain == handle.chain))
            .filter(|handle| !self.associated.contains(&handle.chain))
            .collect();
        left.sort_by_key(|handle| handle.opened);
        for handle in left {
            let expected =
                format!("the filter that opened handle {} of L{} closes it", handle.id, handle.layer);
            report.broken(&handle.open, expected, "it never does");
        }
        Some(())
    }
}
