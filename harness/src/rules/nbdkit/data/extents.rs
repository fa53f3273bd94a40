//! Block status: the extents that clients are told are those that layers have added.

use std::collections::BTreeMap;

use layers_trace::Callback::{Extents, GetSize};
use layers_trace::digest::{Extent, MOST_EXTENTS};
use layers_trace::{Event, Field, Kind, Operation, Probe};

use super::super::emulation::task::{Task, watches};
use super::asked::answered;
use crate::history::{REQ_ONE, Way};
use crate::rules::check::{Now, Report, Rule, Said, at, by, given, notes, remembering, unless};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "data.extents.told",
        statement: "A client is told of each byte what the list of the outermost layer says of it: the extents from the offset on, of the same types, none but the last beyond the range, and nothing beyond the disk.",
        clause: "nbdkit-plugin(3), .extents and Extents list; the NBD protocol, NBD_REPLY_TYPE_BLOCK_STATUS",
        antecedent: "a successful answer to a block status for which a layer was asked for extents",
        good: "NBD_CMD_BLOCK_STATUS offset=0 count=8192 { L0.extents = 0 list=4096:3,4096:0 } = 0 list=4096:3,4096:0",
        bad: "NBD_CMD_BLOCK_STATUS offset=0 count=8192 { L0.extents = 0 list=4096:3,4096:0 } = 0 list=8192:3",
        fix: "send the list as it is, and merge extents only where their types are the same",
        check: by!(at(notes(&[Kind::Reply]), told_as_added)),
        ..Rule::REQUIRED.since(1, 11, 10)
    },
    Rule {
        id: "data.extents.one",
        statement: "A client that asks for one extent is told of one, which does not go beyond the range.",
        clause: "the NBD protocol, NBD_CMD_FLAG_REQ_ONE; nbdkit-plugin(3), Extents list",
        antecedent: "a successful answer to a block status with REQ_ONE",
        good: "NBD_CMD_BLOCK_STATUS offset=0 count=4096 flags=REQ_ONE { L0.extents } = 0 list=4096:3",
        bad: "NBD_CMD_BLOCK_STATUS offset=0 count=4096 flags=REQ_ONE { L0.extents } = 0 list=65536:3",
        fix: "send the first extent alone, and cut it at the end of the range",
        check: by!(at(notes(&[Kind::Reply]), only_one)),
        ..Rule::REQUIRED.since(1, 11, 10)
    },
    Rule {
        id: "data.extents.list",
        statement: "A list of extents says of each byte what nbdkit_add_extent was told of it: what lies before the offset is left out, and only extents of the same type are merged.",
        clause: "nbdkit-plugin(3), Extents list",
        antecedent: "extents that the reference plugin adds to a list",
        good: "NBD_CMD_BLOCK_STATUS offset=0 count=8192 { L0.extents { Added list=4096:3,4096:0 } = 0 list=4096:3,4096:0 } = 0 list=4096:3,4096:0",
        bad: "NBD_CMD_BLOCK_STATUS offset=0 count=8192 { L0.extents { Added list=4096:3,4096:0 } = 0 list=8192:3 }",
        fix: "cut what is added at the offset and at the end, and merge neighbours only where their types are the same",
        check: by!(remembering(notes(&[Kind::Probe]).exits(&[Extents]), list_as_added)),
        ..Rule::REQUIRED.since(1, 11, 10)
    },
    Rule {
        id: "data.extents.allocated",
        statement: "Where can_extents says no, the answer is that the whole range is allocated.",
        clause: "nbdkit-plugin(3), .can_extents and .extents",
        antecedent: "a successful block status where can_extents says no",
        good: "L0 can_extents=0; NBD_CMD_BLOCK_STATUS offset=0 count=65536 {} = 0 list=65536:0",
        bad: "L0 can_extents=0; NBD_CMD_BLOCK_STATUS offset=0 count=65536 {} = 0 list=65536:1",
        fix: "answer with one extent of data over the range",
        check: by!(at(watches(&[Extents]), allocated)),
        ..Rule::REQUIRED.since(1, 11, 10)
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
fn told_as_added(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    given(now.succeeds(Operation::BlockStatus))?;
    let (_, request, top) = answered(now)?;
    let made = request.made.calls().iter().find(|made| made.callback == Extents)?;
    let exit = made.exit.as_ref().filter(|exit| exit.result() == 0)?;
    let (list, told, cited) = (list_of(exit)?, told_by(now.event), (request, exit));
    report.exercised();
    let chunks = now.event.texts.iter().filter(|text| text.field == Field::Extents).count();
    if chunks != 1 || told.is_empty() {
        let actual = format!("{chunks} chunks, {} extents", told.len());
        return report.broken(cited, "one chunk with at least one extent", actual);
    }
    if told.iter().any(|extent| extent.length == 0) {
        return report.broken(cited, "extents of at least one byte", "an empty one");
    }
    let offset = request.event.offset();
    let end_of =
        |extents: &[Extent]| extents.iter().fold(offset, |sum, extent| sum.saturating_add(extent.length));
    let (last, end) = (told.split_last().map_or(offset, |(_, before)| end_of(before)), end_of(&told));
    let end_of_range = offset.saturating_add(request.event.count().into());
    if last >= end_of_range {
        let expected = format!("every extent begins before {end_of_range}");
        return report.broken(cited, expected, format_args!("one begins at {last}"));
    }
    let size = now.history.offered(top, GetSize).and_then(|size| u64::try_from(size).ok());
    if let Some(size) = size.filter(|size| end > *size) {
        let expected = format!("extents of a disk that ends at {size}");
        return report.broken(cited, expected, format_args!("they end at {end}"));
    }
    let (at, told, listed) = difference(&told, &list, exit.b <= MOST_EXTENTS as u64)?;
    let (at, expected) = (offset.saturating_add(at), listed.map_or("nothing", named));
    report.broken(cited, format_args!("{expected} from {at} on, as the list has it"), named(told))
}

/// One is enough.
fn only_one(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    given(now.succeeds(Operation::BlockStatus) && now.history.has_digests())?;
    let request = now.request().filter(|request| request.flags() & REQ_ONE != 0)?;
    let told = told_by(now.event);
    let count = request.event.count();
    let holds = matches!(told.as_slice(), [one] if one.length <= count.into());
    let lengths: Vec<String> = told.iter().take(4).map(|extent| extent.length.to_string()).collect();
    let expected = format!("one extent of {count} bytes or less");
    let actual = format!("{} of them, of {} bytes", now.event.b, lengths.join(", "));
    report.expect(holds, request, expected, actual)
}

/// The list is what was added.
fn list_as_added(added: &mut BTreeMap<u32, Event>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if now.event.probe() == Some(Probe::Added) {
        let call = now.during().filter(|call| call.callback == Extents)?;
        added.insert(call.id(), now.event.clone());
        return None;
    }
    let call = now.call?;
    let probe = added.remove(&call.id())?;
    given(now.event.result() == 0)?;
    let (added, list) = (list_of(&probe)?, list_of(now.event)?);
    report.exercised();
    let (at, listed, added) = difference(&list, &added, added.len() < MOST_EXTENTS)?;
    let (at, expected) = (call.enter.offset().saturating_add(at), added.map_or("nothing", named));
    report.broken((call, &probe), format!("{expected} from {at} on, as it was added"), named(listed))
}

/// Who has nothing to say has a disk without holes.
fn allocated(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let task = Task::of(Extents, now)?;
    given(task.succeeded() && now.history.has_digests() && matches!(task.way(now)?, Way::Itself(_)))?;
    // Of a filter it is known only if it adds nothing itself.
    unless(task.of_filter && !now.history.hands_on(now.event.layer, Extents))?;
    let told = told_by(now.event);
    let length = told.iter().fold(0_u64, |sum, extent| sum.saturating_add(extent.length));
    let other = told.iter().find(|extent| extent.kind != 0);
    let actual = match other {
        Some(extent) => format!("an extent of type {}", extent.kind),
        None => format!("{length} bytes of it"),
    };
    let expected = format!("{} bytes of data", task.count);
    report.expect(other.is_none() && length >= task.count, task.asked, expected, actual)
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
