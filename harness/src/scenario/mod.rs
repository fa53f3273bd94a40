//! What to run: a stack, how the server is started, what clients do, and how the run ends.
//!
//! A scenario of one's own, played on the installed nbdkit:
//!
//! ```
//! use layers::client::nbd::Wishes;
//! use layers::history::End;
//! use layers::scenario::{Player, Scenario, Step, command};
//! use layers::server::nbdkit::Nbdkit;
//! use layers::stack::Stack;
//! use layers::trace::Operation;
//!
//! let scenario = Scenario::new("mine", "one client reads once", Stack::reference(1)).script([
//!     Step::Connect(1, Wishes::default()),
//!     Step::Go(1, String::new()),
//!     Step::Request(1, command(Operation::Read, 0, 512, 0)),
//!     Step::Disconnect(1),
//! ]);
//! let server = Nbdkit::find(None)?;
//! let recording = Player::new(&server).play(&scenario)?;
//! assert_eq!(recording.mishaps, []);
//! assert_eq!(recording.end, Some(End::Exited(0)));
//! assert_eq!(recording.judgement.result("close.exactly-once").map(|said| said.broken), Some(0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod expectation;
mod helper;
pub mod mishap;
pub mod named;
mod patience;
pub mod play;
mod player;
pub mod session;
pub mod session_play;
mod subject;
mod unplayable;

use layers_trace::{Callback, Operation};
use serde::{Deserialize, Serialize};

use crate::client::Command;
use crate::client::nbd::Wishes;
use crate::client::raw::Message;
pub use crate::protocol::flag;
use crate::run::Start;
use crate::run::stack::Stack;
use crate::version::Version;

pub use expectation::Expectation;
pub use helper::{Helper, NBDINFO};
pub use mishap::Mishap;
pub use patience::Patience;
pub use player::{Player, Recording, SessionPlayer};
pub use session::Session;
pub use subject::UnfitSubject;
pub use unplayable::Unplayable;

use crate::version::Which;

/// A run, before it runs.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Stable name: family, then member.
    pub name: String,
    /// What it is about, in one line.
    pub about: &'static str,
    /// Layers and options.
    pub stack: Stack,
    /// How the server is made to serve.
    pub start: Start,
    /// What the clients do, one step after another.
    pub script: Vec<Step>,
    /// How the run ends.
    pub ending: Ending,
    /// The command of `--run`, if it is to be one that does not wait for the script.
    pub command: Option<&'static str>,
    /// The programs beside the server that it runs: without them it is not played.
    pub needs: &'static [Helper],
    /// The server must not get as far as serving.
    pub start_fails: bool,
    /// The exit status, where the server gets as far as serving.
    pub exit_status: i32,
    /// Decided by a race that the script provokes: played this often, and reported as a rate. 1 for all others.
    pub tries: u32,
    /// The server runs on one CPU only, where its threads take turns and do not meet.
    pub one_cpu: bool,
    /// Its calls come in the same order in every run, so that its tree can be stored and compared.
    pub repeatable: bool,
    /// Ids of the rules that its own layers or clients break on purpose.
    pub breaks: &'static [&'static str],
    /// What it must show; a run that does not is inconclusive, and another is tried.
    pub expects: Vec<Expectation>,
    /// What clients of HAProxy do; `None` in a scenario of nbdkit.
    pub session: Option<Session>,
}

impl Scenario {
    /// A stack that serves on a socket, no clients, stopped with SIGTERM.
    pub fn new(name: impl Into<String>, about: &'static str, stack: Stack) -> Scenario {
        Scenario {
            name: name.into(),
            about,
            stack,
            start: Start::Foreground,
            script: Vec::new(),
            ending: Ending::Stop(STOP),
            command: None,
            needs: &[],
            start_fails: false,
            exit_status: 0,
            tries: 1,
            one_cpu: false,
            repeatable: true,
            breaks: &[],
            expects: Vec::new(),
            session: None,
        }
    }

    /// With this script.
    #[must_use]
    pub fn script(mut self, script: impl IntoIterator<Item = Step>) -> Scenario {
        self.script = script.into_iter().collect();
        self
    }

    /// Started in this way.
    #[must_use]
    pub fn start(mut self, start: Start) -> Scenario {
        self.start = start;
        self
    }

    /// Ended in this way.
    #[must_use]
    pub fn ending(mut self, ending: Ending) -> Scenario {
        self.ending = ending;
        self
    }

    /// One whose calls may come in another order each time: no tree of it is stored.
    #[must_use]
    pub fn unordered(mut self) -> Scenario {
        self.repeatable = false;
        self
    }

    /// One whose layers or clients break these rules on purpose: that they do is no finding.
    #[must_use]
    pub fn breaking(mut self, rules: &'static [&'static str]) -> Scenario {
        self.breaks = rules;
        self
    }

    /// One that must show this.
    #[must_use]
    pub fn expects(mut self, expects: Vec<Expectation>) -> Scenario {
        self.expects = expects;
        self
    }

    /// The server that it is for.
    pub fn server(&self) -> Which {
        if self.session.is_some() { Which::Haproxy } else { Which::Nbdkit }
    }

    /// The first version of its server that it makes sense for.
    pub fn since(&self) -> Version {
        self.session.as_ref().map_or(Version(0, 0, 0), |session| session.since)
    }

    /// One of several tries of a race.
    pub fn is_race(&self) -> bool {
        self.tries > 1
    }

    /// Whether it shows what it is about depends on the time that things take: nothing else of ours may run meanwhile.
    pub fn needs_quiet(&self) -> bool {
        self.is_race() || self.one_cpu
    }
}

/// The signal that stops a server in the ordinary way.
pub const STOP: i32 = libc::SIGTERM;

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Every client that is still there leaves, all closes are waited for, then this signal.
    Stop(i32),
    /// This signal while clients are connected; they leave after it.
    Interrupt(i32),
    /// This signal at once, whatever is going on; clients are not waited for.
    Cut(i32),
    /// The server ends by itself once its only client has left (`-s`), or once the command of `--run` has ended,
    /// which waits for all closes.
    ByItself,
    /// The command of `--run`, or the server's parent, ends while clients are connected.
    CommandEnds,
}

/// One step of the clients' script. Clients are numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Connect and read the greeting.
    Connect(u32, Wishes),
    /// Connect, and complete STARTTLS before anything else.
    ConnectTls(u32),
    /// A raw client that is negotiating completes STARTTLS, and is one over libnbd with these wishes from then on.
    StartTls(u32, Wishes),
    /// Connect with a raw client and read the greeting. All other steps are for both kinds of clients, unless they say.
    ConnectRaw(u32),
    /// Connect with a raw client and wait for nothing.
    Dial(u32),
    /// Read the greeting that [`Step::Dial`] has not waited for.
    Greeting(u32),
    /// A raw client sends these messages in one write, and waits for nothing.
    Send(u32, Vec<Message>),
    /// Wait for all answers that this client has not got; any that is an error makes the step fail.
    Answers(u32),
    /// [`Step::Send`] and [`Step::Answers`].
    Say(u32, Vec<Message>),
    /// A raw client waits until the server has closed the connection.
    Dropped(u32),
    /// A raw client closes its socket in the direction of the server, and goes on listening.
    HalfClose(u32),
    /// Wait until this layer has entered this callback so many times since the server was started.
    Entered(u8, Callback, u64),
    /// Send the server this signal, and go on.
    Signal(i32),
    /// A client over libnbd asks until the server shows that it is shutting down: it refuses requests. Only where the
    /// outermost layer has no extents, so that no layer sees the questions.
    Noticed(u32),
    /// Connect and do not even read: a bare connection, closed again at once.
    Knock,
    /// Connect, wait for the greeting, and close without a word.
    Peek,
    /// List the exports.
    List(u32),
    /// Ask about this export.
    Info(u32, String),
    /// Select this export.
    Go(u32, String),
    /// Send one request and wait for its answer.
    Request(u32, Command),
    /// Send those of these requests that the server offers to serve, one after another; each may fail.
    Offered(u32, Vec<Command>),
    /// Send these requests in one go, then wait for all answers.
    Pipeline(u32, Vec<Command>),
    /// Send a request, and wait until the innermost layer has entered it; its answer is not waited for.
    Running(u32, Command),
    /// Leave negotiation.
    Abort(u32),
    /// Say goodbye, and wait until the server has closed the connection.
    Disconnect(u32),
    /// Close the socket without a word.
    HangUp(u32),
    /// The step in it must fail.
    Fails(Box<Step>),
    /// The step in it may fail or not.
    Perhaps(Box<Step>),
}

impl Step {
    /// This step, which must fail.
    #[must_use]
    pub fn fails(self) -> Step {
        Step::Fails(Box::new(self))
    }

    /// The client whose step it is.
    pub(crate) fn client(&self) -> Option<u32> {
        use Step::{
            Abort, Answers, Connect, ConnectRaw, ConnectTls, Dial, Disconnect, Dropped, Go, Greeting,
            HalfClose, HangUp, Info, List, Noticed, Offered, Pipeline, Request, Running, Say, Send, StartTls,
        };
        Some(match self.plain() {
            Connect(client, _) | Info(client, _) | Go(client, _) => *client,
            ConnectTls(client) | StartTls(client, _) | ConnectRaw(client) | Dial(client) => *client,
            Greeting(client) | Answers(client) | Dropped(client) | HalfClose(client) => *client,
            Send(client, _) | Say(client, _) | Request(client, _) | Running(client, _) => *client,
            Offered(client, _) | Pipeline(client, _) => *client,
            Noticed(client) | List(client) | Abort(client) | Disconnect(client) | HangUp(client) => *client,
            _ => return None,
        })
    }

    /// This step, which may fail.
    #[must_use]
    pub fn perhaps(self) -> Step {
        Step::Perhaps(Box::new(self))
    }
}

/// A request; offset and count in bytes.
pub fn command(operation: Operation, offset: u64, count: u32, flags: u32) -> Command {
    Command { operation, offset, count, flags }
}

/// One of every request, with and without its flags.
pub fn one_of_every_request() -> Vec<Command> {
    use Operation::{BlockStatus, Cache, Flush, Read, Trim, Write, Zero};
    vec![
        command(Read, 0, 512, 0),
        command(Write, 4096, 512, 0),
        command(Write, 8192, 512, flag::FUA),
        command(Read, 4000, 5000, 0),
        command(Flush, 0, 0, 0),
        command(Trim, 4096, 4096, 0),
        command(Trim, 8192, 4096, flag::FUA),
        command(Zero, 65536, 4096, 0),
        command(Zero, 65536, 4096, flag::NO_HOLE),
        command(Zero, 65536, 4096, flag::FUA),
        command(Zero, 65536, 4096, flag::FAST_ZERO),
        command(Cache, 0, 65536, 0),
        command(BlockStatus, 0, 1 << 20, 0),
        command(BlockStatus, 0, 1 << 20, flag::REQ_ONE),
    ]
}
