//! What a check sees.

use layers_trace::{Callback, Event, Kind, Operation};

use crate::history::{Call, Client, ConnectionId, Handle, History, Request};

/// What a check sees.
#[derive(Clone, Copy, Debug)]
pub struct Now<'a> {
    /// Everything that is open, just before the event.
    pub history: &'a History,
    /// The event.
    pub event: &'a Event,
    /// The call that it enters or exits; `None` for other events, and for an exit whose enter is unknown.
    pub call: Option<&'a Call>,
    /// The open handle that the call was given.
    pub handle: Option<&'a Handle>,
}

impl<'a> Now<'a> {
    /// The call that the event's call is nested in.
    pub fn parent(&self) -> Option<&'a Call> {
        self.history.parent(self.call?)
    }

    /// The call, where it is nested in no other.
    pub fn root(&self) -> Option<&'a Call> {
        self.call.filter(|call| call.parent.is_none())
    }

    /// The call, where the server makes it itself, for a client.
    pub fn server_call(&self) -> Option<&'a Call> {
        self.root().filter(|call| self.history.is_for_client(call))
    }

    /// The handle that the call was given, where the layer that is called has opened it.
    pub fn own_handle(&self) -> Option<&'a Handle> {
        self.handle.filter(|handle| handle.layer == self.event.layer)
    }

    /// The connection of the call, or of the client that has written down this event.
    pub fn connection(&self) -> Option<ConnectionId> {
        if self.event.callback().is_some() { self.call?.connection } else { self.client()?.connection }
    }

    /// The client for which the call is made, where it is certain which one that is.
    pub fn served(&self) -> Option<&'a Client> {
        self.history.client_of(self.call?.connection?)
    }

    /// This is true of the client for which the call is made; where it is not certain which one that is, of any.
    pub fn may_serve(&self, is: impl Fn(&Client) -> bool) -> bool {
        self.served().map_or_else(|| self.history.clients().any(&is), &is)
    }

    /// The client that the call is made for, and its request, where it is certain which ones these are.
    pub fn served_request(&self) -> Option<(&'a Client, &'a Request)> {
        let call = self.call?;
        let client = self.history.client(call.client?)?;
        Some((client, client.waits_for(call.request?)?))
    }

    /// What a filter is asking the layer below, or the server, on the thread of the event.
    pub fn asking(&self) -> Option<&'a Event> {
        self.history.thread(self.event.tid)?.asking()
    }

    /// The client that has written down this event: a request, a reply or a complaint.
    pub fn client(&self) -> Option<&'a Client> {
        self.history.client(self.event.handle)
    }

    /// The request that this event of its client is about, where the client waits for the reply.
    pub fn request(&self) -> Option<&'a Request> {
        self.client()?.waits_for(self.event.call)
    }

    /// The call during which the event comes: the innermost one on its thread.
    pub fn during(&self) -> Option<&'a Call> {
        self.history.thread(self.event.tid)?.current()
    }

    /// The event is of a call of this callback.
    pub fn is(&self, callback: Callback) -> bool {
        self.event.callback() == Some(callback)
    }

    /// The event is of a client, and about this operation.
    pub fn is_about(&self, operation: Operation) -> bool {
        self.event.operation() == Some(operation)
    }

    /// The event is a reply by which a client hears that this operation has succeeded.
    pub fn succeeds(&self, operation: Operation) -> bool {
        self.event.kind == Kind::Reply && self.is_about(operation) && self.event.result() == 0
    }

    /// The event is an enter.
    pub fn is_enter(&self) -> bool {
        self.event.kind == Kind::Enter
    }

    /// The event is an exit.
    pub fn is_exit(&self) -> bool {
        self.event.kind == Kind::Exit
    }
}
