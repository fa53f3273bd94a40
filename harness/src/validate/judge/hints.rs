//! What the evidence of a broken rule tells beyond what it shows: how such a thing mostly comes about.

use layers_trace::lent::Seen;
use layers_trace::{Event, Probe};

use crate::history::{Recorded, calls};
use crate::rules::Finding;

/// Requests whose ends are multiples of it are whole sectors.
const SECTOR: u64 = 512;

/// A hint for this finding in this recording; `None` where the rule's own words say it all.
pub(in crate::validate) fn of(found: &Finding, events: &[Event]) -> Option<String> {
    let call = found.calls.first()?.position;
    let recorded = || {
        let is_it = |one: &Recorded<'_>| {
            one.enter.position == call || one.exit.is_some_and(|exit| exit.position == call)
        };
        calls(events).into_iter().find(is_it)
    };
    let enter = || recorded().map(|one| one.enter).filter(|enter| enter.position == call);
    let lent = || {
        let probe = |event: &&Event| event.probe() == Some(Probe::Lent) && event.call == call;
        events.iter().find(probe).map(Seen::of)
    };
    match found.rule {
        "data.pread.fills" => fills(enter()?, lent()?),
        "data.pwrite.const" => changes(enter()?, lent()?),
        "data.buffer.bounds" => bounds(enter()?, lent()?),
        "result.known" | "result.usual" => result(&recorded()?),
        "emul.extents.nonempty" => {
            Some("an extents that succeeds adds at least one extent, the first at the offset of the request".to_owned())
        }
        "nego.size.range" => {
            Some("a size is never negative: return -1 after nbdkit_error where it cannot be told".to_owned())
        }
        "nego.block_size.validity" => {
            Some("the minimum is a power of two up to 64K, and both others are multiples of it".to_owned())
        }
        "ptr.context.lifetime" => {
            Some("a context that was closed, or finalized, is nobody's: set the pointer to NULL there".to_owned())
        }
        "manual.life" => Some("nbdkit_next_context_open is followed by prepare, finalize and nbdkit_next_context_close, in this order and once each".to_owned()),
        "open.readonly-propagates" => {
            Some("pass on the readonly that .open was given, not a constant".to_owned())
        }
        rule if rule.ends_with(".gate") => {
            Some("next answers for each connection anew: what it has said to another one does not count".to_owned())
        }
        _ => None,
    }
}

/// Which part of the buffer was filled.
fn fills(enter: &Event, seen: Seen) -> Option<String> {
    let (count, end) = (enter.count(), seen.start.checked_add(seen.length)?);
    Some(match (seen.start, end) {
        _ if seen.length == 0 => return None,
        (0, end) if end == count => {
            "nothing was put into the buffer: is it filled under another name, or only for some offsets?"
                .to_owned()
        }
        (start, end) if end == count && u64::from(start).is_multiple_of(SECTOR) => {
            format!(
                "the first {start} bytes were filled, which are whole sectors: the rest behind them was forgotten"
            )
        }
        (start, end) if end == count => {
            format!(
                "the first {start} bytes were filled: a short read of the system call below was taken for all of it"
            )
        }
        (0, end) => format!(
            "what was filled begins at byte {end} of the buffer: it is filled from another place than its start"
        ),
        (start, end) => format!(
            "bytes {start} to {} lie between what was filled: a piece in the middle was left out",
            end - 1
        ),
    })
}

/// How much of the buffer was changed.
fn changes(enter: &Event, seen: Seen) -> Option<String> {
    Some(match seen.length {
        0 => return None,
        length if length == enter.count() => {
            "all of it was changed: it was converted in place, and not in a copy".to_owned()
        }
        1 => "one byte was changed: a string was ended, or a header was put in front of what is written"
            .to_owned(),
        length => format!("{length} bytes were changed: something was put into the buffer on its way out"),
    })
}

/// Where outside of the buffer something was changed.
fn bounds(enter: &Event, seen: Seen) -> Option<String> {
    let (offset, count) = (enter.offset(), u64::from(enter.count()));
    let is_odd = !offset.is_multiple_of(SECTOR) || !count.is_multiple_of(SECTOR);
    Some(match seen.outside {
        0 => return None,
        ..0 if !offset.is_multiple_of(SECTOR) => {
            format!(
                "the request begins {} bytes behind the start of a sector, and was served from there",
                offset % SECTOR
            )
        }
        ..0 => "it was filled from before its start: a pointer was moved back once too often".to_owned(),
        1 if is_odd => "the request is no whole number of sectors, and was served in whole ones".to_owned(),
        1 => "the last byte is number count - 1: was a string ended behind it, or <= written for < ?"
            .to_owned(),
        behind => format!(
            "the first byte that was changed lies {behind} bytes behind the end: what was put there was meant for elsewhere"
        ),
    })
}

/// What the number that was returned looks like.
fn result(call: &Recorded<'_>) -> Option<String> {
    let (enter, exit) = (call.enter, call.exit?);
    let is_data = enter.callback().is_some_and(layers_trace::Callback::is_data);
    match exit.result() {
        bytes if is_data && bytes == i64::from(enter.count()) => Some(
            "that is the count of the request: what read(2) or write(2) has returned was passed on"
                .to_owned(),
        ),
        error @ -4095..-1 => Some(format!(
            "that looks like an errno with its sign changed ({}): call nbdkit_set_error with it, and return -1",
            std::io::Error::from_raw_os_error(i32::try_from(-error).ok()?)
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Script, run};
    use layers_trace::Callback;

    fn read(offset: u64, count: u32) -> Event {
        let mut script = Script::new(&run(0));
        let enter = script.enter(0, Callback::Pread);
        (enter.a, enter.c) = (offset, count);
        enter.clone()
    }

    #[test]
    fn the_part_of_a_buffer_that_was_left_tells_how() {
        let left = |start, length| fills(&read(0, 4096), Seen { start, length, ..Seen::default() }).unwrap();
        assert!(left(0, 4096).contains("nothing was put"));
        assert!(left(3584, 512).contains("whole sectors"));
        assert!(left(1000, 3096).contains("short read"));
        assert!(left(0, 100).contains("begins at byte 100"));
        assert!(left(100, 100).contains("100 to 199"));
    }

    #[test]
    fn a_byte_outside_of_an_odd_request_is_of_its_sector() {
        let changed = |offset, count, outside| {
            bounds(&read(offset, count), Seen { outside, ..Seen::default() }).unwrap()
        };
        assert!(changed(0, 100, 1).contains("whole ones"));
        assert!(changed(0, 512, 1).contains("count - 1"));
        assert!(changed(7, 100, -1).contains("7 bytes behind the start"));
        assert!(changed(0, 512, -1).contains("before its start"));
        assert!(changed(0, 512, 9).contains("9 bytes behind"));
    }

    #[test]
    fn a_result_that_is_the_count_or_an_errno_is_told_as_such() {
        let returns = |value: i64| {
            let mut script = Script::new(&run(0));
            let enter = script.enter(0, Callback::Pread);
            enter.c = 512;
            let position = enter.position;
            script.exit(position, value);
            result(calls(&script.events).last().unwrap())
        };
        assert!(returns(512).unwrap().contains("count of the request"));
        assert!(returns(-5).unwrap().contains("errno"));
        assert_eq!(returns(7), None);
    }
}
