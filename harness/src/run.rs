//! How a run was started: the harness writes it into the trace, so that a trace can be judged without the scenario.

pub mod credentials;
mod found;
pub(crate) mod options;
pub mod parameter;
pub mod stack;

pub use found::FoundServer;
pub use parameter::Parameter;

use serde::{Deserialize, Serialize};

use crate::version::Version;

/// How the server was made to serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// `-f -U SOCKET`.
    #[default]
    Foreground,
    /// `-U SOCKET`, forked into the background.
    Daemon,
    /// `-s`: one connection, on standard input and output.
    Single,
    /// `-U - --run COMMAND`.
    Captive,
    /// Socket activation (LISTEN_FDS).
    Activated,
    /// `--exit-with-parent -U SOCKET`, as the child of a shell.
    ExitWithParent,
    /// `--dump-plugin`.
    DumpPlugin,
    /// `--help`.
    Help,
    /// `--version`.
    Version,
    /// HAProxy's `-W`: a master process, and workers that it starts anew when it is told to.
    MasterWorker,
}

impl Start {
    /// The process that serves is another one than the one that is started.
    pub(crate) fn forks(self) -> bool {
        matches!(self, Start::Daemon | Start::Captive)
    }

    /// The process that is started is the server to its end.
    pub fn is_of_one_process(self) -> bool {
        !matches!(self, Start::Daemon | Start::Captive | Start::Activated | Start::ExitWithParent)
    }

    /// Serves clients, unless start-up fails.
    pub fn serves(self) -> bool {
        !matches!(self, Start::DumpPlugin | Start::Help | Start::Version)
    }
}

/// `--tls`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// No TLS.
    #[default]
    Off,
    /// The client may upgrade.
    On,
    /// The client must upgrade.
    Require,
}

/// What the harness knows of a run before it starts. The first event of a trace carries it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// `nbdkit` or `haproxy`.
    pub server: String,
    /// Of the server, as it says itself.
    pub version: Version,
    /// Name of the scenario, or `trace` for a stack and clients of the user's.
    pub scenario: String,
    /// How the server was made to serve.
    pub start: Start,
    /// Number of filters.
    pub filters: u8,
    /// Parameters after the plugin, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// `-r` was given.
    #[serde(default)]
    pub readonly: bool,
    /// `--tls`.
    #[serde(default)]
    pub tls: Tls,
    /// What `-t` gave; the server's default is 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// `-o` was given: no negotiation, a client is served as soon as it has connected.
    #[serde(default)]
    pub oldstyle: bool,
    /// `--no-sr` was given.
    #[serde(default)]
    pub no_structured_replies: bool,
    /// For each filter, the innermost first: callbacks ([`layers_trace::Callback::bit`]s) with which it asks the layer below
    /// just what it is asked, and answers what it is told. Nothing is known of filters that are not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hands_on: Vec<u64>,
    /// No layer ends the process by itself: no exit(3), no abort(3).
    #[serde(default)]
    pub never_exits: bool,
    /// Digests of buffers and lists of extents are in the trace.
    #[serde(default)]
    pub digests: bool,
    /// Every client of this run wrote what it asked into the trace. False when the user's own programs drive it.
    pub client_log: bool,
}
