//! nbdkit-plugin(3), `.preconnect`: the first that a layer hears of a client.

use layers_trace::Callback;

use super::super::{Check, Checker, Kind, Now, Party, Report, Rule, Watch};
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[Rule {
    id: "conn.preconnect.readonly",
    kind: Kind::Required,
    party: Party::Server,
    since: Version(1, 17, 1),
    statement: "The outermost preconnect, list_exports, default_export and open are told whether the server has -r.",
    clause: "nbdkit-plugin(3), .preconnect, .list_exports, .default_export and .open",
    antecedent: "one of these callbacks at the outermost layer, and a run that says how it was started",
    example: "`nbdkit -r`: L2.preconnect(readonly 0)",
    fix: "pass the setting of the command line to the outermost layer",
    check: Checker::Trace(|| Box::new(ReadonlyAsStarted)),
}];

/// The outermost layer gets the server's `-r`.
struct ReadonlyAsStarted;

impl Check for ReadonlyAsStarted {
    fn watches(&self) -> Watch {
        const TOLD: &[Callback] =
            &[Callback::Preconnect, Callback::ListExports, Callback::DefaultExport, Callback::Open];
        Watch::NONE.enters(TOLD)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let (Some(run), Some(call)) = (now.history.run(), now.call) else { return };
        let outermost = now.history.outermost(call.callback) == Some(call.layer());
        if !outermost || call.parent.is_some() || !now.history.is_for_client(call) {
            return;
        }
        report.exercised();
        if now.event.readonly() != run.readonly {
            let said = |readonly: bool| if readonly { "readonly 1" } else { "readonly 0" };
            report.broken([now.event], said(run.readonly), said(now.event.readonly()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::*;
    use layers_trace::{Callback, Kind};

    #[test]
    fn the_outermost_layer_is_told_of_r() {
        const RULE: &str = "conn.preconnect.readonly";
        accepts(RULE, reference());
        for callback in [Callback::Preconnect, Callback::ListExports, Callback::DefaultExport, Callback::Open]
        {
            rejects(RULE, reference().changed(Kind::Enter, 2, callback, 0, |event| event.d = 1));
        }
    }
}
