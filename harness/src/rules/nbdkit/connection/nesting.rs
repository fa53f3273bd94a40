//! Callbacks that come inwards by each filter's call of next.

use crate::rules::check::{Now, Report};

/// A call of an inner layer is made by the next outer layer that has the callback, from within its own.
pub(super) fn inwards(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(call) = now.call else { return };
    let Some(outer) = now.history.outer(call.layer(), call.callback) else { return };
    let parent = now.parent();
    report.exercised();
    if !parent.is_some_and(|parent| parent.callback == call.callback && parent.layer() == outer) {
        report.broken(
            parent.map(|parent| &parent.enter).into_iter().chain([now.event]),
            format!("L{outer}.{0} calls L{1}.{0}", call.callback, call.layer()),
            "it is called from elsewhere",
        );
    }
}
