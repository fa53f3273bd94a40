//! Whom a shared context is for: nobody.

use layers_trace::Callback::Open;
use layers_trace::{Event, Probe};

use crate::history::Call;
use crate::rules::check::{Now, Report, Said, given};
use crate::run::Tls;

/// The call opens a context for nobody in particular.
fn opens_shared(now: &Now<'_>, call: &Call) -> bool {
    let for_nobody = call.owner.is_some() && now.history.root(call).connection.is_none();
    let asked = |ask: &Event| call.owner == Some(ask.layer) && call.connection.is_none();
    call.callback == Open && for_nobody || now.asking().is_some_and(asked)
}

/// No name, no TLS but where all have it, no default export.
pub(super) fn anonymous(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if now.is_enter() {
        let open = now.parent().filter(|parent| opens_shared(now, parent))?;
        return report.broken(open, "default_export is not asked", "it is");
    }
    given(now.event.probe() == Some(Probe::Identity))?;
    let open = now.during().filter(|call| opens_shared(now, call))?;
    report.exercised();
    if now.event.a != 0 {
        let expected = "nbdkit_export_name fails in a shared context";
        report.broken(open, expected, "it gives a name");
    }
    // nbdkit 1.32 answers -1, an error, where it is not 1.
    given((now.history.run()?.tls == Tls::Require) != (now.event.b == 1))?;
    let expected = "nbdkit_is_tls is 1 in a shared context with --tls=require, and only then";
    report.broken(open, expected, format!("it is {}", now.event.b))
}
