//! unload.

use layers_trace::Callback::{self, Unload};

use layers_trace::Event;

use super::super::order::once;
use crate::history::History;
use crate::rules::check::{Check, Now, Report, Said, at, enters, given};

/// This callback is called at most once in each layer, and exactly once where the run owes it.
pub(super) fn once_by_the_end(callback: Callback, owed: fn(&History) -> bool) -> impl Check {
    let called = |now: &Now<'_>, report: &mut Report<'_>| {
        report.exercised_if(now.history.entered(now.event.layer, now.call?.callback).is_none());
        once(now, report)
    };
    at(enters(&[callback]), called).and_end(move |history: &History, report: &mut Report<'_>| {
        given(owed(history))?;
        for layer in history.left_out(callback) {
            let expected = format!("{callback} of L{layer} before the server ends");
            report.expect(false, (), expected, "the server ended without it");
        }
        Some(())
    })
}

/// After a failed start there is neither cleanup nor unload.
pub(super) fn nothing_after_failure(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    report.broken(now.history.failed_start()?, "the process exits without it", "it is called")
}

pub(super) fn nothing_after_failure_at_end(history: &History, report: &mut Report<'_>) -> Said {
    report.exercised_if(history.failed_start().is_some())
}

/// A layer is not called once its unload was entered.
pub(super) fn is_last(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if now.is(Unload) {
        return report.exercised();
    }
    now.history.unloading()?;
    let unload = now.history.entered(now.event.layer, Unload)?;
    report.broken(unload, format!("nothing of L{} after its unload", now.event.layer), "it is called")
}

/// An unload runs alone.
pub(super) fn runs_alone(running: &mut Option<Event>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if now.is_exit() {
        *running = None;
        return None;
    }
    if let Some(unload) = &*running {
        report.broken(unload, "nothing starts while an unload runs", "a call starts");
    } else if now.is(Unload)
        && let Some(call) = now.history.in_flight().next()
    {
        report.broken(call, "every call has returned", "one is still in progress");
    }
    given(now.is(Unload))?;
    *running = Some(now.event.clone());
    report.exercised()
}
