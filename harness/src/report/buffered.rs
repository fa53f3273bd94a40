//! A format that is written in one piece, when the run is over.

use std::fmt;
use std::io::{self, Write};

use super::{Outcome, Reporter, traces};
use crate::cases::CaseRun;
use crate::outcome::Exit;

/// How such a format is written.
pub type Writer = fn(&mut dyn Write, &CaseRun) -> io::Result<()>;

/// Writes to `W`.
pub struct Buffered<W> {
    to: W,
    write: Writer,
    /// What is written when everything is over.
    runs: Vec<CaseRun>,
}

impl<W> fmt::Debug for Buffered<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffered").finish_non_exhaustive()
    }
}

impl<W: Write> Buffered<W> {
    /// Writes to `to`.
    pub fn new(to: W, write: Writer) -> Buffered<W> {
        Buffered { to, write, runs: Vec::new() }
    }

    fn run(&mut self, run: &CaseRun) -> io::Result<()> {
        (self.write)(&mut self.to, run)?;
        self.to.flush()
    }
}

impl<W: Write> Reporter for Buffered<W> {
    fn end(&mut self, outcome: Outcome<'_>) -> io::Result<()> {
        match outcome {
            Outcome::Server(plan, conformance) => self.run(&CaseRun::of_conformance(plan, conformance)),
            Outcome::Modules(validation, files) => {
                self.runs.push(CaseRun::of_validation(validation, files));
                Ok(())
            }
            Outcome::Traces(account) => self.run(&traces::cases(account)),
        }
    }

    fn close(&mut self, exit: Exit) -> io::Result<()> {
        let run = CaseRun::of_sets(std::mem::take(&mut self.runs), exit);
        run.map_or(Ok(()), |run| self.run(&run))
    }
}
