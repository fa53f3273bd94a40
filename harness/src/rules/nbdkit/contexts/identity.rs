//! Whom a shared context is for: nobody.

use layers_trace::{Callback, Probe};

use crate::history::Call;
use crate::rules::check::{Now, Report};
use crate::run::Tls;

/// The call opens a context for nobody in particular.
fn opens_shared(now: &Now<'_>, call: &Call) -> bool {
    call.callback == Callback::Open && call.owner.is_some() && now.history.root(call).connection.is_none()
        || now
            .history
            .thread(call.enter.tid)
            .and_then(|thread| thread.asking())
            .is_some_and(|ask| call.owner == Some(ask.layer) && call.connection.is_none())
}

/// No name, no TLS but where all have it, no default export.
pub(super) fn anonymous(now: &Now<'_>, report: &mut Report<'_>) {
    if now.is_enter() {
        let parent = now.parent().filter(|parent| opens_shared(now, parent));
        if let Some(open) = parent {
            report.broken([&open.enter, now.event], "default_export is not asked", "it is");
        }
        return;
    }
    if now.event.probe() != Some(Probe::Identity) {
        return;
    }
    let current = now.history.thread(now.event.tid).and_then(|thread| thread.current());
    let Some(open) = current.filter(|call| opens_shared(now, call)) else { return };
    report.exercised();
    if now.event.a != 0 {
        let expected = "nbdkit_export_name fails in a shared context";
        report.broken([&open.enter, now.event], expected, "it gives a name");
    }
    // nbdkit 1.32 answers -1, an error, where it is not 1.
    let tls = now.history.run().map(|run| run.tls == Tls::Require);
    if tls.is_some_and(|tls| tls != (now.event.b == 1)) {
        let expected = "nbdkit_is_tls is 1 in a shared context with --tls=require, and only then";
        report.broken([&open.enter, now.event], expected, format!("it is {}", now.event.b));
    }
}
