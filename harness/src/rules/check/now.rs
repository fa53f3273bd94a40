//! What a check sees.

use layers_trace::{Event, Kind};

use crate::history::{Call, Client, Handle, History, Request};

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

    /// The event is an enter.
    pub fn is_enter(&self) -> bool {
        self.event.kind == Kind::Enter
    }

    /// The event is an exit.
    pub fn is_exit(&self) -> bool {
        self.event.kind == Kind::Exit
    }
}
