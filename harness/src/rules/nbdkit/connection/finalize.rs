//! nbdkit-filter(3), `.finalize`: the last chance to use the layers below, from the outermost filter inwards.

use layers_trace::{Callback, Event, Kind, Operation};

use super::by_server;
use crate::history::{ChainId, ConnectionId, Handle, History};
use crate::rules::check::{Now, Report, Rule, at, by, calls, enters, enters_where, remembering};
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "finalize.outer-to-inner",
        since: Version(1, 1, 27),
        statement: "finalize runs once for each prepared handle at most, the outermost filter's first.",
        clause: "nbdkit-filter(3), .finalize",
        antecedent: "a finalize of a filter under another prepared one",
        good: "NBD_CMD_DISC { L2.finalize L1.finalize }",
        bad: "run filters=2; NBD_CMD_DISC { L1.finalize }",
        fix: "finalize the prepared filters from the outermost inwards, each after the previous one has returned",
        check: by!(at(enters(&[Callback::Finalize]), outer_first)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "finalize.before-close",
        since: Version(1, 1, 27),
        statement: "The finalizes of all filters have returned before the first layer is closed.",
        clause: "nbdkit-filter(3), .finalize",
        antecedent: "the first close after a finalize of the same open",
        good: "NBD_CMD_DISC { L1.finalize L1.close }",
        bad: "L1 without=prepare; NBD_CMD_DISC { L2.finalize L2.close L1.finalize }",
        fix: "finalize the whole chain, then close the whole chain",
        check: by!(at(enters(&[Callback::Finalize, Callback::Close]), before_close)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "finalize.paired",
        since: Version(1, 15, 5),
        statement: "A prepared handle is finalized before it is closed, if negotiation succeeded or the client may go on.",
        clause: "nbdkit-filter(3), .prepare and .finalize",
        antecedent: "a prepared handle that is closed, not below a finalize that failed",
        good: "NBD_CMD_DISC { L1.finalize L1.close }",
        bad: "NBD_CMD_DISC { L1.close }",
        fix: "finalize on every path that closes a prepared handle",
        check: by!(remembering(
            enters(&[Callback::Close, Callback::Open, Callback::ListExports, Callback::DefaultExport])
                .enters(&[Callback::Preconnect])
                .notes(Kind::Request)
                .notes(Kind::Reply),
            Paired::see
        )),
        ..Rule::REQUIRED
    },
    Rule {
        id: "finalize.fail-stops",
        since: Version(1, 15, 5),
        statement: "After a finalize that fails no filter further in is finalized; all are closed and the client must go.",
        clause: "nbdkit-filter(3), .prepare and .finalize",
        antecedent: "a finalize that fails",
        good: "NBD_CMD_DISC { L2.finalize = -1 close }",
        bad: "NBD_CMD_DISC { L2.finalize = -1 L1.finalize }",
        fix: "stop finalizing, close every layer and end the connection",
        check: by!(remembering(
            calls(&[Callback::Finalize]).enters(&[
                Callback::Open,
                Callback::ListExports,
                Callback::DefaultExport
            ]),
            FailureStops::see
        )
        .and_end(FailureStops::end)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "finalize.next-usable",
        since: Version(1, 1, 27),
        statement: "During its finalize a filter can still use the layers below: they are neither finalized nor closed.",
        clause: "nbdkit-filter(3), .finalize",
        antecedent: "a filter that queries or uses the layer below from its finalize",
        good: "NBD_CMD_DISC { L1.finalize { L0.flush } }",
        bad: "NBD_CMD_DISC { L2.finalize { t7: enter L1.finalize L1.flush } }",
        also: &["tm.parallel.control-exclusive", "finalize.outer-to-inner", "data.window"],
        fix: "finalize a filter before the layers below it",
        check: by!(at(enters_where(|callback| callback.is_query() || callback.is_data()), next_is_usable)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "finalize.then-silent",
        since: Version(1, 1, 27),
        statement: "After the finalize of a handle only its close is called.",
        clause: "nbdkit-filter(3), .finalize",
        antecedent: "a finalized handle that is closed",
        good: "NBD_CMD_DISC { L1.finalize L1.close }",
        bad: "NBD_CMD_DISC { L1.finalize L1.flush }",
        also: &["data.window"],
        fix: "let all requests finish before the first finalize",
        check: by!(at(enters_where(Callback::has_handle), silent_after)),
        ..Rule::FORBIDDEN
    },
];

/// From the outermost filter inwards, once each.
fn outer_first(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(handle) = by_server(now) else { return };
    let layer = handle.layer;
    if let Some(first) = &handle.finalizing {
        let expected = format!("one finalize of L{layer} for handle {}", handle.id);
        report.broken([first, now.event], expected, "another one");
    }
    if now.history.records(layer, Callback::Prepare) && handle.prepared != Some(true) {
        let earlier = handle.preparing.as_ref().unwrap_or(&handle.open);
        let expected = format!("no finalize of L{layer}: handle {} is not prepared", handle.id);
        report.broken([earlier, now.event], expected, "it is called");
    }
    let outside = now.history.handle_outside(handle, Callback::Finalize);
    let Some(outside) = outside.filter(|outside| outside.prepared == Some(true)) else { return };
    report.exercised();
    if outside.finalized.is_none() {
        let earlier = outside.finalizing.as_ref().or(outside.preparing.as_ref());
        report.broken(
            earlier.into_iter().chain([now.event]),
            format!("finalize of L{} has returned before that of L{layer}", outside.layer),
            "it has not",
        );
    }
}

/// First all finalizes, then all closes.
fn before_close(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(handle) = by_server(now) else { return };
    let closed = now.history.first_close(handle.chain);
    if now.event.callback() == Some(Callback::Finalize) {
        if let Some(close) = closed {
            let expected = format!("finalize of L{} comes before the first close", handle.layer);
            report.broken([close, now.event], expected, "after it");
        }
        return;
    }
    if closed.is_some() {
        return;
    }
    let chain = now.history.chain(handle.chain);
    let mut finalized = chain.iter().filter(|other| other.finalizing.is_some()).peekable();
    if finalized.peek().is_some() {
        report.exercised();
    }
    if let Some(running) = finalized.find(|other| other.finalized.is_none()) {
        let expected = format!("finalize of L{} has returned before the first close", running.layer);
        report.broken(running.finalizing.iter().chain([now.event]), expected, "it is still running");
    }
}

/// Who was prepared is finalized.
#[derive(Default)]
struct Paired {
    /// Connections whose client has heard of success, and has not asked for another export since.
    agreed: Vec<ConnectionId>,
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
    fn report(&self, report: &mut Report<'_>) {
        report.broken(
            [&self.prepare, &self.close],
            format!("finalize of L{} comes before the first close", self.layer),
            "it was left out",
        );
    }
}

impl Paired {
    fn first_close(&mut self, now: &Now<'_>, handle: &Handle, report: &mut Report<'_>) {
        let chain = now.history.chain(handle.chain);
        let served = chain.iter().any(|other| other.first_served.is_some());
        // A failure excuses the layers further in; the chain comes outermost first.
        let owed = chain
            .iter()
            .take_while(|other| other.finalized != Some(false))
            .filter(|other| other.prepared == Some(true) && now.history.is_servers(other))
            .filter(|other| now.history.records(other.layer, Callback::Finalize));
        for other in owed {
            let Some(prepare) = other.preparing.as_ref().filter(|_| other.finalizing.is_none()) else {
                report.exercised();
                continue;
            };
            let Some(connection) = handle.connection else { continue };
            let (prepare, close) = (prepare.clone(), now.event.clone());
            let unpaired = Unpaired { connection, layer: other.layer, prepare, close };
            if served || self.agreed.contains(&connection) {
                unpaired.report(report);
            } else {
                self.unpaired.push(unpaired);
            }
        }
    }

    /// The client of this connection goes on, so the attempt was no reason to drop it.
    fn goes_on(&mut self, connection: ConnectionId, report: &mut Report<'_>) {
        for unpaired in self.unpaired.extract_if(.., |unpaired| unpaired.connection == connection) {
            unpaired.report(report);
        }
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        match now.event.callback() {
            Some(Callback::Close) => {
                if let Some(handle) = by_server(now)
                    && now.history.first_close(handle.chain).is_none()
                {
                    self.first_close(now, handle, report);
                }
            }
            Some(Callback::Preconnect) => {
                self.unpaired.retain(|unpaired| now.history.connection(unpaired.connection).is_some());
                self.agreed.retain(|id| now.history.connection(*id).is_some());
            }
            Some(_) => {
                let call = now.call.filter(|call| call.parent.is_none());
                if let Some(connection) = call.and_then(|call| call.connection) {
                    self.goes_on(connection, report);
                }
            }
            None => {
                let selects = matches!(now.event.operation(), Some(Operation::Info | Operation::Go));
                let client = now.history.client(now.event.handle).filter(|_| selects);
                let Some(connection) = client.and_then(|client| client.connection) else { return };
                self.agreed.retain(|id| *id != connection);
                if now.event.kind == Kind::Reply && now.event.result() == 0 {
                    self.agreed.push(connection);
                    self.goes_on(connection, report);
                }
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
    fn goes_on(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let call = now.call.filter(|call| call.parent.is_none());
        let connection = call.and_then(|call| call.connection);
        if let Some(failure) = self.failed.iter().find(|failure| Some(failure.connection) == connection) {
            report.broken([&failure.exit, now.event], "the connection ends", "its client is served further");
        }
        self.failed.retain(|failure| now.history.connection(failure.connection).is_some());
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if now.event.callback() != Some(Callback::Finalize) {
            return self.goes_on(now, report);
        }
        let Some(handle) = by_server(now) else { return };
        if now.is_exit() {
            if now.event.result() != 0 {
                report.exercised();
                let (chain, exit) = (handle.chain, now.event.clone());
                self.failed.extend(handle.connection.map(|connection| Failure { connection, chain, exit }));
            }
            return;
        }
        let chain = now.history.chain(handle.chain);
        let failed = |other: &&&Handle| other.layer > handle.layer && other.finalized == Some(false);
        if let Some(outside) = chain.iter().find(failed) {
            report.broken(
                outside.finalizing.iter().chain([now.event]),
                format!("no finalize of L{}: that of L{} has failed", handle.layer, outside.layer),
                "it is called",
            );
        }
    }

    fn end(&mut self, history: &History, report: &mut Report<'_>) {
        if !history.ended_cleanly() {
            return;
        }
        let servers = history.handles().filter(|handle| history.is_servers(handle));
        for handle in servers.filter(|handle| history.records(handle.layer, Callback::Close)) {
            if let Some(failure) = self.failed.iter().find(|failure| failure.chain == handle.chain) {
                report.broken(
                    [&failure.exit].into_iter().chain(history.end_event()),
                    format!("handle {} of L{} is closed all the same", handle.id, handle.layer),
                    "it never is",
                );
            }
        }
    }
}

/// What is below a filter stays in use until the filter is finalized.
fn next_is_usable(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(finalize) = now.parent().filter(|parent| parent.callback == Callback::Finalize) else {
        return;
    };
    let Some(handle) = now.handle.filter(|handle| now.history.is_servers(handle)) else { return };
    if Some(handle.chain) != finalize.chain || handle.layer >= finalize.layer() {
        return;
    }
    report.exercised();
    if let Some(over) = handle.finalizing.as_ref().or(handle.closing.as_ref()) {
        report.broken(
            [over, now.event],
            format!("L{} can be used in finalize of L{}", handle.layer, finalize.layer()),
            "it was finalized before",
        );
    }
}

/// After finalize there is only close.
fn silent_after(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(handle) = now.handle.filter(|handle| handle.finalized.is_some()) else { return };
    if now.event.callback() == Some(Callback::Close) {
        report.exercised();
    } else if now.history.is_servers(handle) {
        report.broken(
            handle.finalizing.iter().chain([now.event]),
            format!("only close of handle {} after its finalize", handle.id),
            format!("{} of L{}", now.event.callback().map_or("", Callback::name), now.event.layer),
        );
    }
}
