//! Calls: an enter with, later, its exit; nested per thread.

use std::collections::BTreeSet;

use layers_trace::{Below, Callback, ContextFunction, Event};

use super::connection::ConnectionId;
use super::derived_calls::MadeList;

/// Threads that are remembered at the same time, as long as some of them are idle.
const MOST_THREADS: usize = 512;

/// One traversal of `open`, named by the position of its outermost enter; the handles that it made belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(pub u32);

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
    /// The error number that the last of them has failed with, where that is known; see [`super::History::failure`].
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
    pub(super) stack: Vec<Call>,
    /// What reference filters ask below them and have no answer of yet, outermost first.
    pub(super) asks: Vec<Event>,
}

impl Thread {
    pub(super) fn new(tid: u32, pid: u32) -> Thread {
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
    pub(super) fn opens_context(&self) -> Option<&Event> {
        let current = self.current()?.id();
        let function = Some(Below::Context(ContextFunction::Open));
        self.asking().filter(|ask| ask.position > current && ask.below() == function)
    }

    /// The innermost call in flight, if it is one of the same callback as `call`, further out.
    pub(super) fn asker(&mut self, call: &Call) -> Option<&mut Call> {
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

/// The threads that were seen.
#[derive(Debug, Default)]
pub(super) struct Threads {
    all: Vec<Thread>,
    /// Where each thread is likely to be among them, by the last bits of its id: every event asks for one.
    places: [u32; PLACES],
}

/// Threads that can be found at once; kernels number those of one server one after another.
const PLACES: usize = 32;

impl Threads {
    pub(super) fn all(&self) -> &[Thread] {
        &self.all
    }

    pub(super) fn get(&self, tid: u32) -> Option<&Thread> {
        self.likely(tid).or_else(|| self.all.iter().find(|thread| thread.tid == tid))
    }

    fn likely(&self, tid: u32) -> Option<&Thread> {
        let place = self.places.get(tid as usize % PLACES)?;
        self.all.get(*place as usize).filter(|thread| thread.tid == tid)
    }

    /// There are so many that some must go before this one can be added.
    pub(super) fn is_full_for(&self, tid: u32) -> bool {
        self.all.len() >= MOST_THREADS && self.get(tid).is_none()
    }

    /// The thread with this id, a new one if need be.
    pub(super) fn of(&mut self, tid: u32, pid: u32) -> &mut Thread {
        let index = self.place(tid).unwrap_or_else(|| {
            self.all.push(Thread::new(tid, pid));
            self.all.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "found or pushed just above")]
        let thread = &mut self.all[index];
        if thread.pid != pid {
            // A forked child begins with a copy of one thread, in the middle of nothing that we record.
            *thread = Thread::new(tid, pid);
        }
        thread
    }

    fn place(&mut self, tid: u32) -> Option<usize> {
        let likely = self.places.get_mut(tid as usize % PLACES)?;
        if self.all.get(*likely as usize).is_some_and(|thread| thread.tid == tid) {
            return Some(*likely as usize);
        }
        let place = self.all.iter().position(|thread| thread.tid == tid)?;
        *likely = u32::try_from(place).ok()?;
        Some(place)
    }

    /// This thread serves this connection from now on.
    pub(super) fn serves(&mut self, tid: u32, connection: ConnectionId) {
        if let Some(thread) = self.all.iter_mut().find(|thread| thread.tid == tid) {
            thread.connection = Some(connection);
        }
    }

    /// Forgets the longer known half of the threads that are idle: in no call, and without a connection that is busy.
    /// Returns the connections of those that stay.
    pub(super) fn forget_idle(&mut self, is_busy: impl Fn(ConnectionId) -> bool) -> BTreeSet<ConnectionId> {
        let mut surplus = self.all.len() / 2;
        self.all.retain(|thread| {
            let idle = thread.stack.is_empty() && thread.connection.is_none_or(|id| !is_busy(id));
            let goes = idle && surplus > 0;
            surplus -= usize::from(goes);
            !goes
        });
        self.all.iter().filter_map(|thread| thread.connection).collect()
    }
}
