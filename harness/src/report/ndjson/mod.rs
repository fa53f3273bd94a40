//! The reports for programs: one JSON object a line, from the first thing that happens on, with a version in the first line.
//!
//! What a line holds is declared once, as a type; the schemas in `schemas/` are made from those types.

pub mod conform;
mod line;
#[cfg(feature = "schema")]
pub mod schema;
pub mod traces;
pub mod validate;

use std::io::{self, Write};

use super::{Begun, Outcome, Reporter};
use crate::conform::ScenarioVerdict;
use crate::outcome::Exit;
use crate::validate::ModuleCheck;

pub use line::Ndjson;

impl<W: Write> Reporter for Ndjson<W> {
    fn begin(&mut self, begun: Begun<'_>) -> io::Result<()> {
        match begun {
            Begun::Server(plan) => self.line(&conform::begin(plan)),
            Begun::Modules(subject) => self.line(&validate::begin(subject)),
        }
    }

    fn scenario(&mut self, verdict: &ScenarioVerdict) -> io::Result<()> {
        self.line(&conform::scenario(verdict))
    }

    fn playing(&mut self, done: usize, all: usize, check: &ModuleCheck) -> io::Result<()> {
        self.line(&validate::ValidateLine::Playing { id: check.id, done, of: all })
    }

    fn end(&mut self, outcome: Outcome<'_>) -> io::Result<()> {
        match outcome {
            Outcome::Server(plan, conformance) => conform::write(self, plan, conformance),
            Outcome::Modules(validation, files) => {
                self.sets |= validation.set.is_some();
                validate::write(self, validation, files)
            }
            Outcome::Traces(account) => traces::write(self, account),
        }
    }

    fn close(&mut self, exit: Exit) -> io::Result<()> {
        if !self.sets {
            return Ok(());
        }
        self.line(&validate::ValidateLine::Sets { exit: exit.code(), meaning: exit.meaning() })
    }
}
