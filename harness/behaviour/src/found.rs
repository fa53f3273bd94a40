//! A server in which an instrument finds itself, and which the harness has not started.

use serde::{Deserialize, Serialize};

/// What an instrument knows of such a server before it has called anything. The first event of a trace carries it, in place of
/// the harness's description of the run; the words of the command line stand beside it, with a NUL behind each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// `nbdkit` or `haproxy`.
    pub found: String,
    /// Its version as it calls itself; empty where it cannot be told.
    pub version: String,
    /// The process that has loaded the instrument.
    pub pid: u32,
    /// Its working directory then.
    pub directory: String,
    /// It has got listening sockets from its parent (LISTEN_FDS).
    pub activated: bool,
}
