//! Where a context is opened, used and closed.

use layers_trace::Callback::{self, AfterFork, Cleanup, Close, Finalize, Open};
use layers_trace::{Event, Kind};

use super::{by_owner, opens_manual, top_of_manual};
use crate::history::ConnectionId;
use crate::rules::check::{
    Kept, Now, Party, PerLayer, Report, Rule, Said, at, by, enters, enters_where, given, remembering, unless,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "manual.where",
        statement: "A filter opens contexts while it serves a client; shared ones also from after_fork to cleanup. Those that are not shared it uses for that client only.",
        clause: "nbdkit-filter(3), nbdkit_next_context_open and .after_fork",
        antecedent: "a context that a filter opens itself, and each use of one that is not shared",
        good: "NBD_CMD_READ { L1.pread { L1.context_open { L0.open } = 77 L0.close of=2 } }",
        bad: "L0 without=get_ready; L1.get_ready { L0.open }",
        fix: "open shared contexts in after_fork at the earliest, others in callbacks of their connection",
        check: by!(remembering(enters_where(Callback::has_handle).calls(&[Open]), Place::see)
            .minding_data_if(|place, _| !place.bound.is_empty())),
        ..Rule::REQUIRED.since(1, 25, 8).of(Party::Filter)
    },
    Rule {
        id: "manual.nesting-in-after_fork",
        statement: "When a filter opens a context in its after_fork, the after_fork of each layer that is opened has returned.",
        clause: "nbdkit-filter(3), .after_fork",
        antecedent: "an open below a filter that is in its after_fork",
        good: "L0.after_fork L1.after_fork { L0.open }",
        bad: "L1.after_fork { L0.open }",
        also: &["after_fork.inner-to-outer"],
        fix: "run after_fork from the plugin outwards",
        check: by!(remembering(enters(&[Open]).exits(&[AfterFork]), in_after_fork)),
        ..Rule::REQUIRED.since(1, 25, 8)
    },
    Rule {
        id: "manual.nesting-in-cleanup",
        statement: "When a filter closes a context in its cleanup, the layers below have not begun their own cleanup.",
        clause: "nbdkit-filter(3), .cleanup",
        antecedent: "a finalize or close below a filter that is in its cleanup",
        good: "L0.after_fork L1.after_fork { L0.open } SIGTERM L1.cleanup { L0.close }",
        bad: "L0.after_fork L1.after_fork { L0.open } SIGTERM enter L0.cleanup t7: L1.cleanup { L0.close }",
        also: &["lifecycle.cleanup.outer-to-inner", "lifecycle.main-thread"],
        fix: "run cleanup from the outermost layer inwards",
        check: by!(at(enters(&[Finalize, Close]), in_cleanup)),
        ..Rule::REQUIRED.since(1, 25, 8)
    },
];

/// Opened where it may be, and used by whom it is for.
#[derive(Default)]
struct Place {
    /// Open handles of contexts that are not shared, and whose they are.
    bound: Kept<u32, ConnectionId>,
}

impl Place {
    fn opened(now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let call = now.call?;
        let owner = opens_manual(call)?;
        let root = now.history.root(call);
        // On a thread of the filter's own: nothing tells what it is about.
        unless(root.id() == call.id())?;
        report.exercised();
        unless(root.callback.is_connected())?;
        if !matches!(root.callback, AfterFork | Cleanup) {
            let expected = format!("L{owner} opens a context from after_fork to cleanup");
            return report.broken(root, expected, format!("in {}", root.callback));
        }
        given(now.asking().is_some_and(|ask| ask.layer == owner && ask.c == 0))?;
        report.broken(root, format!("what L{owner} opens in {} is shared", root.callback), "it is not")
    }

    fn bound(&mut self, now: &Now<'_>) -> Said {
        let call = now.call.filter(|call| opens_manual(call).is_some())?;
        given(now.asking().is_some_and(|ask| ask.c == 0) && now.event.result() != 0)?;
        self.bound.set(now.event.handle, call.connection?)
    }

    fn used(&self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let handle = top_of_manual(now).filter(|handle| by_owner(now, handle))?;
        let connection = self.bound.get(handle.id)?;
        let root = now.history.root(now.call?);
        report.exercised();
        unless(root.connection == Some(*connection))?;
        let (id, layer) = (handle.id, handle.layer);
        let expected = format!("handle {id} of L{layer} is used for the client that it was opened for");
        report.broken(&handle.open, expected, format!("in {} for another one, or none", root.callback))
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        match (now.event.kind, now.event.callback()) {
            (Kind::Enter, Some(Open)) => Place::opened(now, report),
            (Kind::Exit, Some(Open)) => self.bound(now),
            (_, Some(callback)) => {
                self.used(now, report);
                given(callback == Close)?;
                self.bound.take(now.event.handle);
                Some(())
            }
            _ => None,
        }
    }
}

/// The call that a filter's call from its own `callback` is nested in.
fn within<'a>(now: &Now<'a>, callback: Callback) -> Option<&'a Event> {
    let call = now.call?;
    let root = now.history.root(call);
    (root.callback == callback && root.layer() > call.layer()).then_some(&root.enter)
}

/// What is opened in after_fork is ready for it.
fn in_after_fork(ready: &mut PerLayer<()>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let layer = now.event.layer;
    if now.is_exit() {
        given(now.event.result() == 0)?;
        return ready.set(layer, ());
    }
    let outer = within(now, AfterFork).filter(|_| now.history.records(layer, AfterFork))?;
    let expected = format!("after_fork of L{layer} has returned before it is opened");
    report.expect(ready.has(layer), outer, expected, "it has not")
}

/// What is closed in cleanup has not been cleaned up.
fn in_cleanup(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let layer = now.event.layer;
    within(now, Cleanup).filter(|_| now.history.records(layer, Cleanup))?;
    let begun = now.history.entered(layer, Cleanup);
    let expected = format!("cleanup of L{layer} comes after its last close");
    report.expect(begun.is_none(), begun, expected, "it has begun before")
}
