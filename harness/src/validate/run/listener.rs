//! Who is told of a validation while it runs.

use crate::validate::checks::check::ModuleCheck;
use crate::validate::verdict::validation::Subject;

/// Told of checks as they are judged.
pub trait Listener {
    /// A run begins.
    fn begins(&mut self, subject: &Subject);
    /// `done` checks of `all` are judged, and this one is the next.
    fn playing(&mut self, done: usize, all: usize, check: &'static ModuleCheck);
}

/// Nobody listens.
impl Listener for () {
    fn begins(&mut self, _: &Subject) {}
    fn playing(&mut self, _: usize, _: usize, _: &'static ModuleCheck) {}
}
