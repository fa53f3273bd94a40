//! Start-up that fails.

use layers_trace::{Callback, Event};

use super::arguments::has_parameters;
use crate::history::{End, History};
use crate::rules::check::{Now, Report};
use crate::run::Start;

/// A stack without config does not start with parameters.
pub(super) fn nobody_takes_it(started: &mut Option<Event>, now: &Now<'_>, _report: &mut Report<'_>) {
    started.get_or_insert_with(|| now.event.clone());
}

pub(super) fn nobody_takes_it_at_end(
    started: &mut Option<Event>,
    history: &History,
    report: &mut Report<'_>,
) {
    let nobody = !history.layers().is_empty() && history.outermost(Callback::Config).is_none();
    if !nobody || !has_parameters(history) || !history.is_complete() {
        return;
    }
    let succeeded = history.end() == Some(End::Exited(0));
    match &*started {
        Some(started) => report.expect(false, [started], "the server exits", "it goes on with the start"),
        None if history.end().is_some() => {
            report.expect(!succeeded, history.end_event(), "an exit status other than 0", "success");
        }
        None => {}
    }
}

/// Nothing follows the failure of a callback of start-up.
pub(super) fn failure_exits(now: &Now<'_>, report: &mut Report<'_>) {
    // Other threads belong to modules that have started them in after_fork.
    let Some(failed) = now.history.failed_start().filter(|failed| failed.tid == now.event.tid) else {
        return;
    };
    let actual = if now.is_exit() { "a call further out returns" } else { "another callback is called" };
    report.broken([failed, now.event], "the process exits at once", actual);
}

pub(super) fn failure_exits_at_end(history: &History, report: &mut Report<'_>) {
    let Some(failed) = history.failed_start() else { return };
    report.exercised();
    // After the fork somebody else may be telling the status.
    let tells = failed.callback() != Some(Callback::AfterFork)
        || history.run().is_some_and(|run| run.start == Start::Foreground);
    if tells && history.end() == Some(End::Exited(0)) {
        report.broken(
            [failed].into_iter().chain(history.end_event()),
            "an exit status other than 0",
            "success",
        );
    }
}
