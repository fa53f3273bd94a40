//! A format that is written in one piece, when the run is over.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use super::cases::Run;
use super::{Reporter, ValidationReporter};
use crate::conform::{Conformance, Plan};
use crate::validate::Validation;
use crate::verdict::Exit;

/// How such a format is written.
pub type Writer = fn(&mut dyn Write, &Run) -> io::Result<()>;

/// Writes to `W`.
pub struct AtEnd<W> {
    to: W,
    write: Writer,
    /// What is written when everything is over.
    runs: Vec<Run>,
}

impl<W> fmt::Debug for AtEnd<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtEnd").finish_non_exhaustive()
    }
}

impl<W: Write> AtEnd<W> {
    /// Writes to `to`.
    pub fn new(to: W, write: Writer) -> AtEnd<W> {
        AtEnd { to, write, runs: Vec::new() }
    }

    fn run(&mut self, run: &Run) -> io::Result<()> {
        (self.write)(&mut self.to, run)?;
        self.to.flush()
    }
}

impl<W: Write> Reporter for AtEnd<W> {
    fn end(&mut self, plan: &Plan<'_>, conformance: &Conformance) -> io::Result<()> {
        self.run(&Run::of_conformance(plan, conformance))
    }
}

impl<W: Write> ValidationReporter for AtEnd<W> {
    fn end(&mut self, validation: &Validation, files: &[PathBuf]) -> io::Result<()> {
        self.runs.push(Run::of_validation(validation, files));
        Ok(())
    }

    fn close(&mut self, exit: Exit) -> io::Result<()> {
        let run = Run::of_sets(std::mem::take(&mut self.runs), exit);
        run.map_or(Ok(()), |run| self.run(&run))
    }
}
