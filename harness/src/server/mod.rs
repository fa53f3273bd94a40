//! Real servers as child processes: start, wait, stop, reap; nothing is left behind.

pub(crate) mod copies;
pub(crate) mod descent;
mod directory;
pub mod guard;
pub mod haproxy;
pub(crate) mod headroom;
mod inherited;
pub mod instruments;
pub mod interrupt;
pub mod nbdkit;
mod observer;
pub mod process;
pub(crate) mod removal;
mod script_directories;
pub(crate) mod shortage;
pub(crate) mod tracing;
pub(crate) mod watched;

pub use observer::Observer;

use std::path::Path;

use haproxy::Haproxy;
use nbdkit::{Nbdkit, ServerError};

use crate::version::Version;

pub use crate::version::Which;

/// An installed server of either kind.
#[derive(Clone, Debug)]
pub enum Installed {
    /// nbdkit.
    Nbdkit(Nbdkit),
    /// HAProxy.
    Haproxy(Haproxy),
}

impl Installed {
    /// Asks the program at `path`, or the usual one, what it is.
    pub fn find(which: Which, path: Option<&Path>) -> Result<Installed, ServerError> {
        Ok(match which {
            Which::Nbdkit => Installed::Nbdkit(Nbdkit::find(path)?),
            Which::Haproxy => Installed::Haproxy(Haproxy::find(path)?),
        })
    }

    /// Which it is.
    pub fn which(&self) -> Which {
        match self {
            Installed::Nbdkit(_) => Which::Nbdkit,
            Installed::Haproxy(_) => Which::Haproxy,
        }
    }

    /// Its version.
    pub fn version(&self) -> Version {
        match self {
            Installed::Nbdkit(server) => server.version,
            Installed::Haproxy(server) => server.version,
        }
    }

    /// Its program.
    pub fn path(&self) -> &Path {
        match self {
            Installed::Nbdkit(server) => &server.path,
            Installed::Haproxy(server) => &server.path,
        }
    }
}
