//! One event after another: what each changes.

use layers_trace::appctx::is_registration;
use layers_trace::{Below, Callback, ContextFunction, Event, Kind};

use super::call::{Call, ChainId, Handed, Thread};
use super::client::Client;
use super::connection::ConnectionId;
use super::derived_calls::MadeList;
use super::end::End;
use super::recording_fault::RecordingFault;
use super::serving;
use super::state::History;
use crate::run::{Run, Start};

/// An event that has come, and changes nothing yet: the history is as it was just before. The event takes effect when the
/// step is dropped.
#[derive(Debug)]
pub struct EventStep<'h, 'e> {
    history: &'h mut History,
    event: &'e Event,
    call: Option<Call>,
}

impl EventStep<'_, '_> {
    /// Returns the history as it was just before the event.
    pub fn history(&self) -> &History {
        self.history
    }

    /// Returns the call that the event enters or exits; `None` for other events, and for an exit whose enter is unknown.
    pub fn call(&self) -> Option<&Call> {
        self.call.as_ref()
    }
}

impl Drop for EventStep<'_, '_> {
    fn drop(&mut self) {
        self.history.apply(self.event, self.call.take());
    }
}

impl History {
    /// Takes the next event.
    pub fn step<'h, 'e>(&'h mut self, event: &'e Event) -> EventStep<'h, 'e> {
        let call = match event.kind {
            Kind::Enter => Some(self.start_call(event)),
            Kind::Exit => self.take_call(event),
            _ => None,
        };
        self.inspect(event, call.as_ref());
        EventStep { history: self, event, call }
    }

    fn apply(&mut self, event: &Event, call: Option<Call>) {
        self.noted_ends.see(event);
        if event.callback().is_some_and(Callback::is_appctx) {
            self.sessions.called(event);
        }
        match (event.kind, call) {
            (Kind::Enter, Some(call)) => self.enter(call),
            (Kind::Exit, Some(call)) => self.exited(event, &call),
            (Kind::Layer, _) if is_registration(event) => self.sessions.register(event),
            (Kind::Probe, _) => self.sessions.probed(event),
            (Kind::Layer, _) => {
                self.layers.register(event);
                self.note_models();
            }
            (Kind::Run, _) => {
                self.run = Run::of(event);
                self.note_models();
            }
            (Kind::Signal, _) => self.signals.push(event.clone()),
            (Kind::End, _) => {
                self.end = Some((End::of(event), event.clone()));
            }
            (Kind::Request | Kind::Reply, _) => self.clients.told(event),
            (Kind::Ask | Kind::Answer, _) => self.asked(event),
            _ => {}
        }
    }

    /// Returns this thread, for which room is made if need be.
    ///
    /// Nothing tells that a thread has ended. Of those that are in no call and have no handle open, the longer known half
    /// goes, and with it their connections: servers start new threads for new connections, and few clients stay in
    /// negotiation while hundreds of others come and go.
    fn thread_mut(&mut self, tid: u32, pid: u32) -> &mut Thread {
        if self.threads.is_full_for(tid) {
            let busy = |id| self.handles.has_connection(id);
            let kept = self.threads.forget_idle(busy);
            self.connections.retain(|id| kept.contains(&id) || self.handles.has_connection(id));
        }
        self.threads.of(tid, pid)
    }

    fn begin_connection(&mut self, event: &Event) -> ConnectionId {
        let id = self.connections.begin(event, |id| self.handles.has_connection(id));
        self.threads.serves(event.tid, id);
        self.clients.matched(id, self.run.as_ref().is_some_and(|run| run.start == Start::Single));
        id
    }

    fn start_call(&mut self, event: &Event) -> Call {
        let thread = self.thread_mut(event.tid, event.pid);
        let parent = thread.current();
        let callback = event.callback().unwrap_or(Callback::Load);
        let mut call = Call {
            enter: event.clone(),
            callback,
            parent: parent.map(Call::id),
            connection: None,
            chain: None,
            client: None,
            request: None,
            made: MadeList::default(),
            handed: Handed::default(),
            owner: None,
            opened_below: false,
        };
        let from_parent = parent.and_then(|parent| parent.connection);
        let shared = thread.opens_context().is_some_and(|ask| ask.c != 0);
        let passed_on = parent
            .filter(|parent| parent.callback == Callback::Open && parent.layer() > event.layer)
            .filter(|parent| !parent.opened_below && thread.opens_context().is_none())
            .map(|parent| (parent.chain, parent.owner));
        let opener = parent.map(Call::layer);
        let own = thread.connection;
        if callback.has_handle() {
            if let Some(handle) = self.handles.get(event.handle) {
                call.connection = handle.connection;
                call.chain = Some(handle.chain);
            }
            if let Some((client, request)) = self.request_of(&call) {
                (call.client, call.request) = (Some(client), request);
            }
        } else if callback == Callback::Preconnect && call.parent.is_none() {
            call.connection = Some(self.begin_connection(event));
        } else if callback.is_connected() {
            call.connection = match (call.parent, from_parent, own) {
                (Some(_), inherited, _) => inherited,
                (None, _, Some(own)) => Some(own),
                (None, _, None) => Some(self.begin_connection(event)),
            };
            if callback == Callback::Open {
                let (chain, owner) = passed_on.unwrap_or_else(|| (None, self.owner(event, opener)));
                call.chain = chain.or(Some(ChainId(event.position)));
                call.owner = owner;
                // A shared context belongs to no connection, whoever is being served.
                call.connection = call.connection.filter(|_| !shared);
            }
        }
        call
    }

    /// Who opens the context that begins with this `open`, which no `open` of another layer passes on.
    fn owner(&self, open: &Event, caller: Option<u8>) -> Option<u8> {
        let above = || self.layers().iter().map(|layer| layer.number).find(|number| *number > open.layer);
        match caller {
            Some(layer) => Some(layer),
            // A filter's own thread, unless it is the server that opens.
            None if Some(open.layer) == self.outermost(Callback::Open) => None,
            None => above(),
        }
    }

    /// What a reference filter does below it, or has the answer of.
    fn asked(&mut self, event: &Event) {
        self.askers.add(event.layer);
        if event.kind == Kind::Ask && event.below() == Some(Below::Context(ContextFunction::SetNext)) {
            self.choosers.add(event.layer);
            self.openers.add(event.layer);
        }
        let asks = &mut self.thread_mut(event.tid, event.pid).asks;
        match event.kind {
            Kind::Ask => asks.push(event.clone()),
            _ => asks.truncate(asks.iter().position(|ask| ask.position == event.call).unwrap_or(asks.len())),
        }
    }

    fn enter(&mut self, call: Call) {
        let position = call.enter.position;
        self.visits.note(&call.enter, call.callback, true);
        if self.is_servers_call(&call) {
            self.at_once.entered(&call);
        }
        match call.callback {
            Callback::Cleanup => self.cleaning = self.cleaning.or(Some(position)),
            Callback::Unload => self.unloading = self.unloading.or(Some(position)),
            Callback::Open => self.open_entered(&call),
            Callback::Close => self.close_entered(&call),
            Callback::GetReady => {
                self.models.was_told(&call.enter);
                self.note_models();
            }
            Callback::Finalize => self.finalize_entered(&call),
            _ => {}
        }
        if let Some(handle) = self.handles.get_mut(call.handle()) {
            handle.entered(&call);
        }
        if call.callback.is_data() {
            serving::entered(&mut self.threads, &mut self.clients, &call);
        }
        let thread = self.thread_mut(call.enter.tid, call.enter.pid);
        if let Some(parent) = thread.asker(&call) {
            parent.handed.times += 1;
        }
        thread.stack.push(call);
    }

    /// Takes the call off its thread's stack. Calls above it never returned (a thread does not leave a call without
    /// leaving those inside it), and go with it.
    fn take_call(&mut self, event: &Event) -> Option<Call> {
        let thread = self.thread_mut(event.tid, event.pid);
        let index = thread.stack.iter().rposition(|call| call.id() == event.call)?;
        let crossed = index + 1 < thread.stack.len();
        let call = thread.stack.drain(index..).next();
        if crossed {
            self.flaws.add(RecordingFault::Crossed, event);
        }
        call
    }

    fn exited(&mut self, event: &Event, call: &Call) {
        debug_assert_eq!(event.kind, Kind::Exit);
        self.visits.note(event, call.callback, false);
        if self.is_servers_call(call) {
            self.at_once.exited(call);
        }
        match call.callback {
            Callback::Open if event.result() != 0 => self.handles.opened(event, call),
            Callback::Close => self.handles.closed(call),
            Callback::ThreadModel => {
                self.models.answered(event);
                self.note_models();
            }
            Callback::DefaultExport if event.result() != 0 => self.connections.named(call.connection, event),
            Callback::Preconnect if call.parent.is_none() && event.result() < 0 => {
                self.connections.denied(call.connection)
            }
            Callback::AfterFork
                if event.result() == 0 && Some(call.layer()) == self.outermost(Callback::AfterFork) =>
            {
                self.serving = Some(event.position);
            }
            _ => {}
        }
        let may_fail = event.result() != 0 || call.callback == Callback::Extents;
        let failure = if may_fail { self.failure(call.callback, event) } else { None };
        if let Some(parent) = self.thread_mut(event.tid, event.pid).asker(call) {
            parent.handed.failure = failure;
            parent.handed.result = Some(event.result());
            parent.handed.digest = if call.callback == Callback::Extents { 0 } else { event.b };
            parent.handed.said = (!event.texts.is_empty()).then(|| Box::new(event.clone()));
        }
        let is_start = matches!(
            call.callback,
            Callback::Config
                | Callback::ConfigComplete
                | Callback::ThreadModel
                | Callback::GetReady
                | Callback::AfterFork
        );
        if is_start && event.result() < 0 && self.failed_start.is_none() {
            self.failed_start = Some(event.clone());
        }
        if call.callback.is_data() {
            serving::returned(&mut self.threads, &mut self.clients, event, call);
        }
        if let Some(handle) = self.handles.get_mut(call.handle()) {
            handle.exited(event, call);
        }
    }

    /// Notes who opens: the server, a filter that passes on its own `open` (once), or a filter for itself.
    fn open_entered(&mut self, call: &Call) {
        let passed_on = match self.thread_mut(call.enter.tid, call.enter.pid).current_mut() {
            Some(parent) if parent.callback == Callback::Open && parent.chain == call.chain => {
                parent.opened_below = true;
                true
            }
            _ => false,
        };
        if let Some(owner) = call.owner.filter(|_| !passed_on) {
            self.openers.add(owner);
        }
    }

    /// The filter that does this below itself, instead of the server. (In an `open` that fails the server closes what is
    /// already open below.)
    fn done_by_filter(&self, call: &Call) -> Option<u8> {
        let parent = self.parent(call).filter(|_| !self.is_intrusion(call))?;
        let undoes = parent.callback == Callback::Open && call.callback == Callback::Close;
        (parent.layer() > call.layer() && !undoes).then(|| parent.layer())
    }

    fn finalize_entered(&mut self, call: &Call) {
        if let Some(filter) = self.done_by_filter(call) {
            self.openers.add(filter);
        }
    }

    fn close_entered(&mut self, call: &Call) {
        if let Some(filter) = self.done_by_filter(call) {
            // What it puts in the place of these is another chain; the handle of its own stays open.
            self.openers.add(filter);
        } else if let Some(chain) = call.chain {
            self.handles.begin_close(chain, &call.enter);
        }
    }

    fn is_servers_call(&self, call: &Call) -> bool {
        call.parent.is_none() && call.callback.is_connected() && self.is_for_client(call)
    }

    /// The client whose requests this call could serve: the server makes it itself, on a connection of a known client.
    fn served_by(&self, call: &Call) -> Option<&Client> {
        let handle = self.handle(call.handle()).filter(|handle| !handle.manual)?;
        if !call.callback.is_data() || call.parent.is_some() {
            return None;
        }
        self.client_of(handle.connection?)
    }

    /// For a data call that is about to be entered: the client, and the request that it serves.
    fn request_of(&self, call: &Call) -> Option<(u32, Option<u32>)> {
        let client = self.served_by(call)?;
        let current = self.thread(call.enter.tid).and_then(|thread| thread.serving);
        let current = current.filter(|(number, _)| *number == client.number).map(|(_, request)| request);
        Some((client.number, client.asked_for(call.callback, &call.enter, current)))
    }
}
