//! Which events a finding quotes.

use layers_trace::Event;

use crate::history::{Call, Made, Request};

/// What conflicts with what has just been seen: nothing, an event, a call or a request, or several of them, the earliest first.
/// What has just been seen comes last by itself.
pub trait Cited<'e>: Sized {
    /// Adds the events.
    fn cite(self, events: &mut Vec<&'e Event>);
}

impl<'e> Cited<'e> for () {
    fn cite(self, _: &mut Vec<&'e Event>) {}
}

impl<'e> Cited<'e> for &'e Event {
    fn cite(self, events: &mut Vec<&'e Event>) {
        events.push(self);
    }
}

/// A call is quoted by its enter.
impl<'e> Cited<'e> for &'e Call {
    fn cite(self, events: &mut Vec<&'e Event>) {
        events.push(&self.enter);
    }
}

/// A call is quoted by its enter.
impl<'e> Cited<'e> for &'e Made {
    fn cite(self, events: &mut Vec<&'e Event>) {
        events.push(&self.enter);
    }
}

impl<'e> Cited<'e> for &'e Request {
    fn cite(self, events: &mut Vec<&'e Event>) {
        events.push(&self.event);
    }
}

impl<'e, T: Cited<'e>> Cited<'e> for Option<T> {
    fn cite(self, events: &mut Vec<&'e Event>) {
        if let Some(cited) = self {
            cited.cite(events);
        }
    }
}

impl<'e> Cited<'e> for Vec<&'e Event> {
    fn cite(self, events: &mut Vec<&'e Event>) {
        events.extend(self);
    }
}

impl<'e, A: Cited<'e>, B: Cited<'e>> Cited<'e> for (A, B) {
    fn cite(self, events: &mut Vec<&'e Event>) {
        self.0.cite(events);
        self.1.cite(events);
    }
}
