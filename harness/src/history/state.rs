//! Everything that is open at one point of a trace: the parts that own it, and the words in which rules ask for it.

use layers_trace::{Callback, Event};

use super::appctx::{Appctx, Appctxs, Registered, Unjudged, Wrapped};
use super::call::{Call, ChainId, Thread, Threads};
use super::client::{Client, Clients};
use super::concurrency::Concurrency;
use super::connection::{Connection, ConnectionId, Connections};
use super::end::End;
use super::handle::{Handle, Handles};
use super::layer_set::LayerSet;
use super::layers::{Layer, Layers};
use super::model::{Models, ThreadModel};
use super::noted_ends::NotedEnds;
use super::recording_fault::{Flaws, Numbers};
use super::visits::Visits;
use crate::run::{Run, Start};

/// Everything that is open at one point of the trace.
#[derive(Debug, Default)]
pub struct History {
    pub(super) run: Option<Run>,
    pub(super) layers: Layers,
    pub(super) threads: Threads,
    pub(super) handles: Handles,
    pub(super) connections: Connections,
    pub(super) clients: Clients,
    /// Of HAProxy.
    pub(super) sessions: Appctxs,
    pub(super) models: Models,
    pub(super) at_once: Concurrency,
    pub(super) visits: Visits,
    /// Layers that have opened contexts of their own.
    pub(super) openers: LayerSet,
    /// Filters that write down what they ask for.
    pub(super) askers: LayerSet,
    /// Of those, the ones that have chosen a `next` by nbdkit_context_set_next.
    pub(super) choosers: LayerSet,
    pub(super) signals: Vec<Event>,
    pub(super) end: Option<(End, Event)>,
    pub(super) noted_ends: NotedEnds,
    pub(super) failed_start: Option<Event>,
    pub(super) serving: Option<u32>,
    pub(super) cleaning: Option<u32>,
    pub(super) unloading: Option<u32>,
    pub(super) flaws: Flaws,
    pub(super) numbers: Numbers,
}

/// A filter that hands on `outer` makes the server call `inner` of a layer further in: to answer it, to serve it in another
/// way, to name what it opens or lists, or to close again what it could not open.
fn comes_of(outer: Callback, inner: Callback) -> bool {
    use Callback::{Close, DefaultExport, ListExports, Open};
    inner == outer
        || inner.is_query()
        || inner.is_data()
        || inner == DefaultExport && matches!(outer, ListExports | Open)
        || inner == Close && outer == Open
}

impl History {
    /// The registered layers, by number.
    pub fn layers(&self) -> &[Layer] {
        self.layers.all()
    }

    /// The layer with this number.
    pub fn layer(&self, number: u8) -> Option<&Layer> {
        self.layers.get(number)
    }

    /// The next layer inwards from `layer` that records this callback.
    pub fn inner(&self, layer: u8, callback: Callback) -> Option<u8> {
        self.layers.recording(callback).rev().find(|number| *number < layer)
    }

    /// The next layer outwards from `layer` that records this callback.
    pub fn outer(&self, layer: u8, callback: Callback) -> Option<u8> {
        self.layers.recording(callback).find(|number| *number > layer)
    }

    /// The outermost layer that records this callback.
    pub fn outermost(&self, callback: Callback) -> Option<u8> {
        self.layers.recording(callback).next_back()
    }

    /// The innermost layer that records this callback.
    pub fn innermost(&self, callback: Callback) -> Option<u8> {
        self.layers.recording(callback).next()
    }

    /// The layers that record this callback, the plugin first.
    pub fn recording(&self, callback: Callback) -> impl DoubleEndedIterator<Item = u8> {
        self.layers.recording(callback)
    }

    /// Calls of this callback of this layer are in the trace.
    pub fn records(&self, layer: u8, callback: Callback) -> bool {
        self.layers.records(layer, callback)
    }

    /// Calls in flight on all threads.
    pub fn in_flight(&self) -> impl Iterator<Item = &Call> {
        self.threads.all().iter().flat_map(|thread| thread.stack())
    }

    /// The thread with this id.
    pub fn thread(&self, tid: u32) -> Option<&Thread> {
        self.threads.get(tid)
    }

    /// An open handle: its `open` has returned and its `close` has not.
    pub fn handle(&self, id: u32) -> Option<&Handle> {
        self.handles.get(id)
    }

    /// All open handles.
    pub fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.handles.all()
    }

    /// An `open` has returned this handle at some time.
    pub fn was_minted(&self, id: u32) -> bool {
        self.handles.was_minted(id)
    }

    /// A connection that the server still serves, as far as the trace shows.
    pub fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(id)
    }

    /// All connections.
    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.connections.all()
    }

    /// What client `number` is about.
    pub fn client(&self, number: u32) -> Option<&Client> {
        self.clients.get(number)
    }

    /// All clients.
    pub fn clients(&self) -> impl Iterator<Item = &Client> {
        self.clients.all()
    }

    /// The connection that began last, of those that the server may still serve.
    pub fn latest_connection(&self) -> Option<&Connection> {
        self.connections.all().next_back()
    }

    /// The client at the other end of this connection, where it is certain which one that is.
    pub fn client_of(&self, connection: ConnectionId) -> Option<&Client> {
        self.clients.of(connection)
    }

    /// The call in flight at this position of the trace, on this thread.
    pub fn call(&self, tid: u32, id: u32) -> Option<&Call> {
        self.thread(tid)?.stack().iter().rev().find(|call| call.id() == id)
    }

    /// The call that `call` is nested in.
    pub fn parent(&self, call: &Call) -> Option<&Call> {
        self.call(call.enter.tid, call.parent?)
    }

    /// No connection has begun that could be this client's, though it has connected.
    pub fn has_no_connection(&self, client: u32) -> bool {
        self.clients.has_no_connection(client)
    }

    /// The enter of the first close of any handle in this chain, while others of it are open.
    pub fn first_close(&self, chain: ChainId) -> Option<&Event> {
        self.handles.first_close(chain)
    }

    /// The handles of one chain, outermost first.
    pub fn chain(&self, chain: ChainId) -> Vec<&Handle> {
        let mut handles: Vec<_> = self.handles.chain(chain).collect();
        handles.sort_by_key(|handle| std::cmp::Reverse(handle.layer));
        handles
    }

    /// The server has opened this handle, and nothing in the trace says that a filter may have taken it over: it is
    /// the server that prepares, finalizes and closes it.
    pub fn is_servers(&self, handle: &Handle) -> bool {
        !handle.manual && !self.opens_contexts_above(handle.layer)
    }

    /// A filter outside of this layer has opened contexts of its own.
    pub fn opens_contexts_above(&self, layer: u8) -> bool {
        self.openers.has_above(layer)
    }

    /// The next handle inwards in the chain of `handle` whose layer records this callback.
    pub fn handle_inside(&self, handle: &Handle, callback: Callback) -> Option<&Handle> {
        let inside = |other: &&Handle| other.chain == handle.chain && other.layer < handle.layer;
        let recorded = |other: &&Handle| self.records(other.layer, callback);
        self.handles().filter(inside).filter(recorded).max_by_key(|other| other.layer)
    }

    /// The next handle outwards in the chain of `handle` whose layer records this callback.
    pub fn handle_outside(&self, handle: &Handle, callback: Callback) -> Option<&Handle> {
        let outside = |other: &&Handle| other.chain == handle.chain && other.layer > handle.layer;
        let recorded = |other: &&Handle| self.records(other.layer, callback);
        self.handles().filter(outside).filter(recorded).min_by_key(|other| other.layer)
    }

    /// The model that the plugin asks for, by its macro and its `thread_model`.
    pub fn plugin_model(&self) -> Option<ThreadModel> {
        let constant = ThreadModel::from_number(i64::from(self.layer(0)?.thread_model))?;
        Some(self.models.plugin.map_or(constant, |answer| answer.min(constant)))
    }

    /// The model that the server is bound to: the most serial one that any layer asks for, or that a filter was told.
    /// `None` where a layer may have asked for another without a record of it.
    pub fn thread_model(&self) -> Option<ThreadModel> {
        self.models.in_force
    }

    /// Works out anew what each data call is held against.
    pub(super) fn note_models(&mut self) {
        let asked = self.plugin_model().into_iter().chain(self.models.filters).min();
        self.models.in_force = asked.filter(|_| self.is_complete()).into_iter().chain(self.models.told).min();
    }

    /// The most calls of this callback, for clients, that have been in progress at the same time.
    pub fn most_at_once(&self, callback: Callback) -> u32 {
        self.at_once.most(callback)
    }

    /// The most data calls of one connection that have been in progress at the same time.
    pub fn most_data_at_once(&self) -> u32 {
        self.at_once.most_data()
    }

    /// What no server can have brought about.
    pub fn flaws(&self) -> Flaws {
        self.flaws
    }

    /// The error number with which this exit of a data callback has failed. A filter leaves it in `*err`
    /// (nbdkit-filter(3), "ERROR HANDLING"); a plugin gives it to nbdkit_set_error, or leaves it in errno if that is
    /// preserved, or the server takes EIO (nbdkit_error(3), "Setting errno"). `None` where it has not failed, or where the
    /// number is not known.
    pub fn failure(&self, callback: Callback, exit: &Event) -> Option<u32> {
        self.layers.failure(callback, exit)
    }

    /// The keyword or applet with this number.
    pub fn registered_as(&self, number: u16) -> Option<&Registered> {
        self.sessions.registered_as(number)
    }

    /// All of them.
    pub fn all_registered(&self) -> impl Iterator<Item = &Registered> {
        self.sessions.all_registered()
    }

    /// How many keywords and applets of the server's own are recorded.
    pub fn wrapped(&self) -> Wrapped {
        self.sessions.wrapped()
    }

    /// The first thing that the instrument could not wrap, in its words.
    pub fn unwrapped(&self) -> Option<&str> {
        self.sessions.unwrapped()
    }

    /// Commands of which something was not tried.
    pub fn unjudged(&self) -> &[Unjudged] {
        self.sessions.unjudged()
    }

    /// The appctx with this minted id.
    pub fn appctx(&self, id: u32) -> Option<&Appctx> {
        self.sessions.appctx(id)
    }

    /// All that are remembered.
    pub fn appctxs(&self) -> impl Iterator<Item = &Appctx> {
        self.sessions.appctxs()
    }

    /// A handler is about to ask for a larger context than fits: the server stops on purpose, if it does as it promises.
    pub fn asked_too_much(&self) -> Option<&Event> {
        self.sessions.asked_too_much()
    }
}

/// What follows from the parts together.
impl History {
    /// A history in which nothing has happened.
    pub fn new() -> History {
        History::default()
    }

    /// How the run was started, if the harness said so.
    pub fn run(&self) -> Option<&Run> {
        self.run.as_ref()
    }

    /// Signals that the harness sent, in order.
    pub fn signals(&self) -> &[Event] {
        &self.signals
    }

    /// How the server ended, once it has.
    pub fn end(&self) -> Option<End> {
        self.end.as_ref().map(|(end, _)| *end)
    }

    /// How the process that serves says that it ends, where the server is watched, and so is not the harness's child.
    pub fn noted_end(&self) -> Option<End> {
        self.noted_ends.noted().filter(|_| self.is_watched())
    }

    /// The harness has not started the server: nobody is sure to hear how it ends.
    pub fn is_watched(&self) -> bool {
        self.run.as_ref().is_some_and(Run::is_watched)
    }

    /// The record of that.
    pub fn end_event(&self) -> Option<&Event> {
        self.end.as_ref().map(|(_, event)| event)
    }

    /// The exit of `config`, `config_complete`, `thread_model`, `get_ready` or `after_fork` that failed.
    pub fn failed_start(&self) -> Option<&Event> {
        self.failed_start.as_ref()
    }

    /// The first enter of this callback in this layer. This and the next three answer for callbacks that belong to no
    /// connection.
    pub fn entered(&self, layer: u8, callback: Callback) -> Option<&Event> {
        self.first_enters(callback).find(|enter| enter.layer == layer)
    }

    /// The first enter of this callback in each layer, the earliest first.
    pub fn first_enters(&self, callback: Callback) -> impl DoubleEndedIterator<Item = &Event> {
        self.visits.entered().iter().filter(move |enter| enter.callback() == Some(callback))
    }

    /// The last exit of this callback in this layer.
    pub fn returned(&self, layer: u8, callback: Callback) -> Option<&Event> {
        self.visits.returned(layer, callback)
    }

    /// The layers that record this callback and have not been called, the plugin first.
    pub fn left_out(&self, callback: Callback) -> impl Iterator<Item = u8> {
        self.layers.recording(callback).filter(move |layer| self.entered(*layer, callback).is_none())
    }

    /// Position at which the outermost `after_fork` returned 0: from here on clients are served.
    pub fn serving(&self) -> Option<u32> {
        self.serving
    }

    /// Position of the first enter of any `cleanup`.
    pub fn cleaning(&self) -> Option<u32> {
        self.cleaning
    }

    /// Position of the first enter of any `unload`.
    pub fn unloading(&self) -> Option<u32> {
        self.unloading
    }

    /// The server ended of itself, successfully, and not from inside a callback: it owes unload, and cleanup if it
    /// has served.
    ///
    /// Start-up can fail without any callback failing (a socket in use, a parameter that nobody takes), and a module
    /// may call exit(3), unless it is known not to; both leave a status other than 0 or a call in flight. Where the server forks, the status may be
    /// that of the process left behind: it says nothing before the other one serves, and under `--run` it is the
    /// command's, so that only a death by signal (128 and more) counts.
    pub fn ended_cleanly(&self) -> bool {
        let Some(End::Exited(status)) = self.end() else { return false };
        let success = match self.run().map(|run| run.start) {
            Some(Start::Captive) => self.serving.is_some() && status < 128,
            Some(Start::Daemon) => self.serving.is_some() && status == 0,
            _ => status == 0,
        };
        let stays = self.run().is_some_and(|run| run.never_exits);
        success && self.failed_start.is_none() && (stays || self.in_flight().next().is_none())
    }

    /// The run was to serve clients. Without a description of the run: it has come as far as that.
    pub fn serves(&self) -> bool {
        self.run.as_ref().map_or(self.serving.is_some(), |run| run.start.serves())
    }

    /// Clients write down in the trace what they ask and what they are told.
    pub fn has_client_log(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.client_log)
    }

    /// The trace has digests of the bytes that are read and written, and lists of extents.
    pub fn has_digests(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.digests)
    }

    /// The run was started with `--run`: the server is told to stop when the command has ended, and has the status of that.
    pub fn is_captive(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.start == Start::Captive)
    }

    /// The end that the trace tells of is that of the process that serves: where the harness starts a server with `--run`, it
    /// sees another one end.
    pub fn ends_where_it_serves(&self) -> bool {
        !self.is_captive() || self.is_watched()
    }

    /// The server may have been told to stop.
    pub fn may_stop(&self) -> bool {
        self.is_captive() || !self.signals.is_empty()
    }

    /// The server has ended by itself, with whatever status.
    pub fn has_exited(&self) -> bool {
        matches!(self.end(), Some(End::Exited(_)))
    }

    /// This layer is somebody else's, of which nobody knows what it does.
    pub fn is_foreign(&self, layer: u8) -> bool {
        self.layer(layer).is_some_and(|layer| layer.target.is_some())
    }

    /// The run was started with `--dump-plugin`.
    pub fn is_dump(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.start == Start::DumpPlugin)
    }

    /// This filter is known to ask the layer below what it is asked with this callback, and to answer what it is told.
    pub fn hands_on(&self, layer: u8, callback: Callback) -> bool {
        let Some(filter) = usize::from(layer).checked_sub(1) else { return false };
        let known = self.run().and_then(|run| run.hands_on.get(filter));
        known.is_some_and(|callbacks| callbacks & callback.bit() != 0)
            && self.layer(layer).is_some_and(|layer| layer.target.is_none())
    }

    /// The server itself makes this call in the middle of a filter's: the filter is known to hand on what it is asked,
    /// and nothing that it does or that the server does for it leads here.
    pub fn is_intrusion(&self, call: &Call) -> bool {
        self.parent(call).is_some_and(|parent| {
            parent.layer() > call.layer()
                && self.hands_on(parent.layer(), parent.callback)
                && !comes_of(parent.callback, call.callback)
        })
    }

    /// Every layer of the stack is registered, so that nothing is missing from the trace because nobody looked.
    pub fn is_complete(&self) -> bool {
        self.run.as_ref().is_some_and(|run| self.layers().len() == usize::from(run.filters) + 1)
    }

    /// The call that this one is nested in as deep as its thread goes; itself, where it is not nested.
    pub fn root<'a>(&'a self, call: &'a Call) -> &'a Call {
        self.thread(call.enter.tid).and_then(|thread| thread.stack().first()).unwrap_or(call)
    }

    /// The server makes this call for a client, or some layer does while it serves such a call. Not so for what a
    /// filter does on a thread or a context of its own, as far as the trace can tell.
    pub fn is_for_client(&self, call: &Call) -> bool {
        match self.handle(call.handle()) {
            Some(handle) => !handle.manual,
            None if call.callback.has_handle() => false,
            None => {
                let root = self.root(call);
                root.callback.is_connected() && Some(root.layer()) == self.outermost(root.callback)
            }
        }
    }

    /// This filter has opened a context otherwise than by passing on its own `open`, or more than one in it, or has
    /// finalized or closed what is below it. From then on its `next` may be one that it chose itself, or none
    /// (nbdkit_context_set_next).
    pub fn opens_contexts(&self, layer: u8) -> bool {
        self.openers.has(layer)
    }

    /// The `next` of this filter is the one that its `open` has got it, or none: it writes down what it asks for, and it
    /// has never asked for another one.
    pub fn keeps_next(&self, layer: u8) -> bool {
        !self.opens_contexts(layer) || self.askers.has(layer) && !self.choosers.has(layer)
    }
}
