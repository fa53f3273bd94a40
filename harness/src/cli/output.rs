//! Standard output and standard error of the command itself.

use std::fmt::Display;
use std::io::{self, Write};

use crate::foreign::visible::visible;

/// Standard output, of which an error says that it is.
pub(super) struct Output<W>(W);

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(of_output)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(of_output)
    }
}

pub(super) fn of_output(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))
}

/// Standard output, for a verb that has no reports.
pub(super) fn output() -> Output<anstream::AutoStream<io::StdoutLock<'static>>> {
    Output(anstream::stdout().lock())
}

/// Writes one line to standard error. Where that cannot be written to, the exit code alone has to tell it.
pub(super) fn complain(what: impl Display) {
    // Names of files stand in it, which anybody can have made.
    let _ = writeln!(anstream::stderr(), "layers: {}", visible(&what.to_string()));
}
