//! Calls: an enter with, later, its exit; nested per thread.

use std::collections::BTreeSet;

use layers_trace::{Below, Callback, ContextFunction, Event, Kind};

use super::connection::ConnectionId;
use super::flaw::Flaw;
use super::made::MadeList;
use super::{ChainId, History};

/// Threads that are remembered at the same time, as long as some of them are idle.
const MOST_THREADS: usize = 512;

/// A call of a callback.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its enter; the position there is what names the call.
    pub enter: Event,
    /// The callback.
    pub callback: Callback,
    /// Position of the call that it is nested in, on the same thread.
    pub parent: Option<u32>,
    /// The connection it serves, where one is known.
    pub connection: Option<ConnectionId>,
    /// The chain of handles that it belongs to; for `open`, the chain that it makes or extends.
    pub chain: Option<ChainId>,
    /// For a data call that the server makes itself: the client it must be for, where that is known.
    pub client: Option<u32>,
    /// That client's request, as the position of its record.
    pub request: Option<u32>,
    /// Data calls made inside it, on the same chain; see [`MadeList`].
    pub made: MadeList,
    /// The same question, handed on to a layer below from inside this call.
    pub handed: Handed,
    /// For `open`: the filter that has opened the context itself, instead of the server.
    pub owner: Option<u8>,
    /// For `open`: it has called the `open` below.
    pub(super) opened_below: bool,
}

/// Calls of the same callback right inside a call, of a layer further in.
#[derive(Clone, Debug, Default)]
pub struct Handed {
    /// How many there have been.
    pub times: u32,
    /// What the last of them has returned, once it has.
    pub result: Option<i64>,
    /// The digest of the bytes that it has read or got.
    pub digest: u64,
    /// Its exit, where that says more.
    pub said: Option<Box<Event>>,
    /// The error number that the last of them has failed with, where that is known; see [`History::failure`].
    pub failure: Option<u32>,
}

impl Call {
    /// What names the call: the position of its enter.
    pub fn id(&self) -> u32 {
        self.enter.position
    }

    /// 0 is the plugin.
    pub fn layer(&self) -> u8 {
        self.enter.layer
    }

    /// Minted id of the handle it was given.
    pub fn handle(&self) -> u32 {
        self.enter.handle
    }
}

/// A thread of the server.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Kernel thread id.
    pub tid: u32,
    /// Process it was last seen in.
    pub pid: u32,
    /// The connection it was last seen to serve by itself.
    pub connection: Option<ConnectionId>,
    /// The client and the request that its last data call of the server's own was for.
    pub(super) serving: Option<(u32, u32)>,
    stack: Vec<Call>,
    /// What reference filters ask below them and have no answer of yet, outermost first.
    asks: Vec<Event>,
}

impl Thread {
    fn new(tid: u32, pid: u32) -> Thread {
        Thread { tid, pid, connection: None, serving: None, stack: Vec::new(), asks: Vec::new() }
    }

    /// Calls in flight, outermost first.
    pub fn stack(&self) -> &[Call] {
        &self.stack
    }

    /// What a reference filter asks below it at this moment, as far as it writes that down.
    pub fn asking(&self) -> Option<&Event> {
        self.asks.last()
    }

    /// What it asks below since this position of the trace.
    pub(super) fn ask(&self, position: u32) -> Option<&Event> {
        self.asks.iter().find(|ask| ask.position == position)
    }

    /// The innermost call in flight opens a context of its own, and says so.
    fn opens_context(&self) -> Option<&Event> {
        let current = self.current()?.id();
        let function = Some(Below::Context(ContextFunction::Open));
        self.asking().filter(|ask| ask.position > current && ask.below() == function)
    }

    /// The innermost call in flight, if it is one of the same callback as `call`, further out.
    fn asker(&mut self, call: &Call) -> Option<&mut Call> {
        self.stack.last_mut().filter(|asker| asker.callback == call.callback && asker.layer() > call.layer())
    }

    pub(super) fn current_mut(&mut self) -> Option<&mut Call> {
        self.stack.last_mut()
    }

    /// The innermost call in flight.
    pub fn current(&self) -> Option<&Call> {
        self.stack.last()
    }
}

impl History {
    /// The call in flight at this position of the trace, on this thread.
    pub fn call(&self, tid: u32, id: u32) -> Option<&Call> {
        self.thread(tid)?.stack.iter().rev().find(|call| call.id() == id)
    }

    /// The call that `call` is nested in.
    pub fn parent(&self, call: &Call) -> Option<&Call> {
        self.call(call.enter.tid, call.parent?)
    }

    pub(super) fn thread_mut(&mut self, tid: u32, pid: u32) -> &mut Thread {
        let index = match self.threads.get(self.recent_thread) {
            Some(thread) if thread.tid == tid => self.recent_thread,
            _ => self.threads.iter().position(|thread| thread.tid == tid).unwrap_or_else(|| {
                if self.threads.len() >= MOST_THREADS {
                    self.forget_idle_threads();
                }
                self.threads.push(Thread::new(tid, pid));
                self.threads.len() - 1
            }),
        };
        self.recent_thread = index;
        #[expect(clippy::indexing_slicing, reason = "found or pushed just above")]
        let thread = &mut self.threads[index];
        if thread.pid != pid {
            // A forked child begins with a copy of one thread, in the middle of nothing that we record.
            *thread = Thread::new(tid, pid);
        }
        thread
    }

    /// Nothing tells that a thread has ended. Of those that are in no call and have no handle open, the longer known half
    /// goes, and with it their connections: servers start new threads for new connections, and few clients stay in
    /// negotiation while hundreds of others come and go.
    fn forget_idle_threads(&mut self) {
        let busy: BTreeSet<ConnectionId> =
            self.handles.values().filter_map(|handle| handle.connection).collect();
        let mut surplus = self.threads.len() / 2;
        self.threads.retain(|thread| {
            let idle = thread.stack.is_empty() && thread.connection.is_none_or(|id| !busy.contains(&id));
            let goes = idle && surplus > 0;
            surplus -= usize::from(goes);
            !goes
        });
        let kept: BTreeSet<ConnectionId> =
            self.threads.iter().filter_map(|thread| thread.connection).collect();
        self.connections.retain(|id, _| kept.contains(id) || busy.contains(id));
    }

    pub(super) fn start_call(&mut self, event: &Event) -> Call {
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
            if let Some(handle) = self.handles.get(&event.handle) {
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
        let above = || self.layers.iter().map(|layer| layer.number).find(|number| *number > open.layer);
        match caller {
            Some(layer) => Some(layer),
            // A filter's own thread, unless it is the server that opens.
            None if Some(open.layer) == self.outermost(Callback::Open) => None,
            None => above(),
        }
    }

    /// What a reference filter does below it, or has the answer of.
    pub(super) fn asked(&mut self, event: &Event) {
        self.askers.add(event.layer);
        if event.kind == Kind::Ask && event.below() == Some(Below::Context(ContextFunction::SetNext)) {
            self.choosers.add(event.layer);
            self.manages(event.layer);
        }
        let asks = &mut self.thread_mut(event.tid, event.pid).asks;
        match event.kind {
            Kind::Ask => asks.push(event.clone()),
            _ => asks.truncate(asks.iter().position(|ask| ask.position == event.call).unwrap_or(asks.len())),
        }
    }

    pub(super) fn entered(&mut self, call: Call) {
        let position = call.enter.position;
        self.count_entered(&call);
        match call.callback {
            Callback::Cleanup => self.cleaning = self.cleaning.or(Some(position)),
            Callback::Unload => self.unloading = self.unloading.or(Some(position)),
            Callback::Open => self.open_entered(&call),
            Callback::Close => self.close_entered(&call),
            Callback::GetReady => self.models.told(&call.enter),
            Callback::Finalize => self.finalize_entered(&call),
            _ => {}
        }
        if let Some(handle) = self.handles.get_mut(&call.handle()) {
            handle.entered(&call);
        }
        if call.callback.is_data() {
            self.made_entered(&call);
        }
        let thread = self.thread_mut(call.enter.tid, call.enter.pid);
        if let Some(parent) = thread.asker(&call) {
            parent.handed.times += 1;
        }
        thread.stack.push(call);
    }

    /// Takes the call off its thread's stack. Calls above it never returned (a thread does not leave a call without
    /// leaving those inside it), and go with it.
    pub(super) fn take_call(&mut self, event: &Event) -> Option<Call> {
        let thread = self.thread_mut(event.tid, event.pid);
        let index = thread.stack.iter().rposition(|call| call.id() == event.call)?;
        let crossed = index + 1 < thread.stack.len();
        let call = thread.stack.drain(index..).next();
        if crossed {
            self.flaw(Flaw::Crossed, event);
        }
        call
    }

    pub(super) fn exited(&mut self, event: &Event, call: &Call) {
        debug_assert_eq!(event.kind, Kind::Exit);
        self.count_exited(call);
        match call.callback {
            Callback::Open if event.result() != 0 => self.opened(event, call),
            Callback::Close => self.closed(call),
            Callback::ThreadModel => self.models.answered(event),
            Callback::DefaultExport if event.result() != 0 => self.named(event, call),
            Callback::Preconnect if call.parent.is_none() && event.result() < 0 => self.denied(call),
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
            self.made_returned(event, call);
        }
        if let Some(handle) = self.handles.get_mut(&call.handle()) {
            handle.exited(event, call);
        }
    }
}
