//! Whom a shared context is for: nobody.

use layers_trace::Callback::{DefaultExport, Open};
use layers_trace::Kind;
use layers_trace::{Event, Probe};

use crate::history::Call;
use crate::rules::check::{Now, Report, Rule, Said, at, by, given, notes};
use crate::run::Tls;

pub(super) const RULES: &[Rule] = &[Rule {
    id: "manual.shared-anonymous",
    statement: "In a shared context there is no export name, default_export is not asked, and is_tls is 1 with --tls=require only.",
    clause: "nbdkit-filter(3), nbdkit_next_context_open",
    antecedent: "a reference plugin that asks who its client is when a shared context is opened",
    good: "L0.after_fork L1.after_fork { L0.open { Identity = 0 b=0 } }",
    bad: "L0.after_fork L1.after_fork { L0.open { Identity = 1 b=0 } }",
    fix: "bind a shared context to no connection",
    check: by!(at(notes(&[Kind::Probe]).enters(&[DefaultExport]), anonymous)),
    ..Rule::REQUIRED.since(1, 25, 8)
}];

/// The call opens a context for nobody in particular.
fn opens_shared(now: &Now<'_>, call: &Call) -> bool {
    let for_nobody = call.owner.is_some() && now.history.root(call).connection.is_none();
    let asked = |ask: &Event| call.owner == Some(ask.layer) && call.connection.is_none();
    call.callback == Open && for_nobody || now.asking().is_some_and(asked)
}

/// No name, no TLS but where all have it, no default export.
fn anonymous(now: &Now<'_>, report: &mut Report<'_>) -> Said {
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
