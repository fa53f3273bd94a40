//! nbdkit(1), -s.

use layers_trace::{Callback, Event};

use crate::history::{End, History};
use crate::rules::check::{Now, Report};
use crate::run::Start;

/// One connection, then the end.
pub(super) fn one_connection(first: &mut Option<Event>, now: &Now<'_>, report: &mut Report<'_>) {
    let single = now.history.run().is_some_and(|run| run.start == Start::Single);
    if !single || now.call.is_none_or(|call| call.parent.is_some()) {
        return;
    }
    if let Some(first) = &*first {
        report.broken([first, now.event], "one connection", "another one");
    } else {
        *first = Some(now.event.clone());
    }
}

pub(super) fn one_connection_at_end(first: &mut Option<Event>, history: &History, report: &mut Report<'_>) {
    let single = history.run().is_some_and(|run| run.start == Start::Single);
    let exited = matches!(history.end(), Some(End::Exited(_)));
    if !single || !exited || !history.signals().is_empty() || history.serving().is_none() {
        return;
    }
    report.exercised();
    let has = |callback| history.outermost(callback).is_some();
    let left_out = [
        (Callback::Preconnect, first.is_some()),
        (Callback::Cleanup, history.cleaning().is_some()),
        (Callback::Unload, history.unloading().is_some()),
    ];
    for (callback, _) in left_out.into_iter().filter(|(callback, came)| has(*callback) && !came) {
        report.broken(history.end_event(), format!("{callback} before the end"), "it never comes");
    }
}
