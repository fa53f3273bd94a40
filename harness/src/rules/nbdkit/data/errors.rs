//! nbdkit-filter(3), "ERROR HANDLING": what a filter says when a request fails.

use std::collections::HashMap;

use layers_trace::Callback::{self, Zero};

use crate::history::FAST_ZERO;
use crate::protocol::is_told;
use crate::rules::check::{
    Now, Party, Report, Rule, Said, at, by, exits, exits_where, given, remembering, unless,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "data.error.err",
        statement: "A filter whose request fails has set err to a positive error number.",
        clause: "nbdkit-filter(3), .pread … .cache",
        antecedent: "a filter's request that returns -1",
        good: "NBD_CMD_READ { L1.pread = EIO } = EIO",
        bad: "NBD_CMD_READ { L1.pread = -1 } = EIO",
        fix: "set *err before returning -1",
        check: by!(at(exits_where(Callback::is_data), err_is_set)),
        ..Rule::REQUIRED.since(1, 1, 27).of(Party::Filter)
    },
    Rule {
        id: "data.error.zero-notsup",
        statement: "Without FAST_ZERO a filter's zero does not fail with ENOTSUP or EOPNOTSUPP, and neither does the layer below it.",
        clause: "nbdkit-filter(3), .zero",
        antecedent: "a filter's zero without FAST_ZERO that returns -1",
        good: "NBD_CMD_WRITE_ZEROES { L1.zero = EIO } = EIO",
        bad: "NBD_CMD_WRITE_ZEROES { L1.zero = ENOTSUP } = ENOTSUP",
        fix: "write the zeroes with next->pwrite instead, or fail with another error",
        check: by!(at(exits(&[Zero]), zero_is_supported)),
        ..Rule::REQUIRED.since(1, 15, 0).of(Party::Filter)
    },
    Rule {
        id: "data.error.wire",
        statement: "An error of a filter's own is one that the protocol has: of any other the client is told EINVAL.",
        clause: "not in the manual",
        antecedent: "a filter's request that returns -1 although nothing has failed below it",
        good: "NBD_CMD_READ { L1.pread = EIO } = EIO",
        bad: "NBD_CMD_READ { L1.pread = EBADF } = EIO",
        fix: "set *err to EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP or ESHUTDOWN",
        check: by!(remembering(exits_where(Callback::is_data), is_on_the_wire)),
        ..Rule::OBSERVED.since(1, 1, 27).of(Party::Filter)
    },
];

/// A client learns what a filter says.
fn is_on_the_wire(failed: &mut HashMap<u32, u32>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let call = now.call.filter(|_| now.event.result() == -1)?;
    let before = failed.insert(now.event.tid, call.id());
    let err = now.event.err().map(u32::cast_signed).filter(|err| *err > 0 && call.layer() > 0)?;
    // What a filter only passes on is not its own.
    unless(before.is_some_and(|inner| inner > call.id()))?;
    let actual = std::io::Error::from_raw_os_error(err);
    report.expect(is_told(err), call, "an error that the protocol has", actual)
}

/// There is a reason for every failure.
fn err_is_set(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    given(now.event.result() < 0 && now.event.layer > 0)?;
    let (call, err) = (now.call?, now.event.err()?.cast_signed());
    report.expect(err > 0, call, "an error number in err", err)
}

/// Only a fast zero may be said not to be supported.
fn zero_is_supported(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (call, err) = (now.call?, now.event.err()?);
    given(now.event.result() < 0 && call.layer() > 0 && call.enter.flags() & FAST_ZERO == 0)?;
    let holds = ![libc::ENOTSUP, libc::EOPNOTSUPP].contains(&err.cast_signed());
    report.expect(holds, call, "another error, or success", "ENOTSUP")
}
