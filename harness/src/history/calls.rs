//! The calls of a whole recording, for those who show or quote them: what begins is paired with what ends it, in one place.

use std::collections::HashMap;

use layers_trace::{Event, Kind};

/// Returns true for an event that another one ends: a call, a client's request, what a reference filter asks below it.
pub fn opens(kind: Kind) -> bool {
    matches!(kind, Kind::Enter | Kind::Request | Kind::Ask)
}

/// Returns true for an event that ends another one, which its `call` names.
pub fn closes(kind: Kind) -> bool {
    matches!(kind, Kind::Exit | Kind::Reply | Kind::Answer)
}

/// Returns what ends each event that is ended, by the position of that event.
pub fn ends(events: &[Event]) -> HashMap<u32, &Event> {
    events.iter().filter(|event| closes(event.kind)).map(|event| (event.call, event)).collect()
}

/// A call of a callback, as a recording has it.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'e> {
    /// Its enter.
    pub enter: &'e Event,
    /// Its exit, if it has returned.
    pub exit: Option<&'e Event>,
    /// The enter of the call that it is nested in, on the same thread.
    pub parent: Option<&'e Event>,
}

impl Recorded<'_> {
    /// Returns true if the call is in flight just before this position of the trace.
    pub fn is_in_flight_at(&self, position: u32) -> bool {
        self.enter.position < position && self.exit.is_none_or(|exit| exit.position >= position)
    }
}

/// Returns the calls of a recording, in the order in which they begin.
pub fn calls(events: &[Event]) -> Vec<Recorded<'_>> {
    let exits: HashMap<u32, &Event> =
        events.iter().filter(|event| event.kind == Kind::Exit).map(|event| (event.call, event)).collect();
    let mut stacks: HashMap<u32, Vec<&Event>> = HashMap::new();
    let mut calls = Vec::new();
    for event in events {
        match event.kind {
            Kind::Enter => {
                let stack = stacks.entry(event.tid).or_default();
                let exit = exits.get(&event.position).copied();
                calls.push(Recorded { enter: event, exit, parent: stack.last().copied() });
                stack.push(event);
            }
            Kind::Exit => {
                if let Some(stack) = stacks.get_mut(&event.tid) {
                    let place = stack.iter().rposition(|enter| enter.position == event.call);
                    stack.truncate(place.unwrap_or(stack.len()));
                }
            }
            _ => {}
        }
    }
    calls
}

/// Returns the call that an event enters or exits.
pub fn call_of<'e>(events: &'e [Event], event: &Event) -> Option<Recorded<'e>> {
    let enter = if event.kind == Kind::Exit { event.call } else { event.position };
    calls(events).into_iter().find(|call| call.enter.position == enter)
}

#[cfg(test)]
mod tests {
    use layers_trace::Callback;

    use super::*;
    use crate::testing::{Script, run};

    #[test]
    fn calls_are_paired_and_nested() {
        let mut script = Script::new(&run(1));
        let outer = script.enter(1, Callback::Load).position;
        let inner = script.enter(0, Callback::Load).position;
        script.exit(inner, 0);
        let all = calls(&script.events);
        let shown = |call: &Recorded<'_>| {
            (call.enter.position, call.exit.map(|exit| exit.call), call.parent.map(|parent| parent.position))
        };
        assert_eq!(
            all.iter().map(shown).collect::<Vec<_>>(),
            [(outer, None, None), (inner, Some(inner), Some(outer))]
        );
        assert!(all.iter().all(|call| call.is_in_flight_at(inner + 1)));
        assert_eq!(all.iter().filter(|call| call.is_in_flight_at(inner + 2)).count(), 1);
        let exit = script.events.last().unwrap();
        assert_eq!(call_of(&script.events, exit).map(|call| call.enter.position), Some(inner));
    }
}
