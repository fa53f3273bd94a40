//! What instruments looked at inside the server because no argument shows it.

use layers_trace::Probe;

pub(super) use crate::rules::check::Probed;
use crate::rules::check::{Given, Now, Report, given};

/// In close, a filter's context gives the backend that it gave in open; `expected` is how a finding puts that.
pub(super) fn context_still_answers(now: &Now<'_>, report: &mut Report<'_>, expected: &str) -> Given {
    given(now.event.probe() == Some(Probe::ContextBackend))?;
    report.exercised();
    given(now.event.a == 0)?;
    let open = now.history.handle(now.event.handle).map(|handle| &handle.open);
    report.broken(open, expected, "another backend")
}
