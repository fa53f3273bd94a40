//! What no server can bring about, whatever it does: a thread that leaves a call which it is not in, an answer to something
//! that nobody asked. A trace in which that happens tells of a faulty recording, and is no ground to judge anybody.
//!
//! What a server can do and must not is for the rules.

use layers_trace::Event;

/// One such thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordingFault {
    /// An exit whose call is not in flight on its thread.
    #[error("a thread leaves a call that it is not in")]
    Stray,
    /// An exit although a call inside has not returned.
    #[error("a thread leaves a call before one that is inside it")]
    Crossed,
    /// An exit of another callback, layer or handle than its enter, or of another process.
    #[error("an exit does not match its enter")]
    Unlike,
    /// A call inside one of the same layer, or of one further in: calls of next go inwards.
    #[error("a call is made inside one of the same layer, or of an inner one")]
    Outwards,
    /// A call that takes no handle, with one.
    #[error("a call that takes no handle has one")]
    Needless,
    /// A call of a layer that has not registered the callback.
    #[error("a layer gets a call that it has not registered")]
    Unregistered,
    /// A layer registered twice.
    #[error("a layer is registered twice")]
    Twice,
    /// A handle that an `open` gives under the number of another one, or under none, or a failed one gives.
    #[error("an open gives a handle with a number that is not its own")]
    Number,
    /// A probe of a call that its thread is not in, or of another layer's.
    #[error("an instrument looks at a call that its thread is not in")]
    Astray,
    /// A filter asks something on a thread that is in a call of another layer.
    #[error("a filter asks something, and its thread is in a call of another layer")]
    Elsewhere,
    /// A reply to a request that no client waits for, or an answer to what no filter asks.
    #[error("there is an answer, and nobody has asked")]
    Unasked,
    /// The process ended with success in the middle of a call, although no layer ends it.
    #[error("the process ended with success in the middle of a call, and no layer ends it")]
    Unfinished,
    /// A call after the server has ended.
    #[error("a callback is called when the server has ended")]
    Late,
}

/// Flaws so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flaws {
    /// How many there are.
    pub count: u64,
    /// The first, and the position of its event.
    pub first: Option<(RecordingFault, u32)>,
}

/// Numbers that are left free for a moment, by threads that open at the same time.
const MOST_FREE: u32 = 4096;

/// Numbers of handles.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// The highest so far.
    highest: u32,
    /// Lower ones that no `open` has given yet.
    free: Vec<u32>,
}

impl Numbers {
    /// Whether this can be the number of a handle that is new; from now on it cannot.
    pub(super) fn take(&mut self, number: u32) -> bool {
        if number > self.highest && number - self.highest <= MOST_FREE {
            self.free.extend(self.highest + 1..number);
            self.free.truncate(MOST_FREE as usize);
            self.highest = number;
            return true;
        }
        let place = self.free.iter().position(|free| *free == number);
        place.is_some_and(|place| {
            self.free.swap_remove(place);
            true
        })
    }
}

impl Flaws {
    pub(super) fn add(&mut self, flaw: RecordingFault, event: &Event) {
        self.count += 1;
        self.first = self.first.or(Some((flaw, event.position)));
    }
}
