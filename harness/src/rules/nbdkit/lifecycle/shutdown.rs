//! nbdkit-plugin(3), "SHUTDOWN": what is over when cleanup begins.

use layers_trace::Callback::{Cleanup, Close, Unload};
use layers_trace::{Event, Kind};

use crate::history::{Call, End, Handle, History};
use crate::rules::check::{Now, Report, Rule, Said, at, by, enters, enters_where, given, notes, remembering};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "lifecycle.cleanup.all-closed",
        statement: "When the first cleanup begins, every handle of every connection has been closed.",
        clause: "nbdkit-plugin(3), .cleanup and SHUTDOWN; nbdkit-filter(3), .cleanup",
        antecedent: "a run in which a handle was opened and that comes to cleanup",
        good: "NBD_CMD_DISC { close } cleanup",
        bad: "NBD_CMD_READ L0.cleanup",
        fix: "close the handles of all connections, also of those cut off by the shutdown, before calling cleanup",
        check: by!(at(enters(&[Cleanup]), all_closed)),
        ..Rule::REQUIRED.since(1, 25, 8)
    },
    Rule {
        id: "lifecycle.cleanup.quiescent",
        statement: "Once the first cleanup has begun no connected callback does, but for a filter's use of its own contexts.",
        clause: "nbdkit-filter(3), .cleanup",
        antecedent: "a run with a client that comes to cleanup",
        good: "NBD_CMD_DISC stop",
        bad: "start connect cleanup L0.list_exports",
        also: &["conn.list.only-on-request"],
        fix: "accept no client, and wait for the threads of all connections, before the first cleanup",
        check: by!(at(enters_where(|callback| callback == Cleanup || callback.is_connected()), quiescent)
            .minding_data_if(|history| history.cleaning().is_some())),
        ..Rule::FORBIDDEN.since(1, 25, 8)
    },
    Rule {
        id: "lifecycle.shutdown.sequence",
        statement: "On a shutdown signal running callbacks finish, handles are closed, cleanup, then unload follow, and the server exits cleanly.",
        clause: "nbdkit-plugin(3), SHUTDOWN; nbdkit(1), SIGNALS",
        antecedent: "SIGINT, SIGQUIT or SIGTERM, or the end of the command of --run",
        good: "NBD_CMD_DISC SIGTERM cleanup unload ends",
        bad: "NBD_CMD_DISC SIGTERM L0.unload",
        fix: "call close for each connection that the shutdown ends, then cleanup, then unload",
        check: by!(remembering(
            notes(&[Kind::Signal]).enters(&[Cleanup, Unload]).exits(&[Unload]),
            ShutdownSequence::see
        )
        .and_end(ShutdownSequence::end)),
        ..Rule::REQUIRED.since(1, 25, 8)
    },
];

/// SIGINT, SIGQUIT and SIGTERM (nbdkit(1), "SIGNALS").
const SHUTDOWN_SIGNALS: &[u64] = &[2, 3, 15];

/// The first of them that the harness has sent.
fn shutdown_signal(history: &History) -> Option<&Event> {
    history.signals().iter().find(|signal| SHUTDOWN_SIGNALS.contains(&signal.a))
}

/// Handles of connections, whose closing the trace would show.
fn clients_handles(history: &History) -> impl Iterator<Item = &Handle> {
    let closes = |handle: &&Handle| history.records(handle.layer, Close);
    history.handles().filter(|handle| !handle.manual).filter(closes)
}

/// Connected calls in progress that the server is responsible for.
fn clients_calls(history: &History) -> impl Iterator<Item = &Call> {
    history.in_flight().filter(|call| call.callback.is_connected() && history.is_for_client(call))
}

/// No handle of a connection is open when the first cleanup begins.
fn all_closed(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    given(now.history.cleaning().is_none() && now.history.was_minted(1))?;
    report.exercised();
    let mut open: Vec<_> = clients_handles(now.history).collect();
    open.sort_by_key(|handle| handle.opened);
    for handle in open {
        let expected =
            format!("handle {} of L{} is closed before the first cleanup", handle.id, handle.layer);
        report.broken(&handle.open, expected, "it is still open");
    }
    Some(())
}

/// Nothing is called for a client once the first cleanup has begun.
fn quiescent(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let begun = now.history.cleaning().is_some();
    if now.is(Cleanup) {
        return report.exercised_if(!begun && now.history.connections().next().is_some());
    }
    let call = now.call.filter(|_| begun)?;
    given(now.history.root(call).callback != Cleanup && now.history.is_for_client(call))?;
    let cleanup = now.history.first_enters(Cleanup).next();
    let expected = "no call for a client after the first cleanup has begun";
    report.broken(cleanup, expected, format!("{} of L{} starts", call.callback, call.layer()))
}

/// After a shutdown signal: running calls return, handles are closed, cleanup, unload, and the server exits cleanly.
#[derive(Default)]
struct ShutdownSequence {
    /// A client had been there before the signal, and so the server had begun to serve.
    served: bool,
    begun: bool,
    /// Layers whose unload has returned.
    unloaded: usize,
}

impl ShutdownSequence {
    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let signal = shutdown_signal(now.history);
        if now.event.kind == Kind::Signal {
            let first = signal.is_none() && SHUTDOWN_SIGNALS.contains(&now.event.a);
            self.served |= first && now.history.connections().next().is_some();
            return None;
        }
        if now.is_exit() {
            self.unloaded += 1;
            return None;
        }
        given((signal.is_some() || now.history.is_captive()) && !std::mem::replace(&mut self.begun, true))?;
        report.exercised();
        if let Some(call) = clients_calls(now.history).min_by_key(|call| call.id()) {
            let expected = format!("{} of L{} returns first", call.callback, call.layer());
            report.broken(call, expected, "it is still running");
        }
        if let Some(handle) = clients_handles(now.history).min_by_key(|handle| handle.opened) {
            let expected = format!("handle {} of L{} is closed first", handle.id, handle.layer);
            report.broken(&handle.open, expected, "it is still open");
        }
        let layer = now.history.outermost(Cleanup).filter(|_| now.is(Unload))?;
        let expected = format!("cleanup of L{layer} comes before any unload");
        report.broken(signal, expected, "unload comes first")
    }

    fn end(&mut self, history: &History, report: &mut Report<'_>) -> Said {
        let signal = shutdown_signal(history)?;
        let unloads = history.layers().iter().filter(|layer| layer.records(Unload)).count();
        // A module can end the process in any of its calls; after the last of them nobody but the server does.
        let ends_itself = unloads > 0 && self.unloaded == unloads && !history.is_captive();
        match history.end() {
            Some(End::Killed(number))
                if self.served && !self.begun && u64::try_from(number) == Ok(signal.a) =>
            {
                let expected = "the server shuts down: cleanup, then unload";
                report.expect(false, signal, expected, "the signal kills it")
            }
            Some(End::Exited(status)) if status != 0 && ends_itself => {
                report.broken(signal, "the server exits cleanly", format!("its exit status is {status}"))
            }
            _ => None,
        }
    }
}
