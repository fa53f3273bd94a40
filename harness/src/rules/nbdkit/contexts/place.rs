//! Where a context is opened, used and closed.

use layers_trace::Callback::{self, AfterFork, Cleanup, Close, Open};
use layers_trace::{Event, Kind};

use super::{by_owner, opens_manual, top_of_manual};
use crate::history::ConnectionId;
use crate::rules::check::{Kept, Now, PerLayer, Report, Said, given, unless};

/// Opened where it may be, and used by whom it is for.
#[derive(Default)]
pub(super) struct Place {
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

    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
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
pub(super) fn in_after_fork(ready: &mut PerLayer<()>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
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
pub(super) fn in_cleanup(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let layer = now.event.layer;
    within(now, Cleanup).filter(|_| now.history.records(layer, Cleanup))?;
    let begun = now.history.entered(layer, Cleanup);
    let expected = format!("cleanup of L{layer} comes after its last close");
    report.expect(begun.is_none(), begun, expected, "it has begun before")
}
