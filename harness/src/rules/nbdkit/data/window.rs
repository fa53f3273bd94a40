//! nbdkit-filter(3), ".prepare" and ".finalize": when a handle takes requests.

use layers_trace::Callback;

use crate::rules::check::{Now, Report, Rule, at, by, enters_where};

/// The rules of this topic.
pub const RULES: &[Rule] = &[Rule {
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
fn in_window(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(handle) = now.handle else {
        if now.history.was_minted(now.event.handle) {
            report.exercised();
            report.broken([now.event], "no request on a handle once it is closed", "there is one");
        }
        return;
    };
    if handle.layer != now.event.layer || !now.history.is_servers(handle) {
        return;
    }
    report.exercised();
    let prepares = now.history.records(handle.layer, Callback::Prepare);
    let (since, what) = match (&handle.finalizing, &handle.closing) {
        (Some(finalize), _) => (finalize, "its finalize has begun"),
        (None, Some(close)) => (close, "its close has begun"),
        (None, None) if prepares && handle.prepared != Some(true) => {
            (handle.preparing.as_ref().unwrap_or(&handle.open), "it is not prepared")
        }
        (None, None) => return,
    };
    let expected = format!("requests on handle {} only while it is ready for them", handle.id);
    report.broken([since, now.event], expected, what);
}
