//! Buffers: what a read must fill, what a write must leave as it is, and what lies around both.
//!
//! Judged where the instrument has lent a buffer of its own for a call ([`Probe::Lent`]).

use layers_trace::Callback::Pread;
use layers_trace::lent::{LEAST_KEPT, Seen};
use layers_trace::{Event, Kind, Probe};

use crate::history::{Call, present};
use crate::rules::check::{Now, Party, PerLayer, Report, Rule, Said, at, by, given, notes, remembering};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "data.pread.fills",
        statement: "A read that succeeds has put count bytes into its buffer: none of what was in it before is left.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .pread",
        antecedent: "a read that succeeds into a buffer whose contents are known (`layers validate` lends such buffers)",
        good: "NBD_CMD_READ { L0.pread { Lent = 1 context=1 } }",
        bad: "NBD_CMD_READ { L0.pread { Lent = 0 context=1 b=0x6400000190 } }",
        fix: "fill all count bytes, with zeroes where there is nothing, or fail; mind short reads of the system call below",
        check: by!(remembering(notes(&[Kind::Probe]), fills)),
        ..Rule::REQUIRED.of(Party::Module)
    },
    Rule {
        id: "data.pwrite.const",
        statement: "A write leaves the bytes that it is given as they are: the buffer is const, and only lent.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .pwrite: const void *buf",
        antecedent: "a write from a buffer whose contents are known (`layers validate` lends such buffers)",
        good: "NBD_CMD_WRITE { L0.pwrite { Lent = 1 context=1 } }",
        bad: "NBD_CMD_WRITE { L0.pwrite { Lent = 0 context=1 b=0x6400000190 } }",
        fix: "change a copy of the bytes",
        check: by!(at(notes(&[Kind::Probe]), is_const)),
        ..Rule::FORBIDDEN.of(Party::Module)
    },
    Rule {
        id: "data.buffer.bounds",
        statement: "Reads and writes change nothing outside of the count bytes of their buffer.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .pread, .pwrite: count",
        antecedent: "a read or a write with a buffer between known bytes (`layers validate` lends such buffers)",
        good: "NBD_CMD_READ { L0.pread { Lent = 1 context=1 } }",
        bad: "NBD_CMD_READ { L0.pread { Lent = 0 context=1 d=513 } }",
        fix: "count the bytes that are copied, and what is left of the buffer, at its end above all",
        check: by!(at(notes(&[Kind::Probe]), within_bounds)),
        ..Rule::FORBIDDEN.of(Party::Module)
    },
];

/// The call that a probe of a buffer belongs to, with what was seen.
fn lent<'a>(now: &Now<'a>) -> Option<(&'a Call, Seen)> {
    given(now.event.probe() == Some(Probe::Lent))?;
    Some((now.history.call(now.event.tid, now.event.call)?, Seen::of(now.event)))
}

/// The call has succeeded.
fn is_judged(probe: &Event) -> bool {
    probe.context != 0
}

fn is_read(call: &Call) -> bool {
    present(call.callback) == Pread
}

/// How far it has become likely, in bits, that bytes at the ends are left as they were.
#[derive(Clone, Copy, Default)]
struct Ends {
    head: u32,
    tail: u32,
    told: bool,
}

/// By chance a byte is the same once in 256 times. Where half of them are kept, one that is says 7 bits for that, and one
/// that is not says 1 bit against it.
const KEPT: u32 = 7;
const NOT_KEPT: u32 = 1;
/// So many bits are no chance.
const CERTAIN: u32 = 64;

impl Ends {
    fn add(so_far: u32, kept: u16) -> u32 {
        match kept {
            0 => so_far.saturating_sub(NOT_KEPT),
            some => so_far + KEPT * u32::from(some),
        }
    }
}

/// A stretch that was kept is found at once; of single bytes at either end it takes many, since one of 256 is there by
/// chance.
fn fills(ends: &mut PerLayer<Ends>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (call, seen) = lent(now).filter(|(call, _)| is_read(call) && is_judged(now.event))?;
    report.exercised();
    let expected = "all bytes of the buffer come from the layer";
    if seen.length as usize >= LEAST_KEPT {
        let count = call.enter.count();
        let actual = match (seen.start, seen.length) {
            (0, length) if length == count => "the buffer is as it was before the call".to_owned(),
            (start, length) => {
                let last = start + length - 1;
                format!("bytes {start} to {last} of the {count} are as they were before the call")
            }
        };
        return report.without_present().broken(call, expected, actual);
    }
    let before = ends.get(call.layer()).copied().unwrap_or_default();
    let (head, tail) = (Ends::add(before.head, seen.head), Ends::add(before.tail, seen.tail));
    let told = head >= CERTAIN || tail >= CERTAIN;
    if told && !before.told {
        let (end, kept) = if head >= CERTAIN { ("first", seen.head) } else { ("last", seen.tail) };
        let bytes = if kept == 1 { "byte is".to_owned() } else { format!("{kept} bytes are") };
        let actual = format!("the {end} {bytes} as before the call, in this read and in others before it");
        report.without_present().broken(call, expected, actual);
    }
    ends.set(call.layer(), Ends { head, tail, told: before.told || told })
}

/// What a write is given stays as it is.
fn is_const(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (call, seen) = lent(now).filter(|(call, _)| !is_read(call))?;
    report.exercised();
    given(seen.length != 0)?;
    let last = seen.start.saturating_add(seen.length).saturating_sub(1);
    let actual = match seen.length {
        1 => format!("byte {} has changed", seen.start),
        _ => format!("bytes have changed, the first at {} and the last at {last}", seen.start),
    };
    report.without_present().broken(call, "the buffer is the same after the call", actual)
}

/// So does what lies around a buffer.
fn within_bounds(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (call, seen) = lent(now)?;
    report.exercised();
    given(seen.outside != 0)?;
    let side = if seen.outside < 0 { "before" } else { "behind" };
    let actual = format!("{} {side} the buffer has changed", nth(seen.outside.unsigned_abs()));
    report.without_present().broken(call, "what lies around the buffer is the same", actual)
}

fn nth(place: u32) -> String {
    if place == 1 { "the byte".to_owned() } else { format!("the byte {place} bytes") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use layers_trace::Callback;
    use layers_trace::record::Record;

    /// Calls of the plugin for which a buffer was lent, in the middle of a good trace.
    fn calls(callback: Callback, all: &[(u32, Seen, bool)]) -> Script {
        let good = reference();
        let at = good.index(Kind::Enter, 2, Callback::Finalize, 1) - 1;
        let handle = good.events[good.index(Kind::Enter, 0, Callback::Pread, 0)].handle;
        good.with(at, |script| {
            for (count, seen, judged) in all {
                let enter = script.enter(0, callback);
                (enter.handle, enter.c) = (handle, *count);
                let call = enter.position;
                script.probe(call, Probe::Lent);
                let mut record = Record::default();
                seen.put(&mut record, *judged);
                let probe = script.events.last_mut().unwrap();
                (probe.a, probe.b, probe.c, probe.d) = (record.a, record.b, record.c, record.d);
                probe.context = record.context;
                script.exit(call, if *judged { 0 } else { -1 });
            }
        })
    }

    fn says(rule: &str, script: Script) -> (u64, u64) {
        let judged = judged(script);
        let result = judged.result(rule).unwrap();
        (result.exercised, result.broken)
    }

    const GOOD: Seen = Seen { start: 0, length: 0, head: 0, tail: 0, outside: 0 };

    #[test]
    fn a_read_fills_its_buffer() {
        const RULE: &str = "data.pread.fills";
        let reads = |all: &[(u32, Seen, bool)]| says(RULE, calls(Callback::Pread, all));
        assert_eq!(reads(&[(512, GOOD, true)]), (1, 0));
        let tail = Seen { start: 4000, length: 96, tail: 96, ..GOOD };
        assert_eq!(reads(&[(4096, tail, true)]), (1, 1));
        assert_eq!(reads(&[(4096, tail, false)]), (0, 0), "what has failed need not fill");
        assert_eq!(says(RULE, calls(Callback::Pwrite, &[(4096, tail, true)])), (0, 0));
    }

    #[test]
    fn bytes_that_are_the_same_by_chance_are_no_finding_and_many_of_them_are() {
        const RULE: &str = "data.pread.fills";
        let one = (1, Seen { head: 1, tail: 1, ..GOOD }, true);
        let none = (1, GOOD, true);
        assert_eq!(says(RULE, calls(Callback::Pread, &[one; 9])), (9, 0));
        assert_eq!(says(RULE, calls(Callback::Pread, &[one; 40])), (40, 1), "once is enough");
        let every_other: Vec<_> = (0..40).map(|at| if at % 2 == 0 { one } else { none }).collect();
        assert_eq!(says(RULE, calls(Callback::Pread, &every_other)).1, 1);
        let by_chance: Vec<_> = (0..4000).map(|at| if at % 256 == 0 { one } else { none }).collect();
        assert_eq!(says(RULE, calls(Callback::Pread, &by_chance)).1, 0);
    }

    #[test]
    fn a_write_leaves_its_buffer_alone() {
        const RULE: &str = "data.pwrite.const";
        let writes = |seen, judged| says(RULE, calls(Callback::Pwrite, &[(512, seen, judged)]));
        assert_eq!(writes(GOOD, true), (1, 0));
        assert_eq!(writes(Seen { start: 3, length: 1, ..GOOD }, true), (1, 1));
        assert_eq!(says(RULE, calls(Callback::Pread, &[(512, GOOD, true)])), (0, 0));
    }

    #[test]
    fn nothing_outside_is_changed() {
        for callback in [Callback::Pread, Callback::Pwrite] {
            let all = |outside, judged| calls(callback, &[(512, Seen { outside, ..GOOD }, judged)]);
            let outside = |outside, judged| says("data.buffer.bounds", all(outside, judged));
            assert_eq!(outside(0, true), (1, 0));
            assert_eq!(outside(1, true), (1, 1));
            assert_eq!(outside(-4, false), (1, 1), "a call that fails, too");
        }
    }
}
