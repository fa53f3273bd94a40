//! What each format of a report is told of a run.

use std::io;
use std::path::PathBuf;

use crate::conform::{ConformPlan, Conformance, ScenarioVerdict};
use crate::outcome::{Exit, Fault};
use crate::validate::{ModuleCheck, Subject, Validation};

/// A format of the report of `conform`, told of things as they happen.
pub trait Reporter {
    /// A run begins.
    fn begin(&mut self, _plan: &ConformPlan<'_>) -> io::Result<()> {
        Ok(())
    }
    /// This has been found, in the scenario of which is told next.
    fn found(&mut self, _fault: &Fault) -> io::Result<()> {
        Ok(())
    }
    /// A scenario is over.
    fn scenario(&mut self, _verdict: &ScenarioVerdict) -> io::Result<()> {
        Ok(())
    }
    /// The run is over.
    fn end(&mut self, plan: &ConformPlan<'_>, conformance: &Conformance) -> io::Result<()>;
}

/// A format of the report of `validate`, told of things as they happen.
pub trait ValidationReporter {
    /// A run begins.
    fn begin(&mut self, _subject: &Subject) -> io::Result<()> {
        Ok(())
    }
    /// `done` checks of `all` are judged, and this one is the next.
    fn playing(&mut self, _done: usize, _all: usize, _check: &ModuleCheck) -> io::Result<()> {
        Ok(())
    }
    /// The run is over; `files` hold the cases of the findings, in their order, where they were written.
    fn end(&mut self, validation: &Validation, files: &[PathBuf]) -> io::Result<()>;
    /// Everything is over: all sets of parameters, of which each was told of as a run of its own, end with this code together.
    fn close(&mut self, _exit: Exit) -> io::Result<()> {
        Ok(())
    }
}
