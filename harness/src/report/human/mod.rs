//! The report for people: what was judged, what broke, what was left out and why.

mod check;
mod conform;
mod finding;
mod style;
mod validate;
mod watch;

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::account::JudgedServer;
use super::wrapped::one_line;
use super::{Begun, Outcome, Reporter};
use crate::outcome::{Cause, Exit, Fault, Standing};
use style::{style_of, word_of};

pub use check::write_broken;
pub use watch::write_live;

/// Findings that are told as they come; those that come later are told at the end.
const MOST_TOLD: usize = 16;

/// Writes to `W`, which drops the colours where they do not belong.
#[derive(Debug)]
pub struct Human<W> {
    to: W,
    /// Causes of which was told as they came.
    told: BTreeSet<Cause>,
    /// The sets of parameters that are judged, where there are several.
    sets: Vec<(String, Exit)>,
}

impl<W: Write> Human<W> {
    /// Writes to `to`.
    pub fn new(to: W) -> Human<W> {
        Human { to, told: BTreeSet::new(), sets: Vec::new() }
    }
}

impl<W: Write> Reporter for Human<W> {
    fn begin(&mut self, begun: Begun<'_>) -> io::Result<()> {
        match begun {
            Begun::Server(plan) => conform::begin(&mut self.to, plan),
            Begun::Modules(subject) => validate::begin(&mut self.to, subject),
        }
    }

    /// In one line, the first time: the rest is told at the end.
    fn found(&mut self, fault: &Fault) -> io::Result<()> {
        let told = matches!(fault.standing, Standing::Known { .. } | Standing::Follows);
        if told || !self.told.insert(Cause::of(fault)) || self.told.len() > MOST_TOLD {
            return Ok(());
        }
        let (style, word) = word_of(fault);
        let line = one_line(&format!("{} in {}: {}", fault.what, fault.scenario, fault.seen()));
        writeln!(self.to, "  {style}{word:<5}{style:#}  {line}")?;
        self.to.flush()
    }

    fn trace(&mut self, judged: &JudgedServer<'_>) -> io::Result<()> {
        check::write(&mut self.to, judged)
    }

    fn end(&mut self, outcome: Outcome<'_>) -> io::Result<()> {
        match outcome {
            Outcome::Server(plan, conformance) => conform::People { to: &mut self.to }.all(plan, conformance),
            Outcome::Modules(validation, files) => {
                validate::write(&mut self.to, validation, files)?;
                if let Some(set) = &validation.set {
                    self.sets.push((set.clone(), validation.exit()));
                    writeln!(self.to)?;
                }
                self.to.flush()
            }
            // Each trace that somebody has named was told of as it was judged.
            Outcome::Traces(account) if account.command.is_none() => Ok(()),
            Outcome::Traces(account) => watch::write(&mut self.to, account),
        }
    }

    fn close(&mut self, exit: Exit) -> io::Result<()> {
        if self.sets.is_empty() {
            return Ok(());
        }
        for (set, exit) in &self.sets {
            writeln!(self.to, "set `{set}`: exit {}", exit.code())?;
        }
        let style = style_of(exit);
        writeln!(self.to, "{style}exit {}: {}{style:#}", exit.code(), exit.meaning())?;
        self.to.flush()
    }
}
