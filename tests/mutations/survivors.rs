//! Changes that no rule can reject, because nothing that is promised has changed.

use layers_trace::{Callback, Event, Kind};

use super::generated::{Field, Mutant, Operator, is_request};

/// Why this change, which no rule rejects, is equivalent to none.
pub(crate) fn excuse(mutant: &Mutant<'_>) -> Option<&'static str> {
    let event = mutant.event;
    match (mutant.operator, event.kind) {
        _ if is_request(event) => Some("the client's log: what a client asks, and when, is its own affair"),
        (_, Kind::Signal) => Some("the harness's log: when it signals is its own affair"),
        (Operator::Field(field), _) => unread(field, event),
        (Operator::Swap | Operator::Move, _) => reordered(mutant),
        (Operator::Drop | Operator::DropExit | Operator::Double, Kind::Probe) => {
            Some("a look that nobody promises to take, or to take once")
        }
        _ => None,
    }
}

/// Fields of which no clause says anything.
fn unread(field: Field, event: &Event) -> Option<&'static str> {
    let callback = event.callback();
    let data = callback.is_some_and(Callback::is_data);
    let query = callback.is_some_and(Callback::is_query);
    match (event.kind, field) {
        (Kind::Enter, Field::B) if data => Some("the address of a buffer"),
        (Kind::Exit, Field::C) => Some("errno, which is left over from anything where a call succeeds"),
        (Kind::Exit, Field::A) if query => Some("an answer, which is the layer's to choose"),
        (Kind::Exit, Field::B | Field::Context) => Some("an exit says nothing there"),
        (Kind::Exit, Field::D) if !data => Some("an exit says nothing there"),
        (Kind::Enter, Field::A | Field::B | Field::C | Field::D) if !data && unused(field, callback) => {
            Some("a callback without that argument")
        }
        (Kind::Enter, Field::Context) if event.layer == 0 => Some("a plugin has no next"),
        (Kind::Probe, Field::A) if event.a != 0 => Some("a probe that still says yes"),
        (Kind::Probe, Field::B | Field::C | Field::D | Field::Context) => Some("a probe says nothing there"),
        _ => None,
    }
}

/// This callback has no argument there (see the table of [`Event`]).
fn unused(field: Field, callback: Option<Callback>) -> bool {
    use Callback::{DefaultExport, GetReady, ListExports, Open, Preconnect, Prepare, ThreadModel};
    match field {
        Field::A => !matches!(callback, Some(GetReady | ThreadModel)),
        Field::B => !matches!(callback, Some(Open)),
        Field::C => !matches!(callback, Some(Open | ListExports | DefaultExport)),
        Field::D => !matches!(callback, Some(Open | ListExports | DefaultExport | Preconnect | Prepare)),
        _ => false,
    }
}

/// Events of different threads, or of the server and a client, come in any order unless a rule says otherwise.
fn reordered(mutant: &Mutant<'_>) -> Option<&'static str> {
    let (first, last) = (mutant.place.min(mutant.to), mutant.place.max(mutant.to));
    let between = mutant.from.trace.get(first..=last)?;
    let others = between.iter().filter(|event| event.position != mutant.event.position);
    let mut same = others.filter(|event| event.tid == mutant.event.tid && !is_request(event));
    match same.next() {
        None => Some("the order of what different threads and clients do"),
        Some(_)
            if between
                .iter()
                .all(|event| event.kind == Kind::Probe || event.position == mutant.event.position) =>
        {
            Some("a look taken a little earlier or later")
        }
        Some(_) => None,
    }
}
