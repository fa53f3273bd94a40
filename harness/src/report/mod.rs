//! What people and programs read: a file a format.

pub mod human;
pub mod ndjson;
pub mod tree;

use std::io;

use crate::conform::{Conformance, ScenarioVerdict};
use crate::server::nbdkit::Nbdkit;

/// A format of the report of `conform`, told of things as they happen.
pub trait Reporter {
    /// A run begins.
    fn begin(&mut self, server: &Nbdkit, rules: usize, scenarios: usize) -> io::Result<()>;
    /// A scenario is over.
    fn scenario(&mut self, verdict: &ScenarioVerdict) -> io::Result<()>;
    /// The run is over.
    fn end(&mut self, server: &Nbdkit, conformance: &Conformance) -> io::Result<()>;
}
