//! config_complete.

use layers_trace::Callback::{self, AfterFork, ConfigComplete, GetReady, ThreadModel};

use super::super::order::{inwards, once};
use crate::history::History;
use crate::rules::check::{Now, Report, Said, given};

/// The callbacks that come when configuration is complete.
pub(super) const AFTER: &[Callback] = &[ThreadModel, GetReady, AfterFork];

/// Once in each layer, inner in outer, and not left out at the outermost.
pub(super) fn completed_once(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if now.is(ConfigComplete) {
        once(now, report);
        report.exercised_if(now.history.outer(now.event.layer, ConfigComplete).is_none());
        return inwards(now, report);
    }
    let is_first = AFTER.iter().all(|callback| now.history.first_enters(*callback).next().is_none());
    given(is_first && now.history.run().is_some_and(|run| run.start.serves()))?;
    let top = now.history.outermost(ConfigComplete)?;
    given(now.history.entered(top, ConfigComplete).is_none())?;
    report.expect(false, (), format_args!("config_complete of L{top} comes first"), "it was left out")
}

/// Not for `--dump-plugin`.
pub(super) fn not_in_dump(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    given(now.history.is_dump())?;
    report.broken((), "no config_complete with --dump-plugin", "it is called")
}

pub(super) fn not_in_dump_at_end(history: &History, report: &mut Report<'_>) -> Said {
    given(history.is_dump() && history.ended_cleanly())?;
    report.exercised_if(history.outermost(ConfigComplete).is_some())
}
