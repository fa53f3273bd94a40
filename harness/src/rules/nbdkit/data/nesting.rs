//! nbdkit-filter(3), "NEXT PLUGIN": a request comes to the plugin through its filters.

use layers_trace::Callback::{self, Cache, Flush, Pread, Pwrite, Trim, Zero};

use super::super::pass_through::passed_through;
use crate::history::{Call, Handle, History};
use crate::rules::check::{Now, Report, Rule, Said, at, by, calls_where, enters_where, given, unless};

pub(super) const RULES: &[Rule] = &[Rule {
    id: "data.nested",
    statement: "A request enters at the outermost layer and reaches the layers below only through the filters above.",
    clause: "nbdkit-filter(3), NEXT PLUGIN and .pread … .cache",
    antecedent: "a request that reaches a layer under a filter that takes such requests",
    good: "NBD_CMD_READ { L1.pread { L0.pread } }",
    bad: "run filters=1; NBD_CMD_READ { L0.pread }",
    fix: "call the outermost layer, and hand a filter's call of next to the layer right below it",
    check: by!(passed_through(
        calls_where(Callback::is_data),
        at(enters_where(Callback::is_data), through_filters)
    )),
    ..Rule::REQUIRED.since(1, 1, 27)
}];

/// A filter stands between the server and the layers below it.
fn through_filters(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (call, handle) = (now.call?, now.handle?);
    given(handle.layer == call.layer() && now.history.is_servers(handle))?;
    let parent = now.parent();
    // Nearly always, and quickly seen.
    let above = now.history.outer(call.layer(), call.callback);
    if parent.is_some_and(|parent| Some(parent.layer()) == above && parent.chain == call.chain) {
        return report.exercised();
    }
    let outer = taker(now.history, handle, call.callback)?;
    unless(parent.is_some_and(|parent| parent.layer() <= call.layer()))?;
    report.exercised();
    given(parent.is_none_or(|parent| parent.layer() > outer.layer))?;
    let above = parent.map_or(&outer.open, |parent| &parent.enter);
    let expected = format!("{} of L{} is called by L{}", call.callback, call.layer(), outer.layer);
    let past = |by: &Call| format!("L{} calls past it", by.layer());
    report.broken(above, expected, parent.map_or("the server calls it".to_owned(), past))
}

/// The next layer outwards that takes every request which can lead to this callback: a request that one filter has no
/// callback for goes past it, whatever the server makes of it below.
fn taker<'h>(history: &'h History, handle: &Handle, callback: Callback) -> Option<&'h Handle> {
    let outer = history.handle_outside(handle, callback)?;
    let takes = |request: &Callback| history.records(outer.layer, *request);
    requests(callback).iter().all(takes).then_some(outer)
}

/// The requests that the server serves with this callback: emulation makes reads of caching, writes of zeroing and a
/// flush of FUA.
fn requests(callback: Callback) -> &'static [Callback] {
    match callback {
        Pread => &[Pread, Cache],
        Pwrite => &[Pwrite, Zero],
        Flush => &[Flush, Pwrite, Trim, Zero],
        _ => &[],
    }
}
