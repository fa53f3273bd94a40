//! Whose duty a rule is.

use std::fmt;

/// Whose duty a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// nbdkit itself.
    Server,
    /// The plugin.
    Plugin,
    /// The filter that makes the call, or whose callback it is.
    Filter,
    /// Whichever plugin or filter did it.
    Module,
    /// The client.
    Client,
    /// A keyword's or an applet's functions; those of HAProxy's own come with the server.
    Handler,
}

impl Party {
    /// Whoever installs the server is owed this by it, not by something that they add.
    pub fn comes_with_server(self) -> bool {
        matches!(self, Party::Server | Party::Handler)
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Party::Server => "server",
            Party::Plugin => "plugin",
            Party::Filter => "filter",
            Party::Module => "plugin or filter",
            Party::Client => "client",
            Party::Handler => "handler",
        })
    }
}
