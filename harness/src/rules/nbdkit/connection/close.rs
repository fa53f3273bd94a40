//! nbdkit-plugin(3) and nbdkit-filter(3), `.close`: the end of every handle.

use std::collections::BTreeSet;

use layers_trace::Callback::{self, Close, Finalize, Open};
use layers_trace::Event;

use super::by_server;
use crate::history::{Call, Handle, History};
use crate::rules::check::{Now, Report, Rule, Said, at, by, enters, enters_where, given, unless};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "close.outer-to-inner",
        statement: "close visits the outermost filter first and the plugin last; each finishes before the next starts.",
        clause: "nbdkit-filter(3), .close and .finalize",
        antecedent: "two layers with close that were opened together",
        good: "NBD_CMD_DISC { L1.finalize L1.close L0.close }",
        bad: "NBD_CMD_DISC { L1.finalize L0.close }",
        fix: "close from the outermost layer inwards, each after the previous one has returned",
        check: by!(at(enters(&[Close]), outer_first)),
        ..Rule::REQUIRED.since(1, 1, 27)
    },
    Rule {
        id: "close.exactly-once",
        statement: "Every handle that an open has returned is closed once, before a server that ends cleanly is gone.",
        clause: "nbdkit-plugin(3), .close and SHUTDOWN",
        antecedent: "a handle that is closed, or is left when the server has ended",
        good: "NBD_CMD_DISC stop",
        bad: "NBD_CMD_DISC { L0.close L0.close }",
        fix: "close the handles of every connection, also of those that a shutdown cuts off",
        check: by!(at(enters(&[Close]), closed_once).and_end(closed_once_at_end)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "close.last",
        statement: "Once the close of a handle has been entered no other callback is given that handle.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .close",
        antecedent: "a handle that is closed",
        good: "NBD_CMD_DISC { L0.close }",
        bad: "NBD_CMD_DISC { L0.close L0.get_size }",
        fix: "forget the handle with the call of close",
        check: by!(at(enters_where(Callback::has_handle), last)),
        ..Rule::FORBIDDEN
    },
    Rule {
        id: "close.after-inflight",
        statement: "finalize and close of a handle wait until every data call of that handle has returned.",
        clause: "nbdkit-plugin(3), SHUTDOWN",
        antecedent: "a finalize or close of a handle that has had data calls",
        good: "NBD_CMD_READ NBD_CMD_DISC { L0.close }",
        bad: "send NBD_CMD_READ t7: enter L0.pread L0.close",
        also: &["tm.parallel.control-exclusive"],
        fix: "join all workers of a connection before finalizing it",
        check: by!(at(enters(&[Finalize, Close]), after_in_flight)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "close.any-disconnect",
        statement: "However a client leaves, what was opened for it is finalized, where it was prepared, and closed.",
        clause: "nbdkit-plugin(3), .close and SHUTDOWN; nbdkit-filter(3), .finalize",
        antecedent: "a client that leaves while it has an export, or that a server leaves behind at its end",
        good: "hangup { L0.close }",
        bad: "L0 without=unload,cleanup; hangup {} ends",
        also: &["close.exactly-once"],
        fix: "end every connection in the same way: finalize, then close",
        check: by!(at(enters(&[Close]), any_disconnect).and_end(any_disconnect_at_end)),
        ..Rule::REQUIRED
    },
];

/// From the outermost layer inwards, one after the other.
fn outer_first(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    // After an open that failed, what is below is closed from inside that of the layer above.
    let in_open = now.parent().filter(|parent| parent.callback == Open);
    let undone = now.handle.filter(|handle| in_open.is_some_and(|open| open.chain == Some(handle.chain)));
    let handle = by_server(now).or(undone.filter(|handle| now.history.is_servers(handle)))?;
    let outside = now.history.handle_outside(handle, Close);
    given(outside.is_some() || now.history.first_close(handle.chain).is_some())?;
    report.exercised();
    let outside = outside?;
    let expected = format!("close of L{} has returned before that of L{}", outside.layer, handle.layer);
    match &outside.closing {
        Some(close) => report.broken(close, expected, "it is still running"),
        None => report.broken(&outside.open, expected, "it has not been called"),
    }
}

/// Neither twice nor never.
fn closed_once(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if let Some(handle) = now.handle {
        report.exercised();
        let first = handle.closing.as_ref().filter(|_| !handle.manual)?;
        let expected = format!("one close of handle {} of L{}", handle.id, handle.layer);
        return report.broken(first, expected, "another one");
    }
    let call = now.call.filter(|call| closes_itself(now) && now.history.was_minted(call.handle()))?;
    let expected = format!("one close of handle {} of L{}", call.handle(), call.layer());
    report.broken((), expected, "it was closed before")
}

fn closed_once_at_end(history: &History, report: &mut Report<'_>) -> Said {
    for handle in left_behind(history)? {
        let expected = format!("handle {} of L{} is closed", handle.id, handle.layer);
        report.expect(false, &handle.open, expected, "it never is");
    }
    Some(())
}

/// The server makes this close, by itself or because an open has failed above; no filter closes a context of its own.
fn closes_itself(now: &Now<'_>) -> bool {
    let undoes = |parent: &Call| parent.callback == Open && !now.history.opens_contexts(parent.layer());
    now.parent().is_none_or(undoes)
}

/// Handles of clients that the server should have closed before its end, in the order of their opens.
pub(super) fn left_behind(history: &History) -> Option<Vec<&Handle>> {
    given(history.ended_cleanly())?;
    let servers = history.handles().filter(|handle| history.is_servers(handle));
    let mut left: Vec<_> = servers.filter(|handle| history.records(handle.layer, Close)).collect();
    left.sort_by_key(|handle| handle.opened);
    Some(left)
}

/// Nothing after close.
fn last(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let call = now.call?;
    if call.callback == Close {
        return report.exercised();
    }
    let close = match now.handle {
        Some(handle) => Some(handle.closing.as_ref().filter(|_| now.history.is_servers(handle))?),
        None => {
            given(now.history.was_minted(call.handle()))?;
            None
        }
    };
    // Who closes contexts of its own can use them too late by itself.
    unless(now.parent().is_some_and(|parent| now.history.opens_contexts(parent.layer())))?;
    let expected = format!("no call for handle {} of L{} after its close", call.handle(), call.layer());
    report.broken(close, expected, call.callback.name())
}

/// No call of the handle is running.
fn after_in_flight(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let handle = by_server(now).filter(|handle| handle.first_data.is_some())?;
    report.exercised();
    given(handle.in_flight > 0)?;
    let running = now.history.in_flight().filter(|call| call.handle() == handle.id);
    let call = running.filter(|call| call.callback.is_data()).min_by_key(|call| call.id())?;
    let expected = format!("{} of handle {} has returned", call.callback, handle.id);
    report.broken(call, expected, "it is still running")
}

/// How the client of this handle has left, if it has.
fn leaving<'a>(history: &'a History, handle: &Handle) -> Option<&'a Event> {
    history.client_of(handle.connection?)?.leaving.as_ref()
}

/// Finalize and close, whatever the reason.
fn any_disconnect(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let handle = by_server(now)?;
    // An attempt that has failed ends without the client, which may leave at the same time or not.
    let has_failed = |other: &&Handle| other.failed_query.is_some() || other.prepared == Some(false);
    let is_first = now.history.first_close(handle.chain).is_none();
    given(is_first && leaving(now.history, handle).is_some())?;
    report.exercised_if(!now.history.chain(handle.chain).iter().any(has_failed))
}

fn any_disconnect_at_end(history: &History, report: &mut Report<'_>) -> Said {
    let mut chains = BTreeSet::new();
    for handle in left_behind(history)?.into_iter().filter(|handle| chains.insert(handle.chain)) {
        let mut events: Vec<&Event> = leaving(history, handle).into_iter().chain([&handle.open]).collect();
        events.sort_by_key(|event| event.position);
        let expected = "the connection's handles are finalized and closed";
        report.expect(false, events, expected, "they are not closed");
    }
    Some(())
}
