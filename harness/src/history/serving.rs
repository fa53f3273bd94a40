//! Which request of a client a call of the server serves, and which calls are made inside another.
//!
//! Which request a call serves is not recorded. A call of the server's own is for a request that waits on the same
//! connection and asks for just that, or for something that such calls can emulate. Among equal requests any may be
//! taken: see [`Client::is_ambiguous`].

use layers_trace::{Callback, Event, Operation};

use super::call::{Call, Threads};
use super::client::{Client, Clients, Request};
use super::derived_calls::{FAST_ZERO, FUA, MAY_TRIM, REQ_ONE, callback_of, present};
use crate::protocol::flag;

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
    pub(super) fn asked_for(&self, callback: Callback, enter: &Event, current: Option<u32>) -> Option<u32> {
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

/// A data call is entered.
pub(super) fn entered(threads: &mut Threads, clients: &mut Clients, call: &Call) {
    if let Some(client) = call.client {
        let serving = call.request.map(|request| (client, request));
        threads.of(call.enter.tid, call.enter.pid).serving = serving;
        if let Some(request) = serving.and_then(|id| clients.waiting_mut(id)) {
            request.made.push(&call.enter, call.callback);
        }
        if let Some((number, position)) = serving
            && let Some(client) = clients.get_mut(number)
        {
            client.take_for(position);
        }
    } else if let Some(parent) = threads.of(call.enter.tid, call.enter.pid).current_mut()
        && parent.chain == call.chain
        && is_of_interest(parent)
    {
        parent.made.push(&call.enter, call.callback);
    }
}

/// A data call has returned.
pub(super) fn returned(threads: &mut Threads, clients: &mut Clients, exit: &Event, call: &Call) {
    if let Some(client) = call.client {
        let request = call.request.and_then(|request| clients.waiting_mut((client, request)));
        if let Some(request) = request {
            request.made.returned(exit, &call.enter, &call.made);
        }
    } else if let Some(parent) = threads.of(call.enter.tid, call.enter.pid).current_mut() {
        parent.made.returned(exit, &call.enter, &call.made);
    }
}
