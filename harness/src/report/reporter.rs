//! What each format of a report is told of a run, whichever verb it is of.

use std::io;
use std::path::PathBuf;

use super::account::{Account, JudgedServer};
use crate::conform::{ConformPlan, Conformance, ScenarioVerdict};
use crate::outcome::{Exit, Fault};
use crate::validate::{ModuleCheck, Subject, Validation};

/// What is about to be judged.
#[derive(Clone, Copy, Debug)]
pub enum Begun<'a> {
    /// A server, by `conform`.
    Server(&'a ConformPlan<'a>),
    /// Somebody's modules, by `validate`.
    Modules(&'a Subject),
}

/// What a run says when it is over.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// `conform` has judged a server.
    Server(&'a ConformPlan<'a>, &'a Conformance),
    /// `validate` has judged modules; the files hold the cases of the findings, in their order, where they were written.
    Modules(&'a Validation, &'a [PathBuf]),
    /// `watch` or `check` has judged the traces of servers.
    Traces(&'a Account<'a>),
}

/// A format of a report, told of things as they happen.
pub trait Reporter {
    /// A run begins.
    fn begin(&mut self, _begun: Begun<'_>) -> io::Result<()> {
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
    /// `done` checks of `all` are judged, and this one is the next.
    fn playing(&mut self, _done: usize, _all: usize, _check: &ModuleCheck) -> io::Result<()> {
        Ok(())
    }
    /// A trace that somebody has named is judged.
    fn trace(&mut self, _judged: &JudgedServer<'_>) -> io::Result<()> {
        Ok(())
    }
    /// The run is over.
    fn end(&mut self, outcome: Outcome<'_>) -> io::Result<()>;
    /// Everything is over: all sets of parameters, of which each was told of as a run of its own, end with this code together.
    fn close(&mut self, _exit: Exit) -> io::Result<()> {
        Ok(())
    }
}
