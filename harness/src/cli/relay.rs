//! One run, told to any number of reporters.

use super::progress::Progress;

/// Hands what happens to every reporter, and keeps the first error of writing for the end.
pub(super) struct Relay<R: ?Sized> {
    reporters: Vec<Box<R>>,
    progress: Progress,
    written: std::io::Result<()>,
}

impl<R: ?Sized> Relay<R> {
    pub(super) fn new(reporters: impl Iterator<Item = Box<R>>) -> Relay<R> {
        Relay { reporters: reporters.collect(), progress: Progress::new(), written: Ok(()) }
    }

    /// What is told comes where the line of the progress was.
    pub(super) fn each(&mut self, mut tell: impl FnMut(&mut R) -> std::io::Result<()>) {
        self.progress.clear();
        for reporter in &mut self.reporters {
            if self.written.is_ok() {
                self.written = tell(reporter.as_mut());
            }
        }
    }

    /// See [`Progress::show`].
    pub(super) fn progress(&self, done: usize, all: usize, what: &str) {
        self.progress.show(done, all, what);
    }

    /// Whether everything could be written.
    pub(super) fn finish(self) -> std::io::Result<()> {
        self.written
    }
}
