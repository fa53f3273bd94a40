//! Block status: the extents that clients are told are those that layers have added.

use std::collections::BTreeMap;

use layers_trace::digest::{Extent, MOST_EXTENTS};
use layers_trace::{Callback, Event, Field, Kind, Operation, Probe};

use super::super::emulation::task::{Task, watches};
use super::asked::answered;
use crate::history::{REQ_ONE, Request, Way};
use crate::rules::check::{Now, Report, Rule, at, by, notes, remembering};
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "data.extents.told",
        since: Version(1, 11, 10),
        statement: "A client is told of each byte what the list of the outermost layer says of it: the extents from the offset on, of the same types, none but the last beyond the range, and nothing beyond the disk.",
        clause: "nbdkit-plugin(3), .extents and Extents list; the NBD protocol, NBD_REPLY_TYPE_BLOCK_STATUS",
        antecedent: "a successful answer to a block status for which a layer was asked for extents",
        good: "NBD_CMD_BLOCK_STATUS offset=0 count=8192 { L0.extents = 0 list=4096:3,4096:0 } = 0 list=4096:3,4096:0",
        bad: "NBD_CMD_BLOCK_STATUS offset=0 count=8192 { L0.extents = 0 list=4096:3,4096:0 } = 0 list=8192:3",
        fix: "send the list as it is, and merge extents only where their types are the same",
        check: by!(at(notes(Kind::Reply), ToldAsAdded::see)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "data.extents.one",
        since: Version(1, 11, 10),
        statement: "A client that asks for one extent is told of one, which does not go beyond the range.",
        clause: "the NBD protocol, NBD_CMD_FLAG_REQ_ONE; nbdkit-plugin(3), Extents list",
        antecedent: "a successful answer to a block status with REQ_ONE",
        good: "NBD_CMD_BLOCK_STATUS offset=0 count=4096 flags=REQ_ONE { L0.extents } = 0 list=4096:3",
        bad: "NBD_CMD_BLOCK_STATUS offset=0 count=4096 flags=REQ_ONE { L0.extents } = 0 list=65536:3",
        fix: "send the first extent alone, and cut it at the end of the range",
        check: by!(at(notes(Kind::Reply), only_one)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "data.extents.list",
        since: Version(1, 11, 10),
        statement: "A list of extents says of each byte what nbdkit_add_extent was told of it: what lies before the offset is left out, and only extents of the same type are merged.",
        clause: "nbdkit-plugin(3), Extents list",
        antecedent: "extents that the reference plugin adds to a list",
        good: "NBD_CMD_BLOCK_STATUS offset=0 count=8192 { L0.extents { Added list=4096:3,4096:0 } = 0 list=4096:3,4096:0 } = 0 list=4096:3,4096:0",
        bad: "NBD_CMD_BLOCK_STATUS offset=0 count=8192 { L0.extents { Added list=4096:3,4096:0 } = 0 list=8192:3 }",
        fix: "cut what is added at the offset and at the end, and merge neighbours only where their types are the same",
        check: by!(remembering(notes(Kind::Probe).exits(&[Callback::Extents]), list_as_added)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "data.extents.allocated",
        since: Version(1, 11, 10),
        statement: "Where can_extents says no, the answer is that the whole range is allocated.",
        clause: "nbdkit-plugin(3), .can_extents and .extents",
        antecedent: "a successful block status where can_extents says no",
        good: "L0 can_extents=0; NBD_CMD_BLOCK_STATUS offset=0 count=65536 {} = 0 list=65536:0",
        bad: "L0 can_extents=0; NBD_CMD_BLOCK_STATUS offset=0 count=65536 {} = 0 list=65536:1",
        fix: "answer with one extent of data over the range",
        check: by!(at(watches(&[Callback::Extents]), allocated)),
        ..Rule::REQUIRED
    },
];

/// The bits of a type that the protocol has: hole, and reads as zeroes.
const KNOWN: u32 = 3;

/// The list that this event carries, if it does.
fn list_of(event: &Event) -> Option<Vec<Extent>> {
    event.text(Field::Extents).map(|text| Extent::list(&text.bytes).collect())
}

/// The extents that a reply has told, whatever the number of its chunks.
fn told_by(reply: &Event) -> Vec<Extent> {
    let texts = reply.texts.iter().filter(|text| text.field == Field::Extents);
    texts.flat_map(|text| Extent::list(&text.bytes)).collect()
}

/// Where two lists that begin at the same byte say something else of one: how far behind the beginning, and the types.
/// `whole` tells that the first list must not go further than the second.
fn difference(one: &[Extent], other: &[Extent], whole: bool) -> Option<(u64, u32, Option<u32>)> {
    let mut rest = other.iter().copied().filter(|extent| extent.length > 0);
    let mut current = rest.next();
    let mut at = 0;
    for extent in one {
        let mut left = extent.length;
        while left > 0 {
            let Some(here) = current.as_mut() else { return whole.then_some((at, extent.kind, None)) };
            if here.kind & KNOWN != extent.kind & KNOWN {
                return Some((at, extent.kind, Some(here.kind)));
            }
            let step = left.min(here.length);
            (at, left, here.length) = (at.saturating_add(step), left - step, here.length - step);
            if here.length == 0 {
                current = rest.next();
            }
        }
    }
    None
}

/// Names a type.
fn named(kind: u32) -> &'static str {
    match kind & KNOWN {
        0 => "data",
        1 => "a hole",
        2 => "zeroes",
        _ => "a hole of zeroes",
    }
}

/// The answer is the list.
struct ToldAsAdded;

impl ToldAsAdded {
    /// What is wrong with these extents: what was expected, and what is there instead.
    fn fault(
        request: &Request,
        reply: &Event,
        exit: &Event,
        list: &[Extent],
        size: Option<u64>,
    ) -> Option<(String, String)> {
        let told = told_by(reply);
        let chunks = reply.texts.iter().filter(|text| text.field == Field::Extents).count();
        if chunks != 1 || told.is_empty() {
            return Some((
                "one chunk with at least one extent".to_owned(),
                format!("{chunks} chunks, {} extents", told.len()),
            ));
        }
        if told.iter().any(|extent| extent.length == 0) {
            return Some(("extents of at least one byte".to_owned(), "an empty one".to_owned()));
        }
        let (offset, count) = (request.event.offset(), u64::from(request.event.count()));
        let before_last =
            told.split_last().map_or(0, |(_, before)| before.iter().map(|extent| extent.length).sum());
        if before_last >= count {
            let actual = format!("one begins at {}", offset.saturating_add(before_last));
            return Some((format!("every extent begins before {}", offset.saturating_add(count)), actual));
        }
        let end = told.iter().fold(offset, |sum, extent| sum.saturating_add(extent.length));
        if let Some(size) = size.filter(|size| end > *size) {
            return Some((format!("extents of a disk that ends at {size}"), format!("they end at {end}")));
        }
        let whole = exit.b <= MOST_EXTENTS as u64;
        let (at, told, listed) = difference(&told, list, whole)?;
        let at = offset.saturating_add(at);
        let expected = listed.map_or("nothing".to_owned(), |kind| named(kind).to_owned());
        Some((format!("{expected} from {at} on, as the list has it"), named(told).to_owned()))
    }

    fn see(now: &Now<'_>, report: &mut Report<'_>) {
        if now.event.operation() != Some(Operation::BlockStatus) || now.event.result() != 0 {
            return;
        }
        let Some((_, request, top)) = answered(now) else { return };
        let size = now.history.offered(top, Callback::GetSize).and_then(|size| u64::try_from(size).ok());
        let Some(made) = request.made.calls().iter().find(|made| made.callback == Callback::Extents) else {
            return;
        };
        let Some(exit) = made.exit.as_ref().filter(|exit| exit.result() == 0) else { return };
        let Some(list) = list_of(exit) else { return };
        report.exercised();
        if let Some((expected, actual)) = ToldAsAdded::fault(request, now.event, exit, &list, size) {
            report.broken([&request.event, exit, now.event], expected, actual);
        }
    }
}

/// One is enough.
fn only_one(now: &Now<'_>, report: &mut Report<'_>) {
    let recorded = now.history.run().is_some_and(|run| run.digests);
    if now.event.operation() != Some(Operation::BlockStatus) || now.event.result() != 0 || !recorded {
        return;
    }
    let client = now.history.client(now.event.handle);
    let Some(request) = client.and_then(|client| client.waits_for(now.event.call)) else { return };
    if request.flags() & REQ_ONE == 0 {
        return;
    }
    let told = told_by(now.event);
    let count = request.event.count();
    let holds = matches!(told.as_slice(), [one] if one.length <= count.into());
    let lengths: Vec<String> = told.iter().take(4).map(|extent| extent.length.to_string()).collect();
    report.expect(
        holds,
        [&request.event, now.event],
        format!("one extent of {count} bytes or less"),
        format!("{} of them, of {} bytes", now.event.b, lengths.join(", ")),
    );
}

/// The list is what was added.
fn list_as_added(added: &mut BTreeMap<u32, Event>, now: &Now<'_>, report: &mut Report<'_>) {
    if now.event.probe() == Some(Probe::Added) {
        let call = now.history.thread(now.event.tid).and_then(|thread| thread.current());
        if let Some(call) = call.filter(|call| call.callback == Callback::Extents) {
            added.insert(call.id(), now.event.clone());
        }
        return;
    }
    let Some(call) = now.call.filter(|_| now.is_exit() && now.event.callback() == Some(Callback::Extents))
    else {
        return;
    };
    let Some(probe) = added.remove(&call.id()) else { return };
    let lists = list_of(&probe).zip(list_of(now.event)).filter(|_| now.event.result() == 0);
    let Some((added, list)) = lists else { return };
    report.exercised();
    let whole = added.len() < MOST_EXTENTS;
    if let Some((at, listed, added)) = difference(&list, &added, whole) {
        let at = call.enter.offset().saturating_add(at);
        let expected = added.map_or("nothing", named);
        report.broken(
            [&call.enter, &probe, now.event],
            format!("{expected} from {at} on, as it was added"),
            named(listed),
        );
    }
}

/// Who has nothing to say has a disk without holes.
fn allocated(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(task) = Task::ending(now).filter(|task| task.callback == Callback::Extents) else { return };
    let Some(Way::Itself(_)) = task.way(now).filter(|_| task.succeeded()) else { return };
    let recorded = now.history.run().is_some_and(|run| run.digests);
    // Of a filter it is known only if it adds nothing itself.
    if !recorded || task.of_filter && !now.history.hands_on(now.event.layer, Callback::Extents) {
        return;
    }
    let told = told_by(now.event);
    let length = told.iter().fold(0_u64, |sum, extent| sum.saturating_add(extent.length));
    let holds = told.iter().all(|extent| extent.kind == 0) && length >= task.count;
    let other = told.iter().find(|extent| extent.kind != 0);
    let actual = match other {
        Some(extent) => format!("an extent of type {}", extent.kind),
        None => format!("{length} bytes of it"),
    };
    report.expect(holds, task.events(None), format!("{} bytes of data", task.count), actual);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(extents: &[(u64, u32)]) -> Vec<Extent> {
        extents.iter().map(|(length, kind)| Extent { length: *length, kind: *kind }).collect()
    }

    #[test]
    fn lists_are_compared_byte_by_byte() {
        let data = list(&[(4096, 0), (4096, 3)]);
        assert_eq!(difference(&data, &data, true), None);
        assert_eq!(difference(&list(&[(1000, 0), (3096, 0), (100, 3)]), &data, true), None);
        assert_eq!(difference(&list(&[(8192, 0)]), &data, true), Some((4096, 0, Some(3))));
        assert_eq!(difference(&list(&[(4096, 0), (4097, 3)]), &data, true), Some((8192, 3, None)));
        assert_eq!(difference(&list(&[(4096, 0), (4097, 3)]), &data, false), None);
        assert_eq!(difference(&list(&[(4096, 1)]), &data, true), Some((0, 1, Some(0))));
    }
}
