//! What is asked of a layer and what the server makes of it: the data calls made for a client's request, or below a data call
//! of a filter. Emulation shows there: one request for zeroes, and several writes.
//!
//! Which request a call serves is not recorded. A call of the server's own is for a request that waits on the same
//! connection and asks for just that, or for something that such calls can emulate. Among equal requests any may be
//! taken: see [`Client::is_ambiguous`].

use layers_trace::{Callback, Event, Operation, digest};

use super::client::{Client, Request};
use super::{Call, History};
use crate::protocol::flag;

/// NBDKIT_FLAG_MAY_TRIM
pub const MAY_TRIM: u32 = 1 << 0;
/// NBDKIT_FLAG_FUA
pub const FUA: u32 = 1 << 1;
/// NBDKIT_FLAG_REQ_ONE
pub const REQ_ONE: u32 = 1 << 2;
/// NBDKIT_FLAG_FAST_ZERO
pub const FAST_ZERO: u32 = 1 << 3;

/// Calls that are remembered of one request: 4 GiB in pieces of 64 MiB, and some more.
const MOST_MADE: usize = 80;

/// A data call made for something.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its enter.
    pub enter: Event,
    /// Its callback.
    pub callback: Callback,
    /// Its exit, once it has returned.
    pub exit: Option<Event>,
    /// What happened inside it.
    pub inside: Inside,
}

/// What happened inside a call that has returned, itself included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// Calls of the plugin's flush.
    pub flushes: u32,
    /// Writes of the plugin that were looked at and had other bytes than zero.
    pub nonzero: u32,
    /// Writes of the plugin that were looked at.
    pub looked_at: u32,
}

/// Data calls made one after another for the same thing.
#[derive(Clone, Debug, Default)]
pub struct MadeList {
    calls: Vec<Made>,
    more: u32,
}

impl MadeList {
    /// The calls, in order.
    pub fn calls(&self) -> &[Made] {
        &self.calls
    }

    /// Nothing is missing in it because there were too many.
    pub fn is_whole(&self) -> bool {
        self.more == 0
    }

    fn push(&mut self, call: &Call) {
        if self.calls.len() >= MOST_MADE {
            self.more += 1;
            return;
        }
        let (enter, callback) = (call.enter.clone(), call.callback);
        self.calls.push(Made { enter, callback, exit: None, inside: Inside::default() });
    }

    fn returned(&mut self, exit: &Event, call: &Call) {
        if let Some(made) = self.calls.iter_mut().rev().find(|made| made.enter.position == call.id()) {
            made.exit = Some(exit.clone());
            made.inside = inside(exit, call);
        }
    }
}

impl Made {
    /// 0 is the plugin.
    pub fn layer(&self) -> u8 {
        self.enter.layer
    }

    /// It has returned, with success.
    pub fn succeeded(&self) -> bool {
        self.exit.as_ref().is_some_and(|exit| exit.result() == 0)
    }

    /// It has returned, with a failure.
    pub fn failed(&self) -> bool {
        self.exit.as_ref().is_some_and(|exit| exit.result() < 0)
    }
}

fn inside(exit: &Event, call: &Call) -> Inside {
    let mut sum = Inside::default();
    for made in &call.made.calls {
        sum.flushes += made.inside.flushes;
        sum.nonzero += made.inside.nonzero;
        sum.looked_at += made.inside.looked_at;
    }
    if call.layer() == 0 {
        sum.flushes += u32::from(call.callback == Callback::Flush);
        if call.callback == Callback::Pwrite {
            sum.nonzero += u32::from(![digest::NONE, digest::ZEROES].contains(&exit.b));
            sum.looked_at += u32::from(exit.b != digest::NONE);
        }
    }
    sum
}

/// The callback that serves this operation, where nothing is emulated.
pub fn callback_of(operation: Operation) -> Option<Callback> {
    Some(match operation {
        Operation::Read => Callback::Pread,
        Operation::Write => Callback::Pwrite,
        Operation::Flush => Callback::Flush,
        Operation::Trim => Callback::Trim,
        Operation::Zero => Callback::Zero,
        Operation::Cache => Callback::Cache,
        Operation::BlockStatus => Callback::Extents,
        _ => return None,
    })
}

/// The same callback in the present version of the plugin interface.
pub fn present(callback: Callback) -> Callback {
    match callback {
        Callback::PreadV1 => Callback::Pread,
        Callback::PwriteV1 => Callback::Pwrite,
        Callback::FlushV1 => Callback::Flush,
        Callback::TrimV1 => Callback::Trim,
        Callback::ZeroV1 => Callback::Zero,
        other => other,
    }
}

impl Request {
    /// NBDKIT_FLAG_* that a request with these flags asks for.
    pub fn flags(&self) -> u32 {
        let has = |flag| self.event.flags() & flag != 0;
        let of = |set: bool, flag| if set { flag } else { 0 };
        match self.operation {
            Operation::Write | Operation::Trim => of(has(flag::FUA), FUA),
            Operation::Zero => {
                of(has(flag::FUA), FUA)
                    | of(!has(flag::NO_HOLE), MAY_TRIM)
                    | of(has(flag::FAST_ZERO), FAST_ZERO)
            }
            Operation::BlockStatus => of(has(flag::REQ_ONE), REQ_ONE),
            _ => 0,
        }
    }

    fn has_range(&self, call: &Event) -> bool {
        self.operation == Operation::Flush
            || (self.event.offset(), self.event.count()) == (call.offset(), call.count())
    }

    /// How well this call would be the first for it; `None` for not at all.
    fn fits(&self, callback: Callback, enter: &Event) -> Option<u32> {
        let begins = self.event.offset() == enter.offset() && enter.count() <= self.event.count();
        match (self.operation, present(callback)) {
            (operation, callback) if callback_of(operation) == Some(callback) => {
                let alike = u32::from(self.flags() == enter.flags());
                self.has_range(enter).then_some(2 + alike)
            }
            (Operation::Zero, Callback::Pwrite) | (Operation::Cache, Callback::Pread) => {
                begins.then(|| u32::from(self.flags() & FUA == enter.flags() & FUA))
            }
            _ => None,
        }
    }

    /// This call goes on with what others have begun for it: the next piece of an emulated request, or the flush
    /// that makes up for FUA.
    fn goes_on_with(&self, callback: Callback, enter: &Event) -> bool {
        let pieces = match self.operation {
            Operation::Zero => Callback::Pwrite,
            Operation::Cache => Callback::Pread,
            _ => Callback::Flush,
        };
        let made = self.made.calls();
        let Some(last) = made.last() else { return false };
        match present(callback) {
            Callback::Flush => {
                self.flags() & FUA != 0 && last.succeeded() && present(last.callback) != Callback::Flush
            }
            piece if piece == pieces => {
                let done = made.iter().filter(|made| present(made.callback) == pieces && made.succeeded());
                let done: u64 = done.map(|made| u64::from(made.enter.count())).sum();
                let left = u64::from(self.event.count()).saturating_sub(done);
                let first = made.first().is_some_and(|first| present(first.callback) != pieces);
                let next = self.event.offset().saturating_add(done);
                (last.succeeded() || first && last.failed())
                    && enter.offset() == next
                    && (1..=left).contains(&u64::from(enter.count()))
            }
            _ => false,
        }
    }

    /// Calls that are made for one of them could be made for the other.
    fn is_like(&self, other: &Request) -> bool {
        use Operation::{Cache, Read, Write, Zero};
        let same = self.operation == other.operation
            || [(Write, Zero), (Zero, Write), (Read, Cache), (Cache, Read)]
                .contains(&(self.operation, other.operation));
        // A flush may be a client's own, or make up for the FUA of another request.
        let flush =
            |one: &Request, other: &Request| one.operation == Operation::Flush && other.flags() & FUA != 0;
        flush(self, other) || flush(other, self) || same && other.has_range(&self.event)
    }
}

impl Client {
    /// Another request waits that the calls made for this one could have been made for.
    pub fn is_ambiguous(&self, request: &Request) -> bool {
        let other =
            |other: &Request| other.event.position != request.event.position && request.is_like(other);
        request.mistakable || self.waiting.iter().any(other)
    }

    /// A call is made for this request, or for one that is like it: from now on none of them can be judged by its calls.
    fn take_for(&mut self, position: u32) {
        let Some(taken) = self.waiting.iter().position(|one| one.event.position == position) else { return };
        let (before, rest) = self.waiting.split_at_mut(taken);
        let Some((taken, after)) = rest.split_first_mut() else { return };
        let mut alone = true;
        for other in before.iter_mut().chain(after).filter(|other| taken.is_like(other)) {
            other.mistakable = true;
            alone = false;
        }
        taken.mistakable |= !alone;
    }

    /// The request that the server must be serving with this call.
    fn asked_for(&self, callback: Callback, enter: &Event, current: Option<u32>) -> Option<u32> {
        let current = current.and_then(|id| self.waiting.iter().find(|one| one.event.position == id));
        if current.is_some_and(|request| request.goes_on_with(callback, enter)) {
            return current.map(|request| request.event.position);
        }
        let fresh = self.waiting.iter().filter(|request| request.made.calls().is_empty());
        let fitting = fresh.filter_map(|one| Some((one.fits(callback, enter)?, one.event.position)));
        fitting.max_by_key(|(fit, position)| (*fit, std::cmp::Reverse(*position))).map(|(_, id)| id)
    }
}

/// Below these a server may make other calls than the one that it was asked for.
fn is_of_interest(parent: &Call) -> bool {
    use Callback::{Cache, Extents, Pwrite, Trim, Zero};
    matches!(parent.callback, Pwrite | Trim | Zero | Extents | Cache)
}

impl History {
    /// The client whose requests this call could serve: the server makes it itself, on a connection of a known client.
    fn served_by(&self, call: &Call) -> Option<&Client> {
        let handle = self.handle(call.handle()).filter(|handle| !handle.manual)?;
        if !call.callback.is_data() || call.parent.is_some() {
            return None;
        }
        self.client_of(handle.connection?)
    }

    /// For a data call that is about to be entered: the client, and the request that it serves.
    pub(super) fn request_of(&self, call: &Call) -> Option<(u32, Option<u32>)> {
        let client = self.served_by(call)?;
        let current = self.thread(call.enter.tid).and_then(|thread| thread.serving);
        let current = current.filter(|(number, _)| *number == client.number).map(|(_, request)| request);
        Some((client.number, client.asked_for(call.callback, &call.enter, current)))
    }

    pub(super) fn made_entered(&mut self, call: &Call) {
        if let Some(client) = call.client {
            let serving = call.request.map(|request| (client, request));
            self.thread_mut(call.enter.tid, call.enter.pid).serving = serving;
            if let Some(request) = serving.and_then(|id| self.waiting_mut(id)) {
                request.made.push(call);
            }
            if let Some((number, position)) = serving
                && let Some(client) = self.clients.get_mut(&number)
            {
                client.take_for(position);
            }
        } else if let Some(parent) = self.thread_mut(call.enter.tid, call.enter.pid).current_mut()
            && parent.chain == call.chain
            && is_of_interest(parent)
        {
            parent.made.push(call);
        }
    }

    pub(super) fn made_returned(&mut self, exit: &Event, call: &Call) {
        if let Some(client) = call.client {
            let request = call.request.and_then(|request| self.waiting_mut((client, request)));
            if let Some(request) = request {
                request.made.returned(exit, call);
            }
        } else if let Some(parent) = self.thread_mut(call.enter.tid, call.enter.pid).current_mut() {
            parent.made.returned(exit, call);
        }
    }

    fn waiting_mut(&mut self, (client, request): (u32, u32)) -> Option<&mut Request> {
        let waiting = &mut self.clients.get_mut(&client)?.waiting;
        waiting.iter_mut().find(|one| one.event.position == request)
    }
}
