//! The one line with which a command fails, and its exit code.

use std::io;
use std::path::PathBuf;

use crate::outcome::Exit;
use crate::server::haproxy::HaproxyError;
use crate::server::nbdkit::ServerError;

/// One line on standard error, and the exit code that goes with it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    pub(super) message: String,
    /// A pipe had no reader any more.
    pub(super) broken_pipe: bool,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl ToString) -> Failure {
        Failure { exit, message: message.to_string(), broken_pipe: false }
    }
}

/// Returns the working directory; that it was removed is an error that says so.
pub(super) fn working_directory() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| {
        let what = format!("the working directory cannot be found ({error}): change to one that is there");
        Failure::new(Exit::Harness, what)
    })
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Failure {
        let exit = match error {
            ServerError::Harness(_) | ServerError::Haproxy(HaproxyError::Harness(_)) => Exit::Harness,
            _ => Exit::NoServer,
        };
        Failure::new(exit, error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        let broken_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        Failure { broken_pipe, ..Failure::new(Exit::Harness, error) }
    }
}
