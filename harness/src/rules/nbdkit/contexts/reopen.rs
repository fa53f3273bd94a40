//! Reopening what is below, in the middle of a request.

use layers_trace::Callback::{self, Close, Finalize, Open};
use layers_trace::{Event, Kind};

use super::opens_manual;
use crate::history::{Call, Handle, History};
use crate::rules::check::{Kept, Now, Report, Rule, Said, Watch, by, given, remembering};

pub(super) const RULES: &[Rule] = &[Rule {
    id: "manual.reopen",
    statement: "A filter can reopen what is below it during a request: the layers above see nothing of it, and its own handle is finalized and closed later, even if that failed.",
    clause: "nbdkit-filter(3), nbdkit_context_set_next; nbdkit-retry-filter(1)",
    antecedent: "a request in which a filter closes what is below it and opens it again",
    good: "NBD_CMD_READ { L1.pread { L0.close L0.open = NULL } = EIO } = EIO",
    bad: "NBD_CMD_READ { L2.pread { L1.pread { L0.close L2.block_size } } }",
    fix: "keep a filter's handle whatever becomes of the contexts below it",
    check: by!(remembering(Watch::CALLS, Reopen::see)
        .minding_data_if(|reopen, _| !reopen.running.is_empty())
        .and_end(Reopen::end)),
    ..Rule::REQUIRED.since(1, 25, 4)
}];

/// A request in which a filter has closed what was below it.
struct Below {
    layer: u8,
    tid: u32,
    handle: u32,
    close: Event,
    /// It has opened something there since; false once that has failed.
    opened: Option<bool>,
}

/// The filter's handle outlives what is below.
#[derive(Default)]
struct Reopen {
    /// By the filter's call.
    running: Kept<u32, Below>,
    /// Handles of filters that have reopened what is below, with their closes of that.
    survivors: Kept<u32, Event>,
}

/// The filter's request from which it does this to the layers below.
fn request<'a>(now: &Now<'a>) -> Option<&'a Call> {
    now.parent().filter(|parent| parent.callback.is_data() && parent.layer() > now.event.layer)
}

impl Reopen {
    fn closes(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        if let Some(call) = request(now) {
            let (layer, tid, close) = (call.layer(), now.event.tid, now.event.clone());
            self.running.set(call.id(), Below { layer, tid, handle: call.handle(), close, opened: None });
        }
        let handle = now.handle?;
        let close = self.survivors.take(handle.id)?;
        let finalizes = now.history.records(handle.layer, Finalize) && handle.prepared == Some(true);
        given(finalizes && handle.finalizing.is_none())?;
        let expected = format!("finalize of handle {} of L{} before its close", handle.id, handle.layer);
        report.broken(&close, expected, "it was left out")
    }

    fn opened(&mut self, now: &Now<'_>) -> Said {
        let owner = now.call.and_then(opens_manual)?;
        let one = self.running.get_mut(request(now)?.id()).filter(|one| one.layer == owner)?;
        one.opened = Some(now.event.result() != 0);
        Some(())
    }

    /// A layer above the filter is called from inside.
    fn above(&self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let mut running = self.running.iter().map(|(_, one)| one);
        let one = running.find(|one| one.tid == now.event.tid && now.event.layer > one.layer)?;
        let expected = format!("L{} reopens what is below, and no layer above it is called", one.layer);
        let actual = format!("{} of L{}", now.event.callback().map_or("", Callback::name), now.event.layer);
        report.broken(&one.close, expected, actual)
    }

    fn over(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let one = self.running.take(now.call?.id()).filter(|one| one.opened.is_some())?;
        report.exercised();
        self.survivors.set(one.handle, one.close)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        match (now.event.kind, now.event.callback()) {
            (Kind::Enter, Some(callback)) => {
                self.above(now, report);
                given(callback == Close)?;
                self.closes(now, report)
            }
            (Kind::Exit, Some(Open)) => self.opened(now),
            (Kind::Exit, Some(callback)) if callback.is_data() => self.over(now, report),
            _ => None,
        }
    }

    fn end(&mut self, history: &History, report: &mut Report<'_>) -> Said {
        // A server that is told to stop while clients are connected has a rule of its own.
        let last = history.signals().first().map_or(u32::MAX, |signal| signal.position);
        given(history.ended_cleanly())?;
        let has_left = |handle: &Handle| {
            let client = handle.connection.and_then(|connection| history.client_of(connection));
            let left = client.and_then(|client| client.leaving.as_ref());
            left.is_some_and(|left| left.position <= last)
        };
        for (id, close) in self.survivors.iter() {
            if let Some(handle) = history.handle(*id).filter(|handle| has_left(handle)) {
                let expected = format!("handle {} of L{} is closed all the same", handle.id, handle.layer);
                report.broken(close, expected, "it never is");
            }
        }
        Some(())
    }
}
