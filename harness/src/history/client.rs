//! The other end: what the harness's clients asked and were answered, out of the same trace.

use layers_trace::{Event, Kind, Operation};

use super::History;
use super::connection::ConnectionId;

/// A request of a client, from the moment before it is sent to its reply.
#[derive(Clone, Debug)]
pub struct Request {
    /// The record of it.
    pub event: Event,
    /// What was asked.
    pub operation: Operation,
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
    /// It has sent NBD_CMD_DISC or NBD_OPT_ABORT, or has closed its socket: the record of that.
    pub leaving: Option<Event>,
    /// It waits for the greeting.
    connecting: bool,
}

impl Client {
    /// It is waiting for the answer to this operation.
    pub fn awaits(&self, operation: Operation) -> Option<&Request> {
        self.waiting.iter().find(|request| request.operation == operation)
    }
}

impl History {
    pub(super) fn client_event(&mut self, event: &Event) {
        let Some(operation) = event.operation() else { return };
        let number = event.handle;
        let client = self.clients.entry(number).or_insert_with(|| Client {
            number,
            connection: None,
            waiting: Vec::new(),
            last_option: None,
            leaving: None,
            connecting: false,
        });
        if event.kind == Kind::Reply {
            client.waiting.retain(|request| request.event.position != event.call);
            client.connecting &= operation != Operation::Connect;
            return;
        }
        let request = Request { event: event.clone(), operation };
        match operation {
            Operation::Connect => {
                client.connecting = true;
                client.connection = None;
                client.leaving = None;
            }
            Operation::List | Operation::Info | Operation::Go | Operation::ExportName => {
                client.last_option = Some(request.clone());
            }
            Operation::Abort | Operation::Disconnect | Operation::Hangup => {
                client.leaving = client.leaving.take().or(Some(event.clone()));
            }
            _ => {}
        }
        client.waiting.push(request);
    }

    /// A connection that begins while just one client waits for its greeting is that client's.
    pub(super) fn match_client(&mut self, connection: ConnectionId) {
        let mut connecting =
            self.clients.values_mut().filter(|client| client.connecting && client.connection.is_none());
        if let (Some(client), None) = (connecting.next(), connecting.next()) {
            client.connection = Some(connection);
        }
    }
}
