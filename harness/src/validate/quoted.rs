//! The calls that a finding quotes.

use layers_trace::{Callback, Event, Kind};

use super::case::Wrong;
use crate::rules::CallRef;

/// Calls that are quoted.
const MOST: usize = 6;

/// The last calls that have to do with what is wrong: those that touch the bytes in question, or else the last ones.
pub(super) fn calls(events: &[Event], wrong: &Wrong) -> Vec<CallRef> {
    let touching = |event: &&Event| match (event.callback(), wrong.range) {
        (Some(Callback::Flush), Some(_)) | (None, _) => false,
        (Some(callback), Some((offset, count))) => {
            event.kind == Kind::Enter
                && callback.is_data()
                && event.offset() < offset + count
                && offset < event.offset() + u64::from(event.count())
        }
        // What comes when clients have gone has nothing to do with what they were told.
        (Some(callback), None) => {
            !matches!(callback, Callback::Finalize | Callback::Close | Callback::Cleanup | Callback::Unload)
        }
    };
    let all: Vec<&Event> = events.iter().filter(touching).collect();
    let skip = all.len().saturating_sub(MOST);
    all.into_iter().skip(skip).map(CallRef::from).collect()
}
