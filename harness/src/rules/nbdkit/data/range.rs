//! Which bytes a request is about, and how many.

use layers_trace::Callback::{self, CanWrite, Flush, FlushV1, GetSize, Pread, PreadV1, Pwrite, PwriteV1};

use super::caller;
use crate::protocol::MOST_SERVED;
use crate::rules::check::{Now, Party, Report, Rule, Said, at, by, enters, enters_where, given};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "data.range",
        statement: "A request is for at least one byte, and for none behind the size that the layer has given.",
        clause: "nbdkit-plugin(3), .pread and .pwrite; nbdkit-filter(3), .prepare",
        antecedent: "a request on a handle whose size is known",
        good: "NBD_CMD_READ offset=0 count=512 { L0.pread }",
        bad: "NBD_CMD_READ offset=1048576 count=512 { L0.pread }",
        fix: "refuse what a client asks beyond the end; in a filter, ask next only for what it has",
        check: by!(at(enters_where(has_range), in_range)),
        ..Rule::REQUIRED.since(1, 15, 1)
    },
    Rule {
        id: "data.size-first",
        statement: "A filter makes requests below only when the size there has been asked, and writes only when can_write has said yes.",
        clause: "nbdkit-filter(3), .prepare",
        antecedent: "a request that a filter makes of the layer below",
        good: "NBD_CMD_READ { L1.pread { L0.pread } }",
        bad: r#"L1 passes=""; NBD_OPT_GO "a" { open prepare L1.get_size L1.can_write L1.can_zero L1.can_fast_zero L1.can_trim L1.can_fua L1.can_flush L1.is_rotational L1.can_multi_conn L1.can_cache L1.can_extents } NBD_CMD_READ { L1.pread { L0.pread } }"#,
        fix: "ask next for what the filter answers by itself, in prepare",
        check: by!(at(enters_where(has_range), size_first)),
        ..Rule::REQUIRED.since(1, 15, 1).of(Party::Filter)
    },
    Rule {
        id: "data.max-io",
        statement: "A read or write is for no more than 64 MiB.",
        clause: "not in the manual",
        antecedent: "a read or write",
        good: "L0 get_size=1073741824; NBD_CMD_READ count=67108864",
        bad: "L0 get_size=1073741824; NBD_CMD_READ count=67108865 { L0.pread }",
        fix: "none needed",
        check: by!(at(enters(&[Pread, Pwrite, PreadV1, PwriteV1]), max_io)),
        ..Rule::OBSERVED
    },
];

fn has_range(callback: Callback) -> bool {
    callback.is_data() && !matches!(callback, Flush | FlushV1)
}

/// Inside the size.
fn in_range(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let handle = now.own_handle()?;
    let size = u64::try_from(now.history.offered(handle, GetSize)?).ok()?;
    report.exercised();
    let (offset, count) = (now.event.offset(), u64::from(now.event.count()));
    given(count == 0 || offset.checked_add(count).is_none_or(|end| end > size))?;
    let expected = format!("1 byte or more, all of them below {size}");
    report.broken_by(caller(now), (), expected, format_args!("{count} from {offset}"))
}

/// What the server must know before it can check the arguments of a request.
fn size_first(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let handle = now.own_handle()?;
    given(now.parent()?.layer() > handle.layer)?;
    let asked = |query| !now.history.records(handle.layer, query) || handle.answer(query).is_some();
    report.exercised();
    if !asked(GetSize) {
        report.broken((), format!("L{} has been asked for its size", handle.layer), "it has not");
    }
    let writes = matches!(now.call.map(|call| call.callback), Some(Pwrite | PwriteV1));
    given(writes && !asked(CanWrite) && !handle.readonly())?;
    report.broken((), format!("L{} has been asked can_write", handle.layer), "it has not")
}

/// No more than the server takes from a client.
fn max_io(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    report.exercised();
    given(now.event.count() > MOST_SERVED)?;
    let actual = format!("{} bytes", now.event.count());
    report.broken_by(caller(now), (), format!("{MOST_SERVED} bytes or less"), actual)
}
