//! Which events a check wants to see: most rules care for a few callbacks, and data calls are the bulk of a trace.

use layers_trace::{Callback, Kind};

/// A set of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    enters: u64,
    exits: u64,
    kinds: u16,
}

const ALL_CALLBACKS: u64 = u64::MAX;

impl Watch {
    /// No event at all: the check only acts at the end.
    pub const NONE: Watch = Watch { enters: 0, exits: 0, kinds: 0 };
    /// Every enter and every exit of every callback.
    pub const CALLS: Watch = Watch { enters: ALL_CALLBACKS, exits: ALL_CALLBACKS, kinds: 0 };

    /// And the enters of these callbacks.
    pub const fn enters(mut self, callbacks: &[Callback]) -> Watch {
        self.enters |= bits(callbacks);
        self
    }

    /// And the exits of these callbacks.
    pub const fn exits(mut self, callbacks: &[Callback]) -> Watch {
        self.exits |= bits(callbacks);
        self
    }

    /// And the enters and exits of these callbacks.
    pub const fn calls(self, callbacks: &[Callback]) -> Watch {
        self.enters(callbacks).exits(callbacks)
    }

    /// And the enters of every callback for which this holds.
    pub fn enters_where(mut self, test: impl Fn(Callback) -> bool) -> Watch {
        self.enters |= Callback::ALL.iter().filter(|c| test(**c)).fold(0, |set, c| set | c.bit());
        self
    }

    /// And the exits of every callback for which this holds.
    pub fn exits_where(mut self, test: impl Fn(Callback) -> bool) -> Watch {
        self.exits |= Callback::ALL.iter().filter(|c| test(**c)).fold(0, |set, c| set | c.bit());
        self
    }

    /// And the events of these kinds that are not calls: requests and replies, probes, signals, ….
    pub const fn notes(mut self, kinds: &[Kind]) -> Watch {
        let mut rest = kinds;
        while let [first, tail @ ..] = rest {
            self.kinds |= 1 << *first as u16;
            rest = tail;
        }
        self
    }

    /// And those of `other`.
    pub const fn and(self, other: Watch) -> Watch {
        Watch {
            enters: self.enters | other.enters,
            exits: self.exits | other.exits,
            kinds: self.kinds | other.kinds,
        }
    }

    /// Each sort of event in it: its kind, and the number of the callback for an enter or an exit.
    pub(super) fn sorts(self) -> impl Iterator<Item = (Kind, u8)> {
        let of = |kind, set| numbers(set & bits(Callback::ALL)).map(move |number| (kind, number));
        let notes = numbers(self.kinds.into()).filter_map(Kind::from_number).map(|kind| (kind, 0));
        of(Kind::Enter, self.enters).chain(of(Kind::Exit, self.exits)).chain(notes)
    }

    pub(super) fn wants(self, kind: Kind, callback: Option<Callback>) -> bool {
        match (kind, callback) {
            (Kind::Enter, Some(callback)) => self.enters & callback.bit() != 0,
            (Kind::Exit, Some(callback)) => self.exits & callback.bit() != 0,
            _ => self.kinds & (1 << kind as u16) != 0,
        }
    }
}

/// The numbers of the bits that are set.
fn numbers(set: u64) -> impl Iterator<Item = u8> {
    let lowest = |set: &u64| (*set != 0).then_some(*set);
    std::iter::successors(lowest(&set), move |set| lowest(&(set & (set - 1))))
        .map(|set| set.trailing_zeros() as u8)
}

const fn bits(callbacks: &[Callback]) -> u64 {
    let mut set = 0;
    let mut rest = callbacks;
    while let [first, tail @ ..] = rest {
        set |= first.bit();
        rest = tail;
    }
    set
}

/// Returns the enters of these callbacks.
pub(in crate::rules) const fn enters(callbacks: &[Callback]) -> Watch {
    Watch::NONE.enters(callbacks)
}

/// Returns the exits of these callbacks.
pub(in crate::rules) const fn exits(callbacks: &[Callback]) -> Watch {
    Watch::NONE.exits(callbacks)
}

/// Returns the enters and exits of these callbacks.
pub(in crate::rules) const fn calls(callbacks: &[Callback]) -> Watch {
    Watch::NONE.calls(callbacks)
}

/// Returns the enters of every callback for which this holds.
pub(in crate::rules) fn enters_where(test: impl Fn(Callback) -> bool) -> Watch {
    Watch::NONE.enters_where(test)
}

/// Returns the exits of every callback for which this holds.
pub(in crate::rules) fn exits_where(test: impl Fn(Callback) -> bool) -> Watch {
    Watch::NONE.exits_where(test)
}

/// Returns the enters and exits of every callback for which this holds.
pub(in crate::rules) fn calls_where(test: impl Fn(Callback) -> bool) -> Watch {
    enters_where(&test).exits_where(&test)
}

/// Returns the events of these kinds.
pub(in crate::rules) const fn notes(kinds: &[Kind]) -> Watch {
    Watch::NONE.notes(kinds)
}
