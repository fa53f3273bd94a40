//! Where a context is opened, used and closed.

use layers_trace::{Callback, Event, Kind};

use super::{by_owner, opens_manual, top_of_manual};
use crate::history::ConnectionId;
use crate::rules::check::per_layer::PerLayer;
use crate::rules::check::{Now, Report};

/// Opened where it may be, and used by whom it is for.
#[derive(Default)]
pub(super) struct Place {
    /// Open handles of contexts that are not shared, and whose they are.
    bound: Vec<(u32, ConnectionId)>,
}

impl Place {
    fn opened(now: &Now<'_>, report: &mut Report<'_>) {
        let Some(call) = now.call else { return };
        let Some(owner) = opens_manual(call) else { return };
        let root = now.history.root(call);
        // On a thread of the filter's own: nothing tells what it is about.
        if root.id() == call.id() {
            return;
        }
        report.exercised();
        let outside = matches!(root.callback, Callback::AfterFork | Callback::Cleanup);
        let asking = now.history.thread(now.event.tid).and_then(|thread| thread.asking());
        let unshared = asking.is_some_and(|ask| ask.layer == owner && ask.c == 0);
        if !(root.callback.is_connected() || outside) {
            report.broken(
                [&root.enter, now.event],
                format!("L{owner} opens a context from after_fork to cleanup"),
                format!("in {}", root.callback),
            );
        } else if outside && unshared {
            report.broken(
                [&root.enter, now.event],
                format!("what L{owner} opens in {} is shared", root.callback),
                "it is not",
            );
        }
    }

    fn bound(&mut self, now: &Now<'_>) {
        let Some(call) = now.call.filter(|call| opens_manual(call).is_some()) else { return };
        let asking = now.history.thread(now.event.tid).and_then(|thread| thread.asking());
        if asking.is_some_and(|ask| ask.c == 0)
            && now.event.result() != 0
            && let Some(connection) = call.connection
        {
            self.bound.push((now.event.handle, connection));
        }
    }

    fn used(&self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(handle) = top_of_manual(now).filter(|handle| by_owner(now, handle)) else { return };
        let Some((_, connection)) = self.bound.iter().find(|(id, _)| *id == handle.id) else { return };
        let Some(call) = now.call else { return };
        let root = now.history.root(call);
        report.exercised();
        if root.connection != Some(*connection) {
            report.broken(
                [&handle.open, now.event],
                format!(
                    "handle {} of L{} is used for the client that it was opened for",
                    handle.id, handle.layer
                ),
                format!("in {} for another one, or none", root.callback),
            );
        }
    }

    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        match (now.event.kind, now.event.callback()) {
            (Kind::Enter, Some(Callback::Open)) => Place::opened(now, report),
            (Kind::Exit, Some(Callback::Open)) => self.bound(now),
            (_, Some(callback)) => {
                self.used(now, report);
                if callback == Callback::Close {
                    self.bound.retain(|(id, _)| *id != now.event.handle);
                }
            }
            _ => {}
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
pub(super) fn in_after_fork(ready: &mut PerLayer<()>, now: &Now<'_>, report: &mut Report<'_>) {
    let layer = now.event.layer;
    if now.is_exit() {
        if now.event.result() == 0 {
            ready.keep_first(layer, || ());
        }
        return;
    }
    let Some(outer) = within(now, Callback::AfterFork) else { return };
    if now.history.records(layer, Callback::AfterFork) {
        let expected = format!("after_fork of L{layer} has returned before it is opened");
        report.expect(ready.has(layer), [outer, now.event], expected, "it has not");
    }
}

/// What is closed in cleanup has not been cleaned up.
pub(super) fn in_cleanup(begun: &mut PerLayer<Event>, now: &Now<'_>, report: &mut Report<'_>) {
    let layer = now.event.layer;
    if now.event.callback() == Some(Callback::Cleanup) {
        begun.keep_first(layer, || now.event.clone());
    } else if within(now, Callback::Cleanup).is_some() && now.history.records(layer, Callback::Cleanup) {
        report.exercised();
        if let Some(cleanup) = begun.get(layer) {
            let expected = format!("cleanup of L{layer} comes after its last close");
            report.broken([cleanup, now.event], expected, "it has begun before");
        }
    }
}
