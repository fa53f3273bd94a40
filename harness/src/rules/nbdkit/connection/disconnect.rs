//! The NBD protocol, "Terminating the transmission phase", and what nbdkit makes of a client that leaves.

use layers_trace::{Callback, Event, Kind, Operation};

use super::by_server;
use super::survival::is_lost;
use crate::history::{Client, ConnectionId, History, Request};
use crate::protocol::MOST_PORTABLE;
use crate::rules::check::{Now, Report, Rule, at, by, enters, notes, remembering};
use crate::run::Start;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "conn.requests-before-disc",
        statement: "Reads and writes that a client has sent before NBD_CMD_DISC are carried out.",
        clause: "the NBD protocol, NBD_CMD_DISC and Terminating the transmission phase",
        antecedent: "a client that disconnects while it waits for the answer to a read or write",
        good: "send NBD_CMD_WRITE send NBD_CMD_DISC L0.pwrite reply NBD_CMD_WRITE L0.close",
        bad: "send NBD_CMD_WRITE send NBD_CMD_DISC L0.close",
        fix: "finish what has been received before ending the connection",
        check: by!(remembering(
            enters(&[Callback::Pread, Callback::Pwrite, Callback::Close])
                .notes(Kind::Request)
                .notes(Kind::Reply),
            CarriedOut::see
        )),
        ..Rule::REQUIRED
    },
    Rule {
        id: "conn.disc-prompt",
        statement: "After NBD_CMD_DISC the server finishes what is outstanding and ends the connection by itself.",
        clause: "the NBD protocol, NBD_CMD_DISC and Terminating the transmission phase",
        antecedent: "a client that sends NBD_CMD_DISC and waits for the end",
        good: "NBD_CMD_DISC",
        bad: "NBD_CMD_DISC {} = ETIMEDOUT",
        fix: "close the socket once the last reply is out",
        check: by!(at(notes(Kind::Reply), ends_by_itself)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "conn.partial-payload",
        statement: "A client that vanishes in the middle of the data of a write causes no pwrite.",
        clause: "the NBD protocol, NBD_CMD_WRITE",
        antecedent: "a client that closes its socket halfway through the data of a write",
        good: "send NBD_CMD_WRITE held=256 hangup",
        bad: "send NBD_CMD_WRITE held=256 L0.pwrite",
        fix: "call pwrite only when all the data is there",
        check: by!(remembering(
            enters(&[Callback::Pwrite, Callback::Close]).notes(Kind::Request),
            PartialPayload::see
        )),
        ..Rule::FORBIDDEN
    },
];

/// What the client had sent before it said goodbye is done.
#[derive(Default)]
struct CarriedOut {
    /// Requests that are waited for and have come to a layer: client, and position of the request.
    served: Vec<(u32, u32)>,
    /// Requests that were out when their client disconnected.
    owed: Vec<(ConnectionId, Event)>,
}

/// The callback that a plain request leads to at the outermost layer.
fn callback_of(operation: Operation) -> Option<Callback> {
    match operation {
        Operation::Read => Some(Callback::Pread),
        Operation::Write => Some(Callback::Pwrite),
        _ => None,
    }
}

impl CarriedOut {
    fn served(&mut self, now: &Now<'_>) {
        let Some(call) = now.call.filter(|call| call.parent.is_none()) else { return };
        let client = call.connection.and_then(|connection| now.history.client_of(connection));
        let Some(client) = client else { return };
        let served = &self.served;
        let request = client.waiting.iter().map(|request| &request.event).find(|request| {
            request.operation().and_then(callback_of) == Some(call.callback)
                && (request.offset(), request.count()) == (now.event.offset(), now.event.count())
                && request.b == 0
                && !served.contains(&(client.number, request.position))
        });
        if let Some(position) = request.map(|request| request.position) {
            self.served.push((client.number, position));
        }
    }

    /// Requests that the server has no reason to refuse.
    fn disconnects(&mut self, history: &History, client: &Client) {
        let Some(connection) = client.connection else { return };
        let handles = history.handles().filter(|handle| handle.connection == Some(connection));
        let Some(handle) = handles.filter(|handle| !handle.manual).max_by_key(|handle| handle.layer) else {
            return;
        };
        let size = handle.answer(Callback::GetSize).and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
        let writable = handle.answer(Callback::CanWrite) == Some(1) && !handle.readonly();
        for request in &client.waiting {
            let Some(callback) = callback_of(request.operation) else { continue };
            let (offset, count) = (request.event.offset(), u64::from(request.event.count()));
            let fits = count > 0
                && count <= MOST_PORTABLE.into()
                && offset.checked_add(count).is_some_and(|end| end <= size);
            let allowed = callback == Callback::Pread || writable;
            let visible = history.outermost(callback) == Some(handle.layer);
            let whole = request.event.b == 0;
            if fits && allowed && visible && whole && request.event.flags() == 0 {
                self.owed.push((connection, request.event.clone()));
            }
        }
    }

    fn closed(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(handle) = by_server(now) else { return };
        let Some(connection) = handle.connection else { return };
        // A server that is told to stop may refuse.
        let stopping = !now.history.signals().is_empty();
        for (_, request) in self.owed.extract_if(.., |(owner, _)| *owner == connection) {
            if stopping {
                continue;
            }
            report.exercised();
            if !self.served.contains(&(request.handle, request.position)) {
                let expected = "a request sent before NBD_CMD_DISC is carried out";
                report.broken([&request, now.event], expected, "it is not");
            }
        }
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        match (now.event.kind, now.event.operation()) {
            (Kind::Request, Some(Operation::Disconnect)) => {
                if let Some(client) = now.history.client(now.event.handle) {
                    self.disconnects(now.history, client);
                }
            }
            (Kind::Request, Some(Operation::Connect)) => {
                self.served.retain(|(client, _)| *client != now.event.handle);
            }
            (Kind::Reply, _) => {
                // An error is an answer: the server has refused, and said so. Its silence is none.
                if now.event.result() < 0 && !is_lost(now.event) {
                    self.owed.retain(|(_, request)| request.position != now.event.call);
                }
                let owed = self.owed.iter().any(|(_, request)| request.position == now.event.call);
                if !owed {
                    self.served.retain(|(_, request)| *request != now.event.call);
                }
            }
            (Kind::Enter, _) if now.event.callback() == Some(Callback::Close) => self.closed(now, report),
            (Kind::Enter, _) => self.served(now),
            _ => {}
        }
    }
}

/// The server closes the connection.
fn ends_by_itself(now: &Now<'_>, report: &mut Report<'_>) {
    // A server that is told to stop may be gone before the client.
    let captive = now.history.run().is_some_and(|run| run.start == Start::Captive);
    let stopping = captive || !now.history.signals().is_empty();
    if now.event.operation() != Some(Operation::Disconnect) || stopping {
        return;
    }
    let client = now.history.client(now.event.handle);
    let connection = client.and_then(|client| client.connection);
    if now.event.result() == 0 {
        report.exercised();
        return;
    }
    // Only that nothing happened counts; and a layer that takes its time is no fault of the server's.
    const TIMED_OUT: u32 = 110;
    let busy = now.history.in_flight().any(|call| connection.is_none() || call.connection == connection);
    if now.event.errno() == TIMED_OUT && connection.is_some() && !busy {
        let asked = client.and_then(|client| client.awaits(Operation::Disconnect));
        report.broken(
            asked.map(|asked| &asked.event).into_iter().chain([now.event]),
            "the server closes the connection",
            "it does not",
        );
    }
}

/// What is not there is not written.
#[derive(Default)]
struct PartialPayload {
    /// Writes whose data was sent in part, in connections that are not over.
    cut: Vec<(ConnectionId, Event)>,
}

/// What a request or a data call covers, as first byte and the one after the last.
fn range(event: &Event) -> (u64, u64) {
    (event.offset(), event.offset().saturating_add(event.count().into()))
}

fn overlap(one: &Event, other: &Event) -> bool {
    let ((begin, end), (start, stop)) = (range(one), range(other));
    begin < stop && start < end
}

impl PartialPayload {
    fn asked(&mut self, now: &Now<'_>) {
        let client = now.history.client(now.event.handle);
        if now.event.operation() == Some(Operation::Write)
            && now.event.b > 0
            && let Some(connection) = client.and_then(|client| client.connection)
        {
            self.cut.push((connection, now.event.clone()));
        }
    }

    fn written(&self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(call) = now.call.filter(|call| call.parent.is_none()) else { return };
        let mut cut = self.cut.iter().filter(|(connection, _)| Some(*connection) == call.connection);
        let Some((connection, cut)) = cut.find(|(_, cut)| overlap(cut, now.event)) else { return };
        // Another request of the same client may be the reason: one that is whole.
        let waiting = now.history.client_of(*connection).into_iter().flat_map(|client| &client.waiting);
        let is_write = |request: &&Request| {
            matches!(request.operation, Operation::Write | Operation::Zero) && request.event.b == 0
        };
        if !waiting.filter(is_write).any(|request| overlap(&request.event, now.event)) {
            let expected = format!("no pwrite: {} bytes of the data were never sent", cut.b);
            report.broken([cut, now.event], expected, "it is called");
        }
    }

    fn closed(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(handle) = by_server(now) else { return };
        if now.history.first_close(handle.chain).is_some() {
            return;
        }
        for _ in self.cut.extract_if(.., |(connection, _)| Some(*connection) == handle.connection) {
            report.exercised();
        }
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        match now.event.callback() {
            Some(Callback::Pwrite) => self.written(now, report),
            Some(_) => self.closed(now, report),
            None => self.asked(now),
        }
    }
}
