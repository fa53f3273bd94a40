//! Start-up that fails.

use layers_trace::Callback::{AfterFork, Config};
use layers_trace::Event;

use super::arguments::parameters;
use crate::history::{End, History};
use crate::rules::check::{Now, Report, Said, given};
use crate::run::Start;

/// A stack without config does not start with parameters.
pub(super) fn nobody_takes_it(started: &mut Option<Event>, now: &Now<'_>, _: &mut Report<'_>) -> Said {
    started.get_or_insert_with(|| now.event.clone());
    Some(())
}

pub(super) fn nobody_takes_it_at_end(
    started: &mut Option<Event>,
    history: &History,
    report: &mut Report<'_>,
) -> Said {
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
pub(super) fn failure_exits(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    // Other threads belong to modules that have started them in after_fork.
    let failed = now.history.failed_start().filter(|failed| failed.tid == now.event.tid)?;
    let actual = if now.is_exit() { "a call further out returns" } else { "another callback is called" };
    report.broken(failed, "the process exits at once", actual)
}

pub(super) fn failure_exits_at_end(history: &History, report: &mut Report<'_>) -> Said {
    let failed = history.failed_start()?;
    report.exercised();
    // After the fork somebody else may be telling the status.
    let tells = failed.callback() != Some(AfterFork)
        || history.run().is_some_and(|run| run.start == Start::Foreground);
    given(tells && history.end() == Some(End::Exited(0)))?;
    report.broken(failed, "an exit status other than 0", "success")
}
