//! The NBD protocol, "Terminating the transmission phase", and what nbdkit makes of a client that leaves.

use layers_trace::Callback::{self, CanWrite, Close, GetSize, Pread, Pwrite};
use layers_trace::{Event, Kind, Operation};

use super::by_server;
use super::survival::{is_lost, is_timed_out};
use crate::history::{Client, ConnectionId, History, Request, callback_of};
use crate::protocol::MOST_PORTABLE;
use crate::rules::check::{Now, Report, Rule, Said, at, by, enters, given, notes, remembering, unless};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "conn.requests-before-disc",
        statement: "Reads and writes that a client has sent before NBD_CMD_DISC are carried out.",
        clause: "the NBD protocol, NBD_CMD_DISC and Terminating the transmission phase",
        antecedent: "a client that disconnects while it waits for the answer to a read or write",
        good: "send NBD_CMD_WRITE send NBD_CMD_DISC L0.pwrite reply NBD_CMD_WRITE L0.close",
        bad: "send NBD_CMD_WRITE send NBD_CMD_DISC L0.close",
        fix: "finish what has been received before ending the connection",
        check: by!(remembering(
            enters(&[Pread, Pwrite, Close]).notes(&[Kind::Request, Kind::Reply]),
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
        check: by!(at(notes(&[Kind::Reply]), ends_by_itself)),
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
        check: by!(remembering(enters(&[Pwrite, Close]).notes(&[Kind::Request]), PartialPayload::see)),
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

/// The callback that a read or write leads to at the outermost layer.
fn reads_or_writes(operation: Operation) -> Option<Callback> {
    callback_of(operation).filter(|callback| matches!(callback, Pread | Pwrite))
}

impl CarriedOut {
    fn served(&mut self, now: &Now<'_>) -> Said {
        let (call, client) = (now.root()?, now.served()?);
        let served = &self.served;
        let request = client.waiting.iter().map(|request| &request.event).find(|request| {
            request.operation().and_then(reads_or_writes) == Some(call.callback)
                && (request.offset(), request.count()) == (now.event.offset(), now.event.count())
                && request.b == 0
                && !served.contains(&(client.number, request.position))
        })?;
        self.served.push((client.number, request.position));
        Some(())
    }

    /// Requests that the server has no reason to refuse.
    fn disconnects(&mut self, history: &History, client: &Client) -> Said {
        let connection = client.connection?;
        let handles = history.handles().filter(|handle| handle.connection == Some(connection));
        let handle = handles.filter(|handle| !handle.manual).max_by_key(|handle| handle.layer)?;
        let size = handle.answer(GetSize).and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
        let writable = handle.answer(CanWrite) == Some(1) && !handle.readonly();
        let is_owed = |request: &&Request| {
            let Some(callback) = reads_or_writes(request.operation) else { return false };
            let (offset, count) = (request.event.offset(), u64::from(request.event.count()));
            let fits = count > 0
                && count <= MOST_PORTABLE.into()
                && offset.checked_add(count).is_some_and(|end| end <= size);
            let visible = history.outermost(callback) == Some(handle.layer);
            let whole = request.event.b == 0;
            fits && (callback == Pread || writable) && visible && whole && request.event.flags() == 0
        };
        let owed = client.waiting.iter().filter(is_owed);
        self.owed.extend(owed.map(|request| (connection, request.event.clone())));
        Some(())
    }

    fn closed(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let connection = by_server(now)?.connection?;
        for (_, request) in self.owed.extract_if(.., |(owner, _)| *owner == connection) {
            // A server that is told to stop may refuse.
            if now.history.signals().is_empty() {
                let holds = self.served.contains(&(request.handle, request.position));
                let expected = "a request sent before NBD_CMD_DISC is carried out";
                report.expect(holds, &request, expected, "it is not");
            }
        }
        Some(())
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        match (now.event.kind, now.event.operation()) {
            (Kind::Request, Some(Operation::Disconnect)) => self.disconnects(now.history, now.client()?),
            (Kind::Request, Some(Operation::Connect)) => {
                self.served.retain(|(client, _)| *client != now.event.handle);
                Some(())
            }
            (Kind::Reply, _) => {
                // An error is an answer: the server has refused, and said so. Its silence is none.
                if now.event.result() < 0 && !is_lost(now.event) {
                    self.owed.retain(|(_, request)| request.position != now.event.call);
                }
                unless(self.owed.iter().any(|(_, request)| request.position == now.event.call))?;
                self.served.retain(|(_, request)| *request != now.event.call);
                Some(())
            }
            (Kind::Enter, _) if now.is(Close) => self.closed(now, report),
            (Kind::Enter, _) => self.served(now),
            _ => None,
        }
    }
}

/// The server closes the connection.
fn ends_by_itself(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    // A server that is told to stop may be gone before the client.
    given(now.is_about(Operation::Disconnect) && !now.history.may_stop())?;
    if now.event.result() == 0 {
        return report.exercised();
    }
    // Only that nothing happened counts; and a layer that takes its time is no fault of the server's.
    let connection = now.connection()?;
    let busy = now.history.in_flight().any(|call| call.connection == Some(connection));
    given(is_timed_out(now.event) && !busy)?;
    let asked = now.client()?.awaits(Operation::Disconnect);
    report.broken(asked, "the server closes the connection", "it does not")
}

/// What is not there is not written: remembers writes whose data was sent in part, in connections that are not over.
#[derive(Default)]
struct PartialPayload {
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
    fn asked(&mut self, now: &Now<'_>) -> Said {
        given(now.is_about(Operation::Write) && now.event.b > 0)?;
        self.cut.push((now.connection()?, now.event.clone()));
        Some(())
    }

    fn written(&self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let call = now.root()?;
        let mut cut = self.cut.iter().filter(|(connection, _)| Some(*connection) == call.connection);
        let (_, cut) = cut.find(|(_, cut)| overlap(cut, now.event))?;
        // Another request of the same client may be the reason: one that is whole.
        let is_reason = |request: &Request| {
            let writes = matches!(request.operation, Operation::Write | Operation::Zero);
            writes && request.event.b == 0 && overlap(&request.event, now.event)
        };
        unless(now.served().is_some_and(|client| client.waiting.iter().any(is_reason)))?;
        let expected = format!("no pwrite: {} bytes of the data were never sent", cut.b);
        report.broken(cut, expected, "it is called")
    }

    fn closed(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let handle = by_server(now).filter(|handle| now.history.first_close(handle.chain).is_none())?;
        for _ in self.cut.extract_if(.., |(connection, _)| Some(*connection) == handle.connection) {
            report.exercised();
        }
        Some(())
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        match now.event.callback() {
            Some(Pwrite) => self.written(now, report),
            Some(_) => self.closed(now, report),
            None => self.asked(now),
        }
    }
}
