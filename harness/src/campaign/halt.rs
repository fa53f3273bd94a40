//! What ends a run before everything is played: its time, or a signal.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::server::haproxy::HaproxyError;
use crate::server::interrupt::told_to_stop;
use crate::server::nbdkit::ServerError;
use crate::server::shortage::{Explained, number};

/// Why not everything was played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The run had so much time, and it is over.
    Time(Duration),
    /// The process was told to stop by this signal.
    Signal(i32),
    /// The system refused what a server needs to be started, with this error.
    Refused(i32),
    /// Something was found, and the run was to end at the first finding.
    Found,
    /// A file of the subject is not what it was when the run began.
    Changed,
}

impl Halt {
    /// Completes "not played: …".
    pub fn reason(self) -> String {
        match self {
            Halt::Time(limit) => format!("--time {} was over", limit.as_secs()),
            Halt::Signal(libc::SIGINT) => "the run was interrupted".to_owned(),
            Halt::Signal(_) => "the run was told to stop".to_owned(),
            Halt::Found => "--fail-fast ended the run at its first finding".to_owned(),
            Halt::Changed => {
                "a file of the subject has changed or gone since the run began: judge it again".to_owned()
            }
            Halt::Refused(number) => {
                let error = io::Error::from_raw_os_error(number);
                format!("the system did not let a server be started: {}", Explained(&error))
            }
        }
    }

    /// What this error means for a run that has begun: what has been found is told, and what needs the server is not judged.
    /// `None` for one that no system has refused.
    pub(crate) fn of(error: &ServerError) -> Option<Halt> {
        let (ServerError::Harness(cause)
        | ServerError::CannotRun { source: cause, .. }
        | ServerError::Haproxy(
            HaproxyError::Harness(cause) | HaproxyError::CannotRun { source: cause, .. },
        )) = error
        else {
            return None;
        };
        number(cause).map(Halt::Refused)
    }
}

/// Knows when a run must end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limit {
    until: Option<(Duration, Deadline)>,
    /// Set by the first finding, where that ends the run. It stays for as long as the process: a run knows of no other end.
    found: Option<&'static AtomicBool>,
}

impl Limit {
    /// So much time from now on.
    pub fn new(time: Option<Duration>) -> Limit {
        Limit { until: time.map(|time| (time, Deadline::after(time))), found: None }
    }

    /// The same, and where it `fails_fast`, the first finding.
    pub fn failing_fast(self, fails_fast: bool) -> Limit {
        Limit { found: fails_fast.then(|| &*Box::leak(Box::default())), ..self }
    }

    /// Something was found that fails the run.
    pub fn found(&self) {
        if let Some(found) = self.found {
            found.store(true, Ordering::Relaxed);
        }
    }

    /// Nothing more is to be played, for this reason.
    pub fn reached(&self) -> Option<Halt> {
        let time = self.until.filter(|(_, deadline)| deadline.passed());
        let found = self.found.is_some_and(|found| found.load(Ordering::Relaxed)).then_some(Halt::Found);
        told_to_stop().map(Halt::Signal).or(found).or(time.map(|(time, _)| Halt::Time(time)))
    }

    /// What one run may take that may take `timeout`.
    pub fn of(&self, timeout: Duration) -> Duration {
        self.until.map_or(timeout, |(_, deadline)| timeout.min(deadline.left()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_finding_ends_only_a_run_that_is_to_fail_fast() {
        let (patient, hasty) = (Limit::new(None), Limit::new(None).failing_fast(true));
        assert_eq!(hasty.reached(), None);
        patient.found();
        hasty.found();
        assert_eq!((patient.reached(), hasty.reached()), (None, Some(Halt::Found)));
    }

    #[test]
    fn what_the_system_refuses_ends_no_run_that_has_begun() {
        let full = || io::Error::from_raw_os_error(libc::ENOSPC);
        let halt = Halt::of(&ServerError::Harness(full()));
        assert_eq!(halt, Some(Halt::Refused(libc::ENOSPC)));
        assert!(halt.unwrap().reason().contains(&full().to_string()));
        let wrapped = io::Error::other(HaproxyError::CannotRun { path: String::new(), source: full() });
        let cannot = HaproxyError::CannotRun { path: String::new(), source: wrapped };
        assert_eq!(Halt::of(&ServerError::Haproxy(cannot)), Some(Halt::Refused(libc::ENOSPC)));
        assert_eq!(Halt::of(&ServerError::Missing(String::new())), None);
        assert_eq!(Halt::of(&ServerError::Harness(io::Error::other("the trace is gone"))), None);
    }
}
