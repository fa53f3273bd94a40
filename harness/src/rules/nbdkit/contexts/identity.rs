//! Whom a shared context is for: nobody.

use layers_trace::{Callback, Kind, Probe};

use crate::history::Call;
use crate::rules::check::{Check, Now, Report, Watch};
use crate::run::Tls;

/// No name, no TLS but where all have it, no default export.
pub(super) struct Anonymous;

/// The call opens a context for nobody in particular.
fn opens_shared(now: &Now<'_>, call: &Call) -> bool {
    call.callback == Callback::Open && call.owner.is_some() && now.history.root(call).connection.is_none()
        || now
            .history
            .thread(call.enter.tid)
            .and_then(|thread| thread.asking())
            .is_some_and(|ask| call.owner == Some(ask.layer) && call.connection.is_none())
}

impl Check for Anonymous {
    fn watches(&self) -> Watch {
        Watch::NONE.notes(Kind::Probe).enters(&[Callback::DefaultExport])
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
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
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::rules::testing::*;
    use layers_trace::{Callback, Kind, Probe};

    /// The plugin asks who its client is when L1 opens a shared context; it gets these answers.
    fn asking(name: u64, tls: u64) -> Script {
        let good = served(&run(1));
        let after_fork = good.index(Kind::Exit, 1, Callback::AfterFork, 0);
        let mut shared = Vec::new();
        let good = good.with(after_fork, |script| shared = opens(script, 1, true, 0xd000));
        let open = good.index(Kind::Exit, 0, Callback::Open, 0);
        let good = good.with(open, |script| {
            let probe = script.note(Kind::Probe, Probe::Identity as u8);
            (probe.a, probe.b) = (name, tls);
        });
        let cleanup = good.index(Kind::Exit, 1, Callback::Cleanup, 0);
        good.with(cleanup, |script| script.on(&shared, 0, Callback::Close, 0))
    }

    #[test]
    fn a_shared_context_is_nobodys() {
        const RULE: &str = "manual.shared-anonymous";
        accepts(RULE, asking(0, 0));
        rejects(RULE, asking(1, 0));
        rejects(RULE, asking(0, 1));
        let open = asking(0, 0).index(Kind::Exit, 0, Callback::Open, 0);
        rejects(RULE, asking(0, 0).with(open, |script| script.call(0, Callback::DefaultExport, 1)));
        assert_eq!(judged(reference()).result(RULE).unwrap().exercised, 0);
    }
}
