//! nbdkit-filter(3), ".prepare" and ".finalize": when a handle takes requests.

use layers_trace::Callback::{self, Prepare};

use crate::rules::check::{Now, Report, Rule, Said, at, by, enters_where, given, unless};
use crate::rules::nbdkit::connection::finalize::late_caller;

pub(super) const RULES: &[Rule] = &[Rule {
    id: "data.window",
    statement: "Requests reach a filter between its successful prepare and its finalize, the plugin between its open and its close.",
    clause: "nbdkit-filter(3), .prepare and .finalize; nbdkit-plugin(3), .open and .close",
    antecedent: "a request on a handle that the server has opened",
    good: "NBD_CMD_READ",
    bad: "NBD_CMD_DISC { L0.close L0.pread }",
    also: &["close.last"],
    fix: "make no request before every prepare has succeeded, and none once the first finalize has begun",
    check: by!(at(enters_where(Callback::is_data), in_window)),
    ..Rule::REQUIRED
}];

/// A handle takes requests while it is ready for them.
fn in_window(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let Some(handle) = now.handle else {
        given(now.history.was_minted(now.event.handle))?;
        return report.expect(false, (), "no request on a handle once it is closed", "there is one");
    };
    given(handle.layer == now.event.layer && now.history.is_servers(handle))?;
    unless(late_caller(now, handle).is_some())?;
    report.exercised();
    let prepares = now.history.records(handle.layer, Prepare);
    let (since, what) = match (&handle.finalizing, &handle.closing) {
        (Some(finalize), _) => (finalize, "its finalize has begun"),
        (None, Some(close)) => (close, "its close has begun"),
        (None, None) if prepares && handle.prepared != Some(true) => {
            (handle.preparation(), "it is not prepared")
        }
        (None, None) => return None,
    };
    let expected = format!("requests on handle {} only while it is ready for them", handle.id);
    report.broken(since, expected, what)
}
