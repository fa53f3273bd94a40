//! One run, told to any number of reporters.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use super::place::{Place, Unwritten};
use super::progress::Progress;
use super::reports::Opened;
use crate::report::Reporter;

/// Hands what happens to every reporter. One that cannot write is told nothing more, and takes nothing from the others.
pub(super) struct Relay {
    reporters: Vec<(Box<dyn Reporter>, Place)>,
    progress: Progress,
    unwritten: Vec<Unwritten>,
    /// Something was told.
    spoken: Rc<Cell<bool>>,
}

impl Relay {
    /// `spoken` tells its owner that something was told.
    pub(super) fn new(opened: Vec<Opened>, spoken: Rc<Cell<bool>>) -> Relay {
        let reporters = opened.into_iter().map(|(format, to, place)| (format.reporter(to), place)).collect();
        Relay { reporters, progress: Progress::new(), unwritten: Vec::new(), spoken }
    }

    /// What is told comes where the line of the progress was.
    pub(super) fn each(&mut self, mut tell: impl FnMut(&mut dyn Reporter) -> io::Result<()>) {
        self.progress.clear();
        self.spoken.set(true);
        let unwritten = &mut self.unwritten;
        self.reporters.retain_mut(|(reporter, place)| match tell(reporter.as_mut()) {
            Ok(()) => true,
            Err(error) => {
                unwritten.push(place.failure(error));
                false
            }
        });
    }

    /// See [`Progress::show`].
    pub(super) fn progress(&self, done: usize, all: usize, what: &str) {
        self.progress.show(done, all, what);
    }

    /// Tells of the end, and puts every report into its place; returns those that could not be written.
    pub(super) fn finish(mut self, tell: impl FnMut(&mut dyn Reporter) -> io::Result<()>) -> Vec<Unwritten> {
        self.each(tell);
        for (_, place) in &mut self.reporters {
            if let Err(unwritten) = place.finish() {
                self.unwritten.push(unwritten);
            }
        }
        self.unwritten
    }
}
