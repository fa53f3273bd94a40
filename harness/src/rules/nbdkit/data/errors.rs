//! nbdkit-filter(3), "ERROR HANDLING": what a filter says when a request fails.

use std::collections::HashMap;

use layers_trace::Callback;

use crate::history::FAST_ZERO;
use crate::protocol::is_told;
use crate::rules::check::{Now, Party, Report, Rule, at, by, exits, exits_where, remembering};
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "data.error.err",
        party: Party::Filter,
        since: Version(1, 1, 27),
        statement: "A filter whose request fails has set err to a positive error number.",
        clause: "nbdkit-filter(3), .pread … .cache",
        antecedent: "a filter's request that returns -1",
        good: "NBD_CMD_READ { L1.pread = EIO } = EIO",
        bad: "NBD_CMD_READ { L1.pread = -1 } = EIO",
        fix: "set *err before returning -1",
        check: by!(at(exits_where(Callback::is_data), err_is_set)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "data.error.zero-notsup",
        party: Party::Filter,
        since: Version(1, 15, 0),
        statement: "Without FAST_ZERO a filter's zero does not fail with ENOTSUP or EOPNOTSUPP, and neither does the layer below it.",
        clause: "nbdkit-filter(3), .zero",
        antecedent: "a filter's zero without FAST_ZERO that returns -1",
        good: "NBD_CMD_WRITE_ZEROES { L1.zero = EIO } = EIO",
        bad: "NBD_CMD_WRITE_ZEROES { L1.zero = ENOTSUP } = ENOTSUP",
        fix: "write the zeroes with next->pwrite instead, or fail with another error",
        check: by!(at(exits(&[Callback::Zero]), zero_is_supported)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "data.error.wire",
        party: Party::Filter,
        since: Version(1, 1, 27),
        statement: "An error of a filter's own is one that the protocol has: of any other the client is told EINVAL.",
        clause: "not in the manual",
        antecedent: "a filter's request that returns -1 although nothing has failed below it",
        good: "NBD_CMD_READ { L1.pread = EIO } = EIO",
        bad: "NBD_CMD_READ { L1.pread = EBADF } = EIO",
        fix: "set *err to EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP or ESHUTDOWN",
        check: by!(remembering(exits_where(Callback::is_data), is_on_the_wire)),
        ..Rule::OBSERVED
    },
];

/// A client learns what a filter says.
fn is_on_the_wire(failed: &mut HashMap<u32, u32>, now: &Now<'_>, report: &mut Report<'_>) {
    let Some(call) = now.call.filter(|_| now.event.result() == -1) else { return };
    let before = failed.insert(now.event.tid, call.id());
    let Some(err) = now.event.err().map(u32::cast_signed).filter(|err| *err > 0 && call.layer() > 0) else {
        return;
    };
    // What a filter only passes on is not its own.
    if before.is_some_and(|inner| inner > call.id()) {
        return;
    }
    let calls = [&call.enter, now.event];
    let actual = format!("{}", std::io::Error::from_raw_os_error(err));
    report.expect(is_told(err), calls, "an error that the protocol has", actual);
}

/// There is a reason for every failure.
fn err_is_set(now: &Now<'_>, report: &mut Report<'_>) {
    if now.event.result() >= 0 || now.event.layer == 0 {
        return;
    }
    let (Some(call), Some(err)) = (now.call, now.event.err()) else { return };
    let holds = err.cast_signed() > 0;
    report.expect(holds, [&call.enter, now.event], "an error number in err", err.cast_signed().to_string());
}

/// Only a fast zero may be said not to be supported.
fn zero_is_supported(now: &Now<'_>, report: &mut Report<'_>) {
    let (Some(call), Some(err)) = (now.call, now.event.err()) else { return };
    if now.event.result() >= 0 || call.layer() == 0 || call.enter.flags() & FAST_ZERO != 0 {
        return;
    }
    let holds = ![libc::ENOTSUP, libc::EOPNOTSUPP].contains(&err.cast_signed());
    report.expect(holds, [&call.enter, now.event], "another error, or success", "ENOTSUP");
}
