//! The other end: what the harness's clients asked and were answered, out of the same trace.

use std::collections::BTreeMap;

use layers_trace::{Event, Field, Kind, Operation};

use super::connection::ConnectionId;
use super::derived_calls::MadeList;
use crate::protocol::is_gone;

/// The metadata context that nbdkit has (NBD protocol, "Metadata querying").
const ALLOCATION: &[u8] = b"base:allocation";

/// A request of a client, from the moment before it is sent to its reply.
#[derive(Clone, Debug)]
pub struct Request {
    /// The record of it.
    pub event: Event,
    /// What was asked.
    pub operation: Operation,
    /// The data calls that the server makes for it.
    pub made: MadeList,
    /// While it waited, a call was made that could have been for it as well as for another.
    pub(super) mistakable: bool,
}

/// A client of the harness's.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its number in the scenario.
    pub number: u32,
    /// The connection at the server's end. `None` while unknown: several clients connected at once.
    pub connection: Option<ConnectionId>,
    /// Requests without a reply, oldest first.
    pub waiting: Vec<Request>,
    /// The last option that selects or lists exports, which the server is answering or has answered.
    pub last_option: Option<Request>,
    /// It has sent an option while it waited for the answer to another: from then on nobody can tell which one a
    /// callback is for, because the server is ahead of what the client has heard.
    pub pipelines: bool,
    /// It has sent NBD_CMD_DISC or NBD_OPT_ABORT, or has closed its socket, or its own
    /// direction of it: the record of that.
    pub leaving: Option<Event>,
    /// Its connection is gone: requests that have no answer may still be served.
    pub lost: bool,
    /// It has negotiated structured replies, as far as it writes that down.
    pub structured: bool,
    /// The export for which base:allocation is set, with NBD_OPT_SET_META_CONTEXT.
    context: Option<Vec<u8>>,
    /// And that export is the one that has been chosen, so that base:allocation holds.
    pub has_context: bool,
}

/// Clients and connections that are still to be told apart.
#[derive(Debug, Default)]
struct Arrivals {
    /// Numbers of the clients that have connected, as far as no connection is known to be theirs.
    clients: Vec<u32>,
    /// Connections that have begun since there are several such clients.
    begun: usize,
    /// A connection that began before any client said that it connects.
    early: Option<ConnectionId>,
}

impl Client {
    /// The request with this record that it waits for.
    pub fn waits_for(&self, position: u32) -> Option<&Request> {
        self.waiting.iter().find(|request| request.event.position == position)
    }

    /// It is waiting for the answer to this operation.
    pub fn awaits(&self, operation: Operation) -> Option<&Request> {
        self.waiting.iter().find(|request| request.operation == operation)
    }

    /// The request that selects an export, or asks about one, and that it is waiting for; if it is certain which.
    pub fn selects(&self) -> Option<&Request> {
        self.selecting().next().filter(|_| !self.pipelines)
    }

    /// All such requests, oldest first.
    pub fn selecting(&self) -> impl Iterator<Item = &Request> {
        const SELECTING: &[Operation] = &[Operation::Info, Operation::Go, Operation::ExportName];
        self.waiting.iter().filter(|request| SELECTING.contains(&request.operation))
    }
}

impl Client {
    /// Takes in what the reply to an option changes for what comes after it.
    fn negotiated(&mut self, operation: Operation, reply: &Event) {
        let ok = reply.result() == 0;
        let told = || reply.texts.iter().any(|text| text.field == Field::Name && text.bytes == ALLOCATION);
        let request = self.waits_for(reply.call);
        let export =
            request.and_then(|request| request.event.text(Field::Export)).map(|text| text.bytes.clone());
        match operation {
            Operation::StructuredReply => self.structured |= ok,
            Operation::StartTls if ok => {
                self.structured = false;
                self.context = None;
            }
            // Whatever becomes of it, it ends what was set before.
            Operation::SetMetaContext => self.context = export.filter(|_| ok && told()),
            // libnbd sets contexts by itself, and says here which of them hold.
            Operation::Go | Operation::ExportName if ok => {
                self.has_context = told() || export.is_some() && self.context == export;
            }
            _ => {}
        }
    }
}

/// The clients of the harness, and the connections that are theirs.
#[derive(Debug, Default)]
pub(super) struct Clients {
    by_number: BTreeMap<u32, Client>,
    arrivals: Arrivals,
}

impl Clients {
    pub(super) fn get(&self, number: u32) -> Option<&Client> {
        self.by_number.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Client> {
        self.by_number.get_mut(&number)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Client> {
        self.by_number.values()
    }

    pub(super) fn of(&self, connection: ConnectionId) -> Option<&Client> {
        self.by_number.values().find(|client| client.connection == Some(connection))
    }

    /// The request of this client that waits, by the position of its record.
    pub(super) fn waiting_mut(&mut self, (client, request): (u32, u32)) -> Option<&mut Request> {
        let waiting = &mut self.by_number.get_mut(&client)?.waiting;
        waiting.iter_mut().find(|one| one.event.position == request)
    }

    /// A client has asked or been answered something.
    pub(super) fn told(&mut self, event: &Event) {
        let Some(operation) = event.operation() else { return };
        let number = event.handle;
        let client = self.by_number.entry(number).or_insert_with(|| Client {
            number,
            connection: None,
            waiting: Vec::new(),
            last_option: None,
            pipelines: false,
            leaving: None,
            lost: false,
            structured: false,
            context: None,
            has_context: false,
        });
        if event.kind == Kind::Reply {
            // A client that has given up tells nothing of the server, which may still be about to answer.
            client.negotiated(operation, event);
            client.lost |= is_gone(event.errno().cast_signed());
            if event.errno() != libc::ETIMEDOUT.cast_unsigned() {
                client.waiting.retain(|request| request.event.position != event.call);
            }
            return;
        }
        let request =
            Request { event: event.clone(), operation, made: MadeList::default(), mistakable: false };
        match operation {
            Operation::Connect => {
                client.connection = self.arrivals.early.take();
                client.leaving = None;
                client.lost = false;
                client.structured = false;
                client.context = None;
                client.has_context = false;
                client.last_option = None;
                client.pipelines = false;
                client.waiting.clear();
                if client.connection.is_none() {
                    self.arrivals.clients.push(number);
                }
            }
            Operation::List | Operation::Info | Operation::Go | Operation::ExportName => {
                client.pipelines |=
                    client.selecting().next().is_some() || client.awaits(Operation::List).is_some();
                client.last_option = Some(request.clone());
            }
            Operation::Abort | Operation::Disconnect | Operation::Hangup | Operation::HalfClose => {
                client.leaving = client.leaving.take().or(Some(event.clone()));
            }
            _ => {}
        }
        client.waiting.push(request);
    }

    /// A connection that begins while just one client is still without one is that client's. Of several clients that
    /// connect at once nobody knows which is which.
    pub(super) fn matched(&mut self, connection: ConnectionId, single: bool) {
        let arrivals = &mut self.arrivals;
        match arrivals.clients.as_slice() {
            [] => {
                // The only client of `-s` is connected before the server starts.
                arrivals.early = single.then_some(connection);
            }
            [only] if arrivals.begun == 0 => {
                if let Some(client) = self.by_number.get_mut(only) {
                    client.connection = Some(connection);
                }
                arrivals.clients.clear();
            }
            several => {
                arrivals.begun += 1;
                if arrivals.begun == several.len() {
                    *arrivals = Arrivals::default();
                }
            }
        }
    }

    /// No connection has begun that could be this client's, though it has connected.
    pub(super) fn has_no_connection(&self, client: u32) -> bool {
        self.arrivals.begun == 0 && self.arrivals.clients.contains(&client)
    }
}
