//! Start-up that fails.

use layers_trace::Callback::{AfterFork, Config, ConfigComplete, Load, Unload};
use layers_trace::Event;

use super::arguments::parameters;
use crate::history::{End, History};
use crate::rules::check::{Now, Report, Rule, Said, at, by, enters_where, given, remembering};
use crate::run::Start;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "config.no-callback-fatal",
        statement: "A parameter for a plugin without config ends the process with an error.",
        clause: "nbdkit-plugin(3), .config",
        antecedent: "a parameter, and a stack in which no layer has config",
        good: r#"L0 without=config; run parameter="a=1"; load unload ends = 1"#,
        bad: r#"L0 without=config; run parameter="a=1"; load config_complete"#,
        fix: "refuse parameters that nobody takes",
        check: by!(remembering(
            enters_where(|callback| { !matches!(callback, Load | Config | Unload) && !callback.is_data() }),
            nobody_takes_it
        )
        .and_end(nobody_takes_it_at_end)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "config.failure-exits",
        statement: "When a callback of start-up fails the process exits at once, from inside the calls further out.",
        clause: "not in the manual, which calls it an error (nbdkit-plugin(3), .config to .after_fork)",
        antecedent: "a config, config_complete, thread_model, get_ready or after_fork that fails",
        good: r#"run parameter="a=1"; L0.config "a" "1" = -1 ends = 1"#,
        bad: r#"run parameter="a=1"; L0.config "a" "1" = -1 L0.config_complete"#,
        fix: "none needed; modules must cope with both",
        check: by!(at(
            enters_where(|callback| !callback.is_data()).exits(&[Config, ConfigComplete]),
            failure_exits
        )
        .and_end(failure_exits_at_end)),
        ..Rule::OBSERVED
    },
];

/// A stack without config does not start with parameters.
fn nobody_takes_it(started: &mut Option<Event>, now: &Now<'_>, _: &mut Report<'_>) -> Said {
    started.get_or_insert_with(|| now.event.clone());
    Some(())
}

fn nobody_takes_it_at_end(started: &mut Option<Event>, history: &History, report: &mut Report<'_>) -> Said {
    let nobody = !history.layers().is_empty() && history.outermost(Config).is_none();
    given(nobody && !parameters(history)?.is_empty() && history.is_complete())?;
    if let Some(started) = started {
        let mut report = report.without_present();
        return report.expect(false, &*started, "the server exits", "it goes on with the start");
    }
    let end = history.end()?;
    report.expect(end != End::Exited(0), (), "an exit status other than 0", "success")
}

/// Nothing follows the failure of a callback of start-up.
fn failure_exits(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    // Other threads belong to modules that have started them in after_fork.
    let failed = now.history.failed_start().filter(|failed| failed.tid == now.event.tid)?;
    let actual = if now.is_exit() { "a call further out returns" } else { "another callback is called" };
    report.broken(failed, "the process exits at once", actual)
}

fn failure_exits_at_end(history: &History, report: &mut Report<'_>) -> Said {
    let failed = history.failed_start()?;
    report.exercised();
    // After the fork somebody else may be telling the status.
    let tells = failed.callback() != Some(AfterFork)
        || history.run().is_some_and(|run| run.start == Start::Foreground);
    given(tells && history.end() == Some(End::Exited(0)))?;
    report.broken(failed, "an exit status other than 0", "success")
}
