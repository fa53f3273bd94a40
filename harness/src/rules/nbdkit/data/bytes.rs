//! The bytes of reads and writes: what clients get is what layers gave, and what layers get is what clients sent. Traces carry
//! digests of them ([`layers_trace::digest`]); where one is missing nothing is compared.

use std::fmt::Display;

use layers_trace::Callback::{Pread, Pwrite, PwriteV1};
use layers_trace::digest::{NONE, ZEROES};
use layers_trace::{Kind, Operation};

use super::asked::answered;
use crate::history::present;
use crate::rules::check::{Cited, Now, Report, Rule, Said, at, by, exits, given, notes, unless};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "data.read.bytes",
        statement: "The answer to a read has the bytes that the outermost layer has put into its buffer; where that has failed, it has none.",
        clause: "nbdkit-plugin(3), .pread; the NBD protocol, NBD_CMD_READ",
        antecedent: "an answer to a read that a layer has served, with other bytes than zeroes, or that has failed",
        good: "NBD_CMD_READ { L0.pread = 0 digest=77 } = 0 digest=77 bytes=512 sent=512",
        bad: "NBD_CMD_READ { L0.pread = 0 digest=77 } = 0 digest=88 bytes=512 sent=512",
        fix: "send the buffer that was passed to pread, from its beginning",
        check: by!(at(notes(&[Kind::Reply]), read_bytes)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "data.read.whole",
        statement: "A successful answer to a read tells each byte of the range once, and no other.",
        clause: "the NBD protocol, NBD_CMD_READ and NBD_REPLY_TYPE_OFFSET_DATA; nbdkit-plugin(3), .pread",
        antecedent: "a successful answer to a read",
        good: "NBD_CMD_READ { L0.pread } = 0 bytes=512 sent=512",
        bad: "NBD_CMD_READ { L0.pread } = 0 bytes=256 sent=256",
        fix: "send chunks whose offsets and lengths tile the range",
        check: by!(at(notes(&[Kind::Reply]), read_whole)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "data.write.bytes",
        statement: "The outermost layer gets the bytes of a write as the client has sent them.",
        clause: "nbdkit-plugin(3), .pwrite; nbdkit-filter(3), .pwrite",
        antecedent: "a write of a client that reaches a layer",
        good: "NBD_CMD_WRITE context=77 { L0.pwrite = 0 digest=77 }",
        bad: "NBD_CMD_WRITE context=77 { L0.pwrite = 0 digest=88 }",
        fix: "pass on the buffer into which the data of this request was received, all of it",
        check: by!(at(exits(&[Pwrite, PwriteV1]), write_bytes)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "data.handed.bytes",
        statement: "What a filter reads through next are the bytes that the layer below has put into its buffer, and what it writes through next are those that the layer below gets.",
        clause: "nbdkit-filter(3), .pread and .pwrite",
        antecedent: "a read or write that a filter is known to pass on unchanged, with other bytes than zeroes",
        good: "L1 passes=all; NBD_CMD_WRITE { L1.pwrite { L0.pwrite = 0 digest=77 } = 0 digest=77 }",
        bad: "L1 passes=all; NBD_CMD_WRITE { L1.pwrite { L0.pwrite = 0 digest=88 } = 0 digest=77 }",
        fix: "pass the filter's own buffer to the layer below",
        check: by!(at(exits(&[Pread, Pwrite]), handed_bytes)),
        ..Rule::REQUIRED.since(1, 1, 27)
    },
];

/// Says a digest in a finding, in quotation marks: one differs from the other as little as their causes do.
fn shown(digest: u64) -> String {
    let digest = if digest == ZEROES { "of zeroes alone".to_owned() } else { format!("{digest:#x}") };
    format!("bytes with the digest \"{digest}\"")
}

/// Compares two digests, where both were made. Buffers full of zeroes say nothing when they are alike.
fn compare<'e>(
    sent: u64,
    got: u64,
    cited: impl Cited<'e>,
    what: impl Display,
    report: &mut Report<'_>,
) -> Said {
    unless(sent == NONE || got == NONE || (sent, got) == (ZEROES, ZEROES))?;
    report.exercised();
    given(sent != got)?;
    report.broken(cited, format_args!("{what}: {}", shown(sent)), shown(got))
}

/// The answer is the buffer.
fn read_bytes(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (_, request, _) = answered(now)?;
    given(request.operation == Operation::Read)?;
    let reads = || request.made.calls().iter().filter(|made| present(made.callback) == Pread);
    if now.event.result() < 0 {
        let (failed, told) = (reads().find(|made| made.failed())?, now.event.d);
        let actual = format!("{told} bytes of the range");
        return report.expect(told == 0, (request, failed), "none, because it has failed", actual);
    }
    let made = reads().find(|made| made.succeeded())?;
    let read = made.exit.as_ref().map_or(NONE, |exit| exit.b);
    let what = format!("what L{}.{} has read", made.layer(), made.callback);
    compare(read, now.event.b, (request, made), what, report)
}

/// Nothing is left out, nothing told twice.
fn read_whole(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    given(now.succeeds(Operation::Read) && now.history.has_digests())?;
    let request = now.request()?;
    let (told, sent, count) = (now.event.d, now.event.context, request.event.count());
    report.exercised();
    unless(told == count && sent == u64::from(count))?;
    let (from, end) = (request.event.offset(), request.event.offset().saturating_add(count.into()));
    let expected = format!("each of the {count} bytes of {from}..{end} once");
    report.broken(request, expected, format!("{told} of them, and {sent} bytes in all"))
}

/// What was sent is what comes.
fn write_bytes(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (client, request) = now.served_request()?;
    given(request.operation == Operation::Write && !client.is_ambiguous(request))?;
    compare(request.event.context, now.event.b, (request, now.call), "what the client has sent", report)
}

/// What passes a filter is not changed between it and the layer below.
fn handed_bytes(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let call = now.call.filter(|call| call.layer() > 0)?;
    let once = call.handed.times == 1 && call.handed.result == Some(0) && now.event.result() == 0;
    given(once && now.history.hands_on(call.layer(), call.callback))?;
    let (layer, own, below) = (call.layer(), now.event.b, call.handed.digest);
    match call.callback {
        Pread => compare(below, own, call, format_args!("what the layer below L{layer} has read"), report),
        _ => {
            let what = format!("the layer below L{layer} gets what this one has passed on");
            compare(own, below, call, what, report)
        }
    }
}
