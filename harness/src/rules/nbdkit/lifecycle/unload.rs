//! unload.

use layers_trace::Callback::{self, Cleanup, Unload};
use layers_trace::Event;

use super::super::order::once;
use crate::history::History;
use crate::rules::check::{
    Check, Checker, Now, Report, Rule, Said, at, by, enters, enters_where, given, remembering,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "lifecycle.unload.once",
        statement: "Unload of a layer is never called twice, and is called before a server that ends cleanly is gone.",
        clause: "nbdkit-plugin(3), .unload and SHUTDOWN; nbdkit-filter(3), .unload",
        antecedent: "a layer with unload, and a server that ends by itself with success",
        good: "stop",
        bad: "SIGTERM cleanup L0.unload L1.unload L0.unload",
        fix: "unload each module once on every way to a regular exit",
        check: by!(once_by_the_end(Unload, History::ended_cleanly)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "lifecycle.unload.not-on-failure",
        statement: "When a callback of start-up fails the process just exits: there is no cleanup and no unload.",
        clause: "not in the manual, which only says that unload may not be called (nbdkit-plugin(3), .unload)",
        antecedent: "a config, config_complete, thread_model, get_ready or after_fork that fails",
        good: "L0.get_ready = -1 ends = 1",
        bad: "L0.get_ready = -1 L0.unload",
        also: &["config.failure-exits"],
        fix: "none needed; modules must cope with both",
        check: by!(
            at(enters(&[Cleanup, Unload]), nothing_after_failure).and_end(nothing_after_failure_at_end)
        ),
        ..Rule::OBSERVED
    },
    Rule {
        id: "lifecycle.unload.order",
        statement: "The order in which layers are unloaded is open (the servers unload the plugin first).",
        clause: "not in the manual",
        antecedent: "two layers with unload",
        fix: "rely on no order between the unloads of different layers; use cleanup where order matters",
        check: Checker::Nothing,
        ..Rule::UNSPECIFIED
    },
    Rule {
        id: "lifecycle.unload.last",
        statement: "Once the unload of a layer has been entered, no callback of that layer is.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .unload",
        antecedent: "a layer whose unload is called",
        good: "stop",
        bad: "cleanup L0.unload L0.cleanup",
        also: &["lifecycle.cleanup.before-unload", "lifecycle.cleanup.once"],
        fix: "end every thread that may still call the module before unloading it",
        check: by!(
            at(enters_where(|_| true), is_last).minding_data_if(|history| history.unloading().is_some())
        ),
        ..Rule::FORBIDDEN
    },
    Rule {
        id: "lifecycle.unload.exclusive",
        statement: "While any layer is being unloaded, no callback of any layer is in progress.",
        clause: "nbdkit-plugin(3), SHUTDOWN: running callbacks finish before the unloads",
        antecedent: "a layer whose unload is called",
        good: "stop",
        bad: "run start=help; load enter L0.unload L1.unload",
        fix: "wait for all callbacks to return before the first unload",
        check: by!(remembering(enters_where(|_| true).exits(&[Unload]), runs_alone)
            .minding_data_if(|running, _| running.is_some())),
        ..Rule::FORBIDDEN.since(1, 1, 17)
    },
];

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
fn nothing_after_failure(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    report.broken(now.history.failed_start()?, "the process exits without it", "it is called")
}

fn nothing_after_failure_at_end(history: &History, report: &mut Report<'_>) -> Said {
    report.exercised_if(history.failed_start().is_some())
}

/// A layer is not called once its unload was entered.
fn is_last(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if now.is(Unload) {
        return report.exercised();
    }
    now.history.unloading()?;
    let unload = now.history.entered(now.event.layer, Unload)?;
    report.broken(unload, format!("nothing of L{} after its unload", now.event.layer), "it is called")
}

/// An unload runs alone.
fn runs_alone(running: &mut Option<Event>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
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
