//! nbdkit-filter(3), `.finalize`: the last chance to use the layers below, from the outermost filter inwards.

use layers_trace::Callback::{self, Close, DefaultExport, Finalize, ListExports, Open, Preconnect, Prepare};
use layers_trace::{Event, Kind, Operation};

use super::close::left_behind;
use super::{by_server, once};
use crate::history::{Call, ChainId, ConnectionId, Handle, History};
use crate::rules::check::{
    Now, Party, PerConnection, Report, Rule, Said, at, by, calls, enters, enters_where, given, remembering,
    unless,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "finalize.outer-to-inner",
        statement: "finalize runs once for each prepared handle at most, the outermost filter's first.",
        clause: "nbdkit-filter(3), .finalize",
        antecedent: "a finalize of a filter under another prepared one",
        good: "NBD_CMD_DISC { L2.finalize L1.finalize }",
        bad: "run filters=2; NBD_CMD_DISC { L1.finalize }",
        fix: "finalize the prepared filters from the outermost inwards, each after the previous one has returned",
        check: by!(at(enters(&[Finalize]), outer_first)),
        ..Rule::REQUIRED.since(1, 1, 27)
    },
    Rule {
        id: "finalize.before-close",
        statement: "The finalizes of all filters have returned before the first layer is closed.",
        clause: "nbdkit-filter(3), .finalize",
        antecedent: "the first close after a finalize of the same open",
        good: "NBD_CMD_DISC { L1.finalize L1.close }",
        bad: "L1 without=prepare; NBD_CMD_DISC { L2.finalize L2.close L1.finalize }",
        fix: "finalize the whole chain, then close the whole chain",
        check: by!(at(enters(&[Finalize, Close]), before_close)),
        ..Rule::REQUIRED.since(1, 1, 27)
    },
    Rule {
        id: "finalize.paired",
        statement: "A prepared handle is finalized before it is closed, if negotiation succeeded or the client may go on.",
        clause: "nbdkit-filter(3), .prepare and .finalize",
        antecedent: "a prepared handle that is closed, not below a finalize that failed",
        good: "NBD_CMD_DISC { L1.finalize L1.close }",
        bad: "NBD_CMD_DISC { L1.close }",
        fix: "finalize on every path that closes a prepared handle",
        check: by!(remembering(
            enters(&[Close, Open, ListExports, DefaultExport])
                .enters(&[Preconnect])
                .notes(&[Kind::Request, Kind::Reply]),
            Paired::see
        )),
        ..Rule::REQUIRED.since(1, 15, 5)
    },
    Rule {
        id: "finalize.fail-stops",
        statement: "After a finalize that fails no filter further in is finalized; all are closed and the client must go.",
        clause: "nbdkit-filter(3), .prepare and .finalize",
        antecedent: "a finalize that fails",
        good: "NBD_CMD_DISC { L2.finalize = -1 close }",
        bad: "NBD_CMD_DISC { L2.finalize = -1 L1.finalize }",
        fix: "stop finalizing, close every layer and end the connection",
        check: by!(remembering(
            calls(&[Finalize]).enters(&[Open, ListExports, DefaultExport]),
            FailureStops::see
        )
        .and_end(FailureStops::end)),
        ..Rule::REQUIRED.since(1, 15, 5)
    },
    Rule {
        id: "finalize.next-usable",
        statement: "During its finalize a filter can still use the layers below: they are neither finalized nor closed.",
        clause: "nbdkit-filter(3), .finalize",
        antecedent: "a filter that queries or uses the layer below from its finalize",
        good: "NBD_CMD_DISC { L1.finalize { L0.flush } }",
        bad: "NBD_CMD_DISC { L2.finalize { t7: enter L1.finalize L1.flush } }",
        also: &["tm.parallel.control-exclusive", "finalize.outer-to-inner", "data.window"],
        fix: "finalize a filter before the layers below it",
        check: by!(at(enters_where(|callback| callback.is_query() || callback.is_data()), next_is_usable)),
        ..Rule::REQUIRED.since(1, 1, 27)
    },
    Rule {
        id: "finalize.then-silent",
        statement: "After the finalize of a handle only its close is called.",
        clause: "nbdkit-filter(3), .finalize",
        antecedent: "a finalized handle that is closed",
        good: "NBD_CMD_DISC { L1.finalize L1.close }",
        bad: "NBD_CMD_DISC { L1.finalize L1.flush }",
        also: &["data.window"],
        fix: "let all requests finish before the first finalize",
        check: by!(at(enters_where(Callback::has_handle), silent_after)),
        ..Rule::FORBIDDEN.since(1, 1, 27)
    },
    Rule {
        id: "finalize.last-use",
        statement: "A filter uses the layers below it in its finalize for the last time, and not in its close.",
        clause: "nbdkit-filter(3), Next config, open and close, and .finalize",
        antecedent: "a close of a filter",
        good: "NBD_CMD_DISC { L1.finalize { L0.flush } L1.close }",
        bad: "NBD_CMD_DISC { L1.finalize L1.close { L0.flush } }",
        fix: "use next in finalize, and forget it there: in close it is over",
        check: by!(at(
            enters_where(|callback| callback.is_query() || callback.is_data()).enters(&[Close]),
            last_use
        )),
        ..Rule::FORBIDDEN.since(1, 1, 27).of(Party::Filter)
    },
];

/// From the outermost filter inwards, once each.
fn outer_first(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let handle = by_server(now)?;
    let layer = handle.layer;
    once(&handle.finalizing, now, handle, report);
    if now.history.records(layer, Prepare) && handle.prepared != Some(true) {
        let expected = format!("no finalize of L{layer}: handle {} is not prepared", handle.id);
        report.broken(handle.preparation(), expected, "it is called");
    }
    let outside = now.history.handle_outside(handle, Finalize);
    let outside = outside.filter(|outside| outside.prepared == Some(true))?;
    let earlier = outside.finalizing.as_ref().or(outside.preparing.as_ref());
    let expected = format!("finalize of L{} has returned before that of L{layer}", outside.layer);
    report.expect(outside.finalized.is_some(), earlier, expected, "it has not")
}

/// First all finalizes, then all closes.
fn before_close(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let handle = by_server(now)?;
    let closed = now.history.first_close(handle.chain);
    if now.is(Finalize) {
        let expected = format!("finalize of L{} comes before the first close", handle.layer);
        return report.broken(closed?, expected, "after it");
    }
    given(closed.is_none())?;
    let chain = now.history.chain(handle.chain);
    let mut finalized = chain.iter().filter(|other| other.finalizing.is_some()).peekable();
    report.exercised_if(finalized.peek().is_some());
    let running = finalized.find(|other| other.finalized.is_none())?;
    let expected = format!("finalize of L{} has returned before the first close", running.layer);
    report.broken(running.finalizing.as_ref(), expected, "it is still running")
}

/// Who was prepared is finalized.
#[derive(Default)]
struct Paired {
    /// Connections whose client has heard of success, and has not asked for another export since.
    agreed: PerConnection<()>,
    /// Handles closed unfinalized: allowed only if the connection ends there. Their prepare, and the first close.
    unpaired: Vec<Unpaired>,
}

struct Unpaired {
    connection: ConnectionId,
    layer: u8,
    prepare: Event,
    close: Event,
}

impl Unpaired {
    fn report(&self, report: &mut Report<'_>) -> Said {
        let expected = format!("finalize of L{} comes before the first close", self.layer);
        report.without_present().broken((&self.prepare, &self.close), expected, "it was left out")
    }
}

impl Paired {
    fn first_close(&mut self, now: &Now<'_>, handle: &Handle, report: &mut Report<'_>) -> Said {
        let chain = now.history.chain(handle.chain);
        let served = chain.iter().any(|other| other.first_served.is_some());
        // A failure excuses the layers further in; the chain comes outermost first.
        let owed = chain
            .iter()
            .take_while(|other| other.finalized != Some(false))
            .filter(|other| other.prepared == Some(true) && now.history.is_servers(other))
            .filter(|other| now.history.records(other.layer, Finalize));
        for other in owed {
            let Some(prepare) = other.preparing.clone().filter(|_| other.finalizing.is_none()) else {
                report.exercised();
                continue;
            };
            let Some(connection) = handle.connection else { continue };
            let unpaired = Unpaired { connection, layer: other.layer, prepare, close: now.event.clone() };
            if served || self.agreed.has(connection) {
                unpaired.report(report);
            } else {
                self.unpaired.push(unpaired);
            }
        }
        Some(())
    }

    /// The client of this connection goes on, so the attempt was no reason to drop it.
    fn goes_on(&mut self, connection: ConnectionId, report: &mut Report<'_>) -> Said {
        for unpaired in self.unpaired.extract_if(.., |unpaired| unpaired.connection == connection) {
            unpaired.report(report);
        }
        Some(())
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        match now.event.callback() {
            Some(Close) => {
                let handle =
                    by_server(now).filter(|handle| now.history.first_close(handle.chain).is_none())?;
                self.first_close(now, handle, report)
            }
            Some(Preconnect) => {
                self.unpaired.retain(|unpaired| now.history.connection(unpaired.connection).is_some());
                Some(())
            }
            Some(_) => self.goes_on(now.root()?.connection?, report),
            None => {
                given(now.is_about(Operation::Info) || now.is_about(Operation::Go))?;
                let connection = now.connection()?;
                self.agreed.take(connection);
                given(now.event.kind == Kind::Reply && now.event.result() == 0)?;
                self.agreed.renew(now.history, connection, ());
                self.goes_on(connection, report)
            }
        }
    }
}

/// The first failure ends the finalizing, and the connection.
#[derive(Default)]
struct FailureStops {
    /// What has failed in connections that are not over.
    failed: Vec<Failure>,
}

struct Failure {
    connection: ConnectionId,
    chain: ChainId,
    exit: Event,
}

impl FailureStops {
    fn goes_on(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let connection = now.root().and_then(|call| call.connection);
        if let Some(failure) = self.failed.iter().find(|failure| Some(failure.connection) == connection) {
            report.broken(&failure.exit, "the connection ends", "its client is served further");
        }
        self.failed.retain(|failure| now.history.connection(failure.connection).is_some());
        Some(())
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        if !now.is(Finalize) {
            return self.goes_on(now, report);
        }
        let handle = by_server(now)?;
        if now.is_exit() {
            given(now.event.result() != 0)?;
            let (chain, exit) = (handle.chain, now.event.clone());
            self.failed.extend(handle.connection.map(|connection| Failure { connection, chain, exit }));
            return report.exercised();
        }
        let failed = |other: &&Handle| other.layer > handle.layer && other.finalized == Some(false);
        let outside = now.history.chain(handle.chain).into_iter().find(failed)?;
        let expected = format!("no finalize of L{}: that of L{} has failed", handle.layer, outside.layer);
        report.broken(outside.finalizing.as_ref(), expected, "it is called")
    }

    fn end(&mut self, history: &History, report: &mut Report<'_>) -> Said {
        for handle in left_behind(history)? {
            if let Some(failure) = self.failed.iter().find(|failure| failure.chain == handle.chain) {
                let expected = format!("handle {} of L{} is closed all the same", handle.id, handle.layer);
                report.broken(&failure.exit, expected, "it never is");
            }
        }
        Some(())
    }
}

/// What is below a filter stays in use until the filter is finalized.
fn next_is_usable(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let finalize = now.parent().filter(|parent| parent.callback == Finalize)?;
    let handle = now.handle.filter(|handle| now.history.is_servers(handle))?;
    given(Some(handle.chain) == finalize.chain && handle.layer < finalize.layer())?;
    report.exercised();
    let over = handle.finalizing.as_ref().or(handle.closing.as_ref())?;
    let expected = format!("L{} can be used in finalize of L{}", handle.layer, finalize.layer());
    report.broken(over, expected, "it was finalized before")
}

/// In its close a filter has nothing to call any more; what it has opened itself is its own.
fn last_use(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let handle = now.handle.filter(|handle| now.history.is_servers(handle))?;
    if now.is(Close) {
        return report.exercised_if(handle.layer > 0);
    }
    let close = late_caller(now, handle)?;
    let expected = format!("close of L{} does not use the layers below", close.layer());
    let actual = format!("{} of L{}", now.call?.callback, now.event.layer);
    report.broken(handle.finalizing.as_ref().unwrap_or(&close.enter), expected, actual)
}

/// Returns the close of a filter above this handle, on the same connection, in which the filter makes this call.
pub(in crate::rules::nbdkit) fn late_caller<'a>(now: &Now<'a>, below: &Handle) -> Option<&'a Call> {
    now.parent().filter(|call| {
        call.callback == Close && call.layer() > below.layer && call.chain == Some(below.chain)
    })
}

/// After finalize there is only close.
fn silent_after(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let handle = now.handle.filter(|handle| handle.finalized.is_some())?;
    if now.is(Close) {
        return report.exercised();
    }
    given(now.history.is_servers(handle))?;
    unless(late_caller(now, handle).is_some())?;
    let expected = format!("only close of handle {} after its finalize", handle.id);
    let actual = format!("{} of L{}", now.call?.callback, now.event.layer);
    report.broken(handle.finalizing.as_ref(), expected, actual)
}
