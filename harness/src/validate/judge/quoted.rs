//! The calls that a finding quotes.

use layers_trace::{Callback, Event, Kind, Operation};

use crate::history::{FUA, present};
use crate::rules::CallRef;
use crate::validate::play::origin::Change;
use crate::validate::play::stop::Wrong;

/// Calls that are quoted.
const MOST: usize = 6;

/// The last calls that have to do with what is wrong: those that touch the bytes in question, or else the last ones. With
/// them comes the position of the one that has done it, where that can be told: it may touch other bytes.
pub(in crate::validate) fn calls(events: &[Event], wrong: &Wrong) -> (Vec<CallRef>, Option<u32>) {
    let touching = |event: &&Event| match (event.callback(), wrong.range) {
        (Some(Callback::Flush), Some(_)) | (None, _) => false,
        (Some(callback), Some(range)) => {
            event.kind == Kind::Enter && callback.is_data() && overlaps(event, range)
        }
        // What comes when clients have gone has nothing to do with what they were told.
        (Some(callback), None) => {
            !matches!(callback, Callback::Finalize | Callback::Close | Callback::Cleanup | Callback::Unload)
        }
    };
    let all: Vec<&Event> = events.iter().filter(touching).collect();
    let skip = all.len().saturating_sub(MOST);
    let mut quoted: Vec<&Event> = all.into_iter().skip(skip).collect();
    let guilty = wrong.origin.and_then(|origin| guilty(events, origin.guilty()));
    if let Some(guilty) = guilty.filter(|guilty| !quoted.iter().any(|one| one.position == guilty.position)) {
        let at = quoted.partition_point(|one| one.position < guilty.position);
        quoted.insert(at, guilty);
    }
    (quoted.into_iter().map(CallRef::from).collect(), guilty.map(|event| event.position))
}

/// The calls that have changed these bytes, and behind them the last one that has promised that they stay: a flush, or one with
/// FUA. That one is the guilty one.
pub(in crate::validate) fn promise(events: &[Event], wrong: &Wrong) -> (Vec<CallRef>, Option<u32>) {
    let enters = || events.iter().filter(|event| event.kind == Kind::Enter);
    let changes = |event: &&Event| {
        let callback = event.callback().map(present);
        let kind = matches!(callback, Some(Callback::Pwrite | Callback::Zero | Callback::Trim));
        kind && wrong.range.is_some_and(|range| overlaps(event, range))
    };
    let promises = |event: &&Event| {
        let flushes = event.callback().map(present) == Some(Callback::Flush);
        flushes || (changes(event) && event.flags() & FUA != 0)
    };
    let changed: Vec<&Event> = enters().filter(changes).collect();
    let since = changed.last().map_or(0, |event| event.position);
    let promise = enters().filter(|event| event.position >= since).find(promises);
    let skip = changed.len().saturating_sub(MOST - 1);
    let mut quoted: Vec<&Event> = changed.into_iter().skip(skip).collect();
    if let Some(promise) = promise.filter(|one| !quoted.iter().any(|event| event.position == one.position)) {
        quoted.push(promise);
    }
    (quoted.into_iter().map(CallRef::from).collect(), promise.map(|event| event.position))
}

fn overlaps(event: &Event, (offset, count): (u64, u64)) -> bool {
    event.offset() < offset.saturating_add(count) && offset < event.offset() + u64::from(event.count())
}

/// Returns the last call of the outermost layer that this request has led to.
fn guilty(events: &[Event], change: Change) -> Option<&Event> {
    let is_of = |event: &&Event| {
        let callback = event.callback().map(present);
        let kind = match change.operation {
            Operation::Write => callback == Some(Callback::Pwrite),
            // Either may be made up for by writes.
            Operation::Zero => matches!(callback, Some(Callback::Zero | Callback::Pwrite)),
            _ => callback == Some(Callback::Trim),
        };
        kind && event.kind == Kind::Enter && overlaps(event, (change.offset, change.count))
    };
    let all = || events.iter().filter(is_of);
    let outermost = all().map(|event| event.layer).max()?;
    all().rfind(|event| event.layer == outermost)
}
