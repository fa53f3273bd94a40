//! exit(3) in the wrong place.

use layers_trace::Callback;

use crate::history::{Call, End, History};
use crate::rules::check::Report;
use crate::run::Start;

/// No process exits from inside a call for a client.
pub(super) fn no_exit_while_serving(history: &History, report: &mut Report<'_>) {
    let served = history.was_minted(1) || history.connections().next().is_some();
    // Under --run the status is not that of the process that serves.
    let tells = history.run().is_none_or(|run| run.start != Start::Captive);
    if !served || !tells || !matches!(history.end(), Some(End::Exited(_))) {
        return;
    }
    report.exercised();
    let ends = [Callback::Cleanup, Callback::Unload];
    let would_show = ends.iter().any(|callback| history.outermost(*callback).is_some());
    if !would_show || history.cleaning().is_some() || history.unloading().is_some() {
        return;
    }
    let mut inside = history.in_flight().filter(|call| history.is_for_client(call));
    if let Some(call) = innermost(&mut inside) {
        report.broken(
            [&call.enter].into_iter().chain(history.end_event()),
            "a server that serves ends by cleanup and unload",
            format!("the process exited inside {} of L{}", call.callback, call.layer()),
        );
    }
}

/// The call that was entered last: the others may only be waiting for it.
fn innermost<'a>(calls: &mut impl Iterator<Item = &'a Call>) -> Option<&'a Call> {
    calls.max_by_key(|call| call.id())
}
