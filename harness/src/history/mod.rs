//! From events to calls, handles and connections.
//!
//! [`History`] is fed one event after another and always knows what is open *now*: the calls in flight on each
//! thread, the handles that are open, the connections they belong to, what the clients are waiting for. It forgets
//! what is over, so its memory is bounded by what is open and not by the length of the trace. It judges nothing.
//!
//! A trace that was kept in a file, read back and walked; `layers trace --save FILE` keeps one, too:
//!
//! ```
//! use layers::history::History;
//! use layers::scenario::{Player, named};
//! use layers::server::nbdkit::Nbdkit;
//! use layers::trace::{Callback, Kind, Reader};
//!
//! let directory = tempfile::tempdir()?;
//! let file = directory.path().join("run.trace");
//! let server = Nbdkit::find(None)?;
//! let classical = named::find("classical").expect("it is in the list");
//! Player { keep: Some(&file), ..Player::new(&server) }.play(&classical)?;
//!
//! let bytes = std::fs::read(&file)?;
//! let (mut history, mut reads) = (History::new(), Vec::new());
//! for event in Reader::new(&bytes)?.events() {
//!     let event = event?;
//!     let call = history.resolve(&event);
//!     if let Some(call) = call.as_ref().filter(|call| call.callback == Callback::Pread) {
//!         let asked_by = history.parent(call).map(|outer| outer.layer());
//!         reads.extend((event.kind == Kind::Enter).then_some((call.layer(), asked_by)));
//!     }
//!     history.apply(&event, call);
//! }
//! // The server asks the outermost of three filters, each filter the layer below it.
//! assert_eq!(reads[..4], [(3, None), (2, Some(3)), (1, Some(2)), (0, Some(1))]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Connections are derived: a connection begins with a traversal of `preconnect` (or, where no layer has one, with the
//! first other connected call) on a thread of its own; a handle belongs to the connection of the thread that opened
//! it; a call with a handle belongs to the connection of that handle, whatever thread makes it.

mod answers;
mod appctx;
mod at_once;
mod call;
mod client;
mod connection;
mod failure;
mod flaw;
mod handle;
mod layer_set;
mod made;
mod model;

use std::collections::BTreeMap;

use layers_trace::appctx::is_registration;
use layers_trace::{Callback, Event, Field, Kind};

pub use answers::*;
pub use appctx::{Appctx, Command, Registered, Wrapped};
pub use call::{Call, Handed, Thread};
pub use client::{Client, Request};
pub use connection::{Connection, ConnectionId};
pub use flaw::{Flaw, Flaws};
pub use handle::{ChainId, Handle};
use layer_set::LayerSet;
pub use made::{FAST_ZERO, FUA, Inside, MAY_TRIM, Made, MadeList, REQ_ONE, callback_of, present};
pub use model::ThreadModel;

use crate::run::{Run, Start};
use crate::visible::visible_line;

/// What a layer registered when the server loaded it.
#[derive(Clone, Debug)]
pub struct Layer {
    /// 0 is the plugin.
    pub number: u8,
    /// `name` of its structure.
    pub name: String,
    /// Callbacks of its target, [`Callback::bit`]s.
    callbacks: u64,
    /// Those that the instrument made up where the target had none.
    synthetic: u64,
    /// The plugin's `_thread_model`.
    pub thread_model: u32,
    /// The plugin's `magic_config_key`, empty when it has none; `None` where the registration does not say.
    pub magic_config_key: Option<String>,
    /// File of somebody else's module that the instrument wraps; `None` for a reference layer.
    pub target: Option<String>,
    /// The plugin's `errno_is_preserved`; `None` where nothing is known of what it gives to nbdkit_set_error.
    pub errno_is_preserved: Option<bool>,
    /// What else stands in a plugin's structure; `None` for a filter, and where the registration does not say.
    pub structure: Option<Structure>,
}

/// In `handle` of a plugin's registration, beside `_struct_size`: it has `errno_is_preserved`.
const PRESERVED: u32 = 1 << 31;

/// Fields of a plugin's structure that are not functions (nbdkit-plugin(3), "CALLBACKS").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// `_struct_size`, in bytes.
    pub size: u64,
    /// `_api_version`.
    pub api_version: u32,
    /// `errno_is_preserved` is not 0.
    pub errno_is_preserved: bool,
    /// `longname`.
    pub long_name: Option<String>,
    /// `version`.
    pub version: Option<String>,
    /// `description`.
    pub description: Option<String>,
    /// `config_help`.
    pub config_help: Option<String>,
}

impl Layer {
    /// The target has this callback itself.
    pub fn has(&self, callback: Callback) -> bool {
        self.callbacks & !self.synthetic & callback.bit() != 0
    }

    /// Calls of this callback are in the trace: the target has it, or the instrument stands in for it.
    pub fn records(&self, callback: Callback) -> bool {
        self.callbacks & callback.bit() != 0
    }
}

/// How the server ended, as wait(2) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Exit status.
    Exited(i32),
    /// Killed by this signal.
    Killed(i32),
}

impl End {
    /// As this event has it, which must be one of the server's end.
    pub fn of(event: &Event) -> End {
        let status = event.a as i32;
        match status & 0x7f {
            0 => End::Exited(status >> 8 & 0xff),
            signal => End::Killed(signal),
        }
    }

    /// Returns the wait status that [`End::of`] reads, as the event of the end has it.
    pub(crate) fn status(self) -> u64 {
        let status = match self {
            End::Exited(code) => code << 8,
            End::Killed(signal) => signal,
        };
        status.cast_unsigned().into()
    }
}

/// Everything that is open at one point of the trace.
#[derive(Debug, Default)]
pub struct History {
    run: Option<Run>,
    layers: Vec<Layer>,
    threads: Vec<Thread>,
    recent_thread: usize,
    handles: BTreeMap<u32, Handle>,
    minted: u32,
    connections: BTreeMap<ConnectionId, Connection>,
    /// The first close in each chain that is not closed as a whole.
    closing: BTreeMap<ChainId, Event>,
    clients: BTreeMap<u32, Client>,
    arrivals: client::Arrivals,
    /// Layers that have opened contexts of their own.
    openers: LayerSet,
    /// Filters that write down what they ask for.
    askers: LayerSet,
    /// Of those, the ones that have chosen a `next` by nbdkit_context_set_next.
    choosers: LayerSet,
    models: model::Models,
    at_once: at_once::AtOnce,
    signals: Vec<Event>,
    end: Option<(End, Event)>,
    failed_start: Option<Event>,
    serving: Option<u32>,
    cleaning: Option<u32>,
    unloading: Option<u32>,
    appctxs: appctx::Appctxs,
    flaws: Flaws,
    numbers: flaw::Numbers,
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
    /// A history in which nothing has happened.
    pub fn new() -> History {
        History::default()
    }

    /// How the run was started, if the harness said so.
    pub fn run(&self) -> Option<&Run> {
        self.run.as_ref()
    }

    /// The registered layers, by number.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The layer with this number.
    pub fn layer(&self, number: u8) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.number == number)
    }

    /// The next layer inwards from `layer` that records this callback.
    pub fn inner(&self, layer: u8, callback: Callback) -> Option<u8> {
        self.layers.iter().map(|l| l.number).rev().find(|n| *n < layer && self.records(*n, callback))
    }

    /// The next layer outwards from `layer` that records this callback.
    pub fn outer(&self, layer: u8, callback: Callback) -> Option<u8> {
        self.layers.iter().map(|l| l.number).find(|n| *n > layer && self.records(*n, callback))
    }

    /// The outermost layer that records this callback.
    pub fn outermost(&self, callback: Callback) -> Option<u8> {
        self.layers.iter().map(|l| l.number).rev().find(|n| self.records(*n, callback))
    }

    /// The innermost layer that records this callback.
    pub fn innermost(&self, callback: Callback) -> Option<u8> {
        self.layers.iter().map(|l| l.number).find(|n| self.records(*n, callback))
    }

    /// Calls of this callback of this layer are in the trace.
    pub fn records(&self, layer: u8, callback: Callback) -> bool {
        self.layer(layer).is_some_and(|layer| layer.records(callback))
    }

    /// Calls in flight on all threads.
    pub fn in_flight(&self) -> impl Iterator<Item = &Call> {
        self.threads.iter().flat_map(|thread| thread.stack())
    }

    /// The thread with this id.
    pub fn thread(&self, tid: u32) -> Option<&Thread> {
        match self.threads.get(self.recent_thread) {
            Some(thread) if thread.tid == tid => Some(thread),
            _ => self.threads.iter().find(|thread| thread.tid == tid),
        }
    }

    /// An open handle: its `open` has returned and its `close` has not.
    pub fn handle(&self, id: u32) -> Option<&Handle> {
        self.handles.get(&id)
    }

    /// All open handles.
    pub fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.handles.values()
    }

    /// An `open` has returned this handle at some time.
    pub fn was_minted(&self, id: u32) -> bool {
        id > 0 && id <= self.minted
    }

    /// A connection that the server still serves, as far as the trace shows.
    pub fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(&id)
    }

    /// All connections.
    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.connections.values()
    }

    /// What client `number` is about.
    pub fn client(&self, number: u32) -> Option<&Client> {
        self.clients.get(&number)
    }

    /// All clients.
    pub fn clients(&self) -> impl Iterator<Item = &Client> {
        self.clients.values()
    }

    /// The connection that began last, of those that the server may still serve.
    pub fn latest_connection(&self) -> Option<&Connection> {
        self.connections.values().next_back()
    }

    /// The client at the other end of this connection, where it is certain which one that is.
    pub fn client_of(&self, connection: ConnectionId) -> Option<&Client> {
        self.clients.values().find(|client| client.connection == Some(connection))
    }

    /// Signals that the harness sent, in order.
    pub fn signals(&self) -> &[Event] {
        &self.signals
    }

    /// How the server ended, once it has.
    pub fn end(&self) -> Option<End> {
        self.end.as_ref().map(|(end, _)| *end)
    }

    /// The record of that.
    pub fn end_event(&self) -> Option<&Event> {
        self.end.as_ref().map(|(_, event)| event)
    }

    /// The exit of `config`, `config_complete`, `thread_model`, `get_ready` or `after_fork` that failed.
    pub fn failed_start(&self) -> Option<&Event> {
        self.failed_start.as_ref()
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
        self.run.as_ref().is_some_and(|run| self.layers.len() == usize::from(run.filters) + 1)
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

    /// First half: makes the call, or finds it, so that checks can look at it. What it changes is not yet to be
    /// seen: see [`History::apply`].
    pub fn resolve(&mut self, event: &Event) -> Option<Call> {
        let call = match event.kind {
            Kind::Enter => Some(self.start_call(event)),
            Kind::Exit => self.take_call(event),
            _ => None,
        };
        self.inspect(event, call.as_ref());
        call
    }

    /// Second half, after the checks have looked: what this event changes.
    pub fn apply(&mut self, event: &Event, call: Option<Call>) {
        if event.callback().is_some_and(Callback::is_appctx) {
            self.appctxs.called(event);
        }
        match (event.kind, call) {
            (Kind::Enter, Some(call)) => self.entered(call),
            (Kind::Exit, Some(call)) => self.exited(event, &call),
            (Kind::Layer, _) if is_registration(event) => self.appctxs.register(event),
            (Kind::Probe, _) => self.appctxs.probed(event),
            (Kind::Layer, _) => self.registered(event),
            (Kind::Run, _) => {
                self.run = Run::of(event);
            }
            (Kind::Signal, _) => self.signals.push(event.clone()),
            (Kind::End, _) => {
                self.end = Some((End::of(event), event.clone()));
            }
            (Kind::Request | Kind::Reply, _) => self.client_event(event),
            (Kind::Ask | Kind::Answer, _) => self.asked(event),
            _ => {}
        }
    }

    fn registered(&mut self, event: &Event) {
        let text = |field| event.text(field).map(|text| String::from_utf8_lossy(&text.bytes).into_owned());
        let shown = |field| text(field).map(|text| visible_line(&text));
        self.layers.push(Layer {
            number: event.layer,
            name: shown(Field::Name).unwrap_or_default(),
            magic_config_key: text(Field::Key),
            target: shown(Field::Target),
            errno_is_preserved: event.context.checked_sub(1).map(|preserved| preserved != 0),
            callbacks: event.a,
            synthetic: event.b,
            thread_model: event.c,
            structure: (event.layer == 0 && event.handle != 0).then(|| Structure {
                size: u64::from(event.handle & !PRESERVED),
                api_version: event.d,
                errno_is_preserved: event.handle & PRESERVED != 0,
                long_name: text(Field::LongName),
                version: text(Field::Version),
                description: text(Field::Description),
                config_help: text(Field::Help),
            }),
        });
        self.layers.sort_by_key(|layer| layer.number);
    }
}
