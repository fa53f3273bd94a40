//! The calls that a server was in when it ended, or that failed.

use layers_trace::{Callback, Event, Kind};

use crate::history::calls;
use crate::rules::CallRef;

/// The most calls that are told.
const MOST_CALLS: usize = 8;

/// The calls that never returned.
pub(in crate::validate) fn running(events: &[Event]) -> Vec<&Event> {
    calls(events).into_iter().filter(|call| call.exit.is_none()).map(|call| call.enter).collect()
}

/// In the middle of which call; or before any, or between two.
pub(in crate::validate) fn whereabouts(events: &[Event]) -> String {
    let call = running(events).last().and_then(|enter| Some((enter.layer, enter.callback()?)));
    match call {
        Some((layer, callback)) => format!("in L{layer}.{callback}"),
        None if events.iter().all(|event| event.kind != Kind::Enter) => "before any call".to_owned(),
        None => "between two calls".to_owned(),
    }
}

/// The calls that never returned; without any, the last ones.
pub(crate) fn in_flight(events: &[Event]) -> Vec<CallRef> {
    let mut open = running(events);
    if open.is_empty() {
        open = events.iter().filter(|event| matches!(event.kind, Kind::Enter | Kind::Exit)).collect();
    }
    let skip = open.len().saturating_sub(MOST_CALLS);
    open.into_iter().skip(skip).map(CallRef::from).collect()
}

/// The last calls that failed; without any, the last ones.
pub(in crate::validate) fn failed(events: &[Event]) -> Vec<CallRef> {
    let failed = |event: &&Event| {
        let null = event.callback() == Some(Callback::Open) && event.result() == 0;
        event.kind == Kind::Exit && (null || event.result() < 0)
    };
    let some: Vec<CallRef> = events.iter().filter(failed).map(CallRef::from).collect();
    let all = if some.is_empty() { in_flight(events) } else { some };
    let skip = all.len().saturating_sub(MOST_CALLS);
    all.into_iter().skip(skip).collect()
}
