//! What has become of a server that is nobody's child here.

use crate::history::End;

/// What has become of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    /// By exit(3), with this status.
    Exited(i32),
    /// By this signal, which it has made happen itself: a crash.
    Crashed(i32),
    /// Otherwise: by a signal for which it had no handler (SIGKILL), or by _exit(2).
    Unseen,
    /// It still runs.
    Running,
    /// It has ended, and nothing was recorded any more by then.
    Unrecorded,
}

impl Ended {
    /// As the trace has it, or as it comes to be known.
    pub fn of(end: End) -> Ended {
        match end {
            End::Exited(status) => Ended::Exited(status),
            End::Killed(signal) => Ended::Crashed(signal),
        }
    }
}
