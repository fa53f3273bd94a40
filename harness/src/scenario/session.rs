//! What clients of HAProxy do: the script of a session, in place of a script of NBD clients.

use layers_trace::Trial;

use crate::server::haproxy::Loading;
use crate::version::Version;

/// A run of HAProxy: its configuration, and what its clients do.
#[derive(Clone, Debug)]
pub struct Session {
    /// Text of the configuration; `{dir}` in it is the directory of the run.
    pub configuration: &'static str,
    /// What stands there for `{buffers}`.
    pub buffers: &'static str,
    /// Options of the server, beyond its configuration.
    pub arguments: &'static [&'static str],
    /// How the instrument gets into the server.
    pub load: Loading,
    /// The first version that it makes sense for.
    pub since: Version,
    /// What the clients do, one step after another.
    pub steps: Vec<SessionStep>,
    /// The server is to stop in the middle, on purpose.
    pub dies: bool,
}

/// A socket of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// The command line, with all rights.
    Cli,
    /// The command line, with the rights of an operator.
    Operator,
    /// The command line, with those of a user.
    User,
    /// The command line of the master process.
    Master,
    /// HTTP.
    Http,
}

impl Socket {
    /// Its file in the directory of the run.
    pub fn file(self) -> &'static str {
        match self {
            Socket::Cli => "cli",
            Socket::Operator => "operator",
            Socket::User => "user",
            Socket::Master => "master",
            Socket::Http => "http",
        }
    }
}

/// One step. Clients are numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionStep {
    /// Connect.
    Connect(u32, Socket),
    /// Send this.
    Send(u32, String),
    /// Read until what was read ends like this.
    ReadUntil(u32, &'static str),
    /// Read so many bytes, or a little more.
    ReadBytes(u32, usize),
    /// Read until the server closes the connection.
    ReadToEnd(u32),
    /// Nothing more is sent.
    HalfClose(u32),
    /// Close the socket without a word.
    HangUp(u32),
    /// A connection of its own for these commands: send them, read all answers, close. The master is asked until it answers.
    Ask(Socket, String),
    /// The same, without anything that has to be answered: the server may be about to die.
    Perhaps(Socket, String),
    /// The same for a server that may have no memory for an answer: nobody waits for it long.
    Attempt(Socket, String),
    /// Wait until handlers have returned this often since a client connected last.
    Handled(u64),
    /// Wait until all commands have been released.
    Released,
    /// Read one HTTP answer, which must have this status.
    Response(u32, u16),
    /// Wait until the server has nothing to do before it hears of its clients again.
    Idle,
    /// For each call at which the server waits for its client a connection of its own that sends this, reads until so many
    /// calls have been made, and closes.
    LeaveAtEveryCall(Socket, String),
    /// The same for every keyword with a handler that has no scenario of its own: what a server has beside those of its
    /// project's.
    LeaveOthersAtEveryCall,
    /// Every keyword that the server has registered, each on a connection of its own, with sensible arguments or none.
    EveryKeyword {
        /// With arguments, where the harness knows some.
        complete: bool,
    },
    /// These clients at the same time, each with these commands, as often as this.
    Crowd {
        /// How many.
        clients: u32,
        /// Commands of a client, each on a connection of its own.
        commands: Vec<String>,
    },
    /// This is tried of each of these commands.
    Try(Trial, Tried),
    /// Every session of the command line is shut down by another one.
    ShutDownSessions,
    /// Send the server this signal.
    Signal(i32),
    /// Ask the master until it says that it has been reloaded.
    Reloaded,
    /// Kill the worker that ran the last command.
    KillWorker,
}

/// Commands of which something is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// All that the server has, with sensible arguments and without.
    Found,
    /// This one.
    Only(&'static str),
    /// This one of the harness's own, where the server has nothing else to show.
    Own(&'static str),
}

/// A command on a connection of its own, and its answer.
pub fn ask(command: &str) -> SessionStep {
    SessionStep::Ask(Socket::Cli, command.to_owned())
}

/// Arguments with which a keyword does something; the names are those of the configurations in `fixtures/haproxy`.
pub const ARGUMENTS: &[(&str, &str)] = &[
    ("add acl", "{dir}/acl added"),
    ("add map", "{dir}/map added value"),
    ("add server", "shop/new 127.0.0.1:9"),
    ("clear acl", "{dir}/acl"),
    ("clear counters", "all"),
    ("clear map", "{dir}/map"),
    ("clear table", "shop"),
    ("del acl", "{dir}/acl added"),
    ("del map", "{dir}/map added"),
    ("del server", "shop/none"),
    ("disable agent", "shop/one"),
    ("disable frontend", "idle"),
    ("disable health", "shop/one"),
    ("disable server", "shop/one"),
    ("enable agent", "shop/one"),
    ("enable frontend", "idle"),
    ("enable health", "shop/one"),
    ("enable server", "shop/one"),
    ("get acl", "{dir}/acl one"),
    ("get map", "{dir}/map one"),
    ("get var", "proc.layers"),
    ("get weight", "shop/one"),
    ("prepare acl", "{dir}/acl"),
    ("prepare map", "{dir}/map"),
    ("set map", "{dir}/map one other"),
    ("set maxconn frontend", "idle 10"),
    ("set maxconn global", "150"),
    ("set maxconn server", "shop/one 10"),
    ("set rate-limit", "connections global 1000"),
    ("set server", "shop/one weight 10"),
    ("set severity-output", "number"),
    ("set table", "shop key 127.0.0.1 data.gpc0 1"),
    ("set timeout", "cli 10"),
    ("set var", "proc.layers int(1)"),
    ("set weight", "shop/one 20"),
    ("show acl", "{dir}/acl"),
    ("show cache", "pages"),
    ("show errors", "web"),
    ("show events", "ring"),
    ("show map", "{dir}/map"),
    ("show resolvers", "names"),
    ("show sess", "all"),
    ("show stat", "-1 7 -1"),
    ("show table", "shop"),
    ("show trace", "stream"),
    ("shutdown frontend", "spare"),
    ("shutdown session", "0x1"),
    ("shutdown sessions server", "shop/one"),
    ("trace", "0"),
    ("set profiling", "tasks on"),
];

/// Keywords that are not called: they end the session or the server, or never answer.
pub const LEFT_OUT: &[&str] = &["_getsocks", "quit", "prompt", "wait", "debug dev"];
