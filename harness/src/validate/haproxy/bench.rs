//! Servers with the subject in them, and what each has shown by its end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use layers_trace::Reader;
use rustix::process::Signal;

use super::subject::{HaproxyValidation, canonical, of_handlers};
use crate::campaign::halt::Limit;
use crate::client::asked::Asked;
use crate::client::haproxy_cli::{CliClient, CliError};
use crate::client::http;
use crate::conform::is_ground;
use crate::deadline::Deadline;
use crate::history::End;
use crate::rules;
use crate::run::Start;
use crate::server::haproxy::{
    self, Configuration, HaproxyError, HaproxyServer, Loading, ServeHaproxy, lua_error,
};
use crate::server::process::Woken;

/// Records of one server's trace.
const CAPACITY: u64 = 1 << 17;
/// How long a server may take to get ready, and to end.
const ENDS: Duration = Duration::from_secs(10);
/// Reads of a client that takes its time; after so many it hurries.
const SIPS: usize = 48;
const SIP: usize = 1;
const IDLE: Duration = Duration::from_millis(200);
/// An answer that is so much longer than it was has no end.
const MORE: usize = 1 << 16;

/// How large the server's buffers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Buffers {
    /// As the configuration says.
    #[default]
    Usual,
    /// Larger than any answer.
    Huge,
    /// Of two KiB, with little room in the socket.
    Small,
}

/// What a server runs under.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Conditions {
    pub(super) buffers: Buffers,
    /// Without the configuration and the modules.
    pub(super) bare: bool,
}

/// What one server has shown by its end, beside its answers.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// How it has died, if it was not told to.
    pub(super) crash: Option<String>,
    /// Errors of Lua.
    pub(super) lua: Vec<String>,
    /// Rules that handlers have broken.
    pub(super) findings: Vec<rules::Finding>,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// It was answered: a command's text, or status and body of a service's answer.
    Whole(Vec<u8>),
    /// No end came in time.
    Late,
    /// It goes on behind its end.
    Endless,
    /// The connection has ended, and the answer had not.
    Cut(String),
}

impl Answered {
    /// What came, where it came.
    pub(super) fn said(&self) -> String {
        match self {
            Answered::Whole(bytes) => format!("an answer of {} bytes", bytes.len()),
            Answered::Late => "no end of an answer in time".to_owned(),
            Answered::Endless => "an answer without an end".to_owned(),
            Answered::Cut(how) => how.clone(),
        }
    }
}

pub(super) struct Bench<'a> {
    validate: &'a HaproxyValidation,
    server: &'a haproxy::Haproxy,
    pub(super) limit: Limit,
    nothing: Configuration,
    servers: Cell<u32>,
    clients: Cell<u32>,
    rounds: RefCell<Vec<Round>>,
    exercised: RefCell<BTreeMap<&'static str, u64>>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(
        validate: &'a HaproxyValidation,
        server: &'a haproxy::Haproxy,
        limit: Limit,
    ) -> Bench<'a> {
        Bench {
            validate,
            server,
            limit,
            nothing: Configuration::of_user(&[]),
            servers: Cell::new(0),
            clients: Cell::new(0),
            rounds: RefCell::default(),
            exercised: RefCell::default(),
        }
    }

    pub(super) fn servers(&self) -> u32 {
        self.servers.get()
    }

    pub(super) fn modules(&self) -> &[PathBuf] {
        &self.validate.modules
    }

    pub(super) fn patience(&self) -> Duration {
        self.limit.of(self.validate.timeout)
    }

    pub(super) fn exercised(&self, id: &str) -> u64 {
        self.exercised.borrow().get(id).copied().unwrap_or(0)
    }

    /// What the servers that have ended since the last look have shown.
    pub(super) fn take_rounds(&self) -> Vec<Round> {
        self.rounds.take()
    }

    /// A server that is ready, or why there is none.
    pub(super) fn start(
        &self,
        conditions: &Conditions,
    ) -> Result<Result<HaproxyServer, String>, HaproxyError> {
        self.servers.set(self.servers.get() + 1);
        let mut settings = vec!["nbthread 1".to_owned()];
        match conditions.buffers {
            Buffers::Usual => {}
            Buffers::Huge => settings.push("tune.bufsize 1048576".to_owned()),
            Buffers::Small => settings.extend(
                ["tune.bufsize 2048", "tune.maxrewrite 256", "tune.sndbuf.client 4096"].map(str::to_owned),
            ),
        }
        let users = if conditions.bare { &self.nothing } else { &self.validate.configuration };
        if users.lua {
            settings.push("lua-load {dir}/collect.lua".to_owned());
        }
        let users = users.clone().with_global(&settings);
        let modules: Vec<PathBuf> = if conditions.bare {
            Vec::new()
        } else {
            self.modules().iter().map(|one| canonical(one)).collect()
        };
        let serve = ServeHaproxy {
            scenario: "validate",
            configuration: "global\n",
            users: Some(&users),
            modules: &modules,
            arguments: &[],
            start: Start::Foreground,
            load: Loading::Preload,
            capacity: CAPACITY,
            keep: None,
        };
        let mut server = self.server.start(&serve)?;
        Ok(match server.wait_ready(Deadline::after(self.limit.of(ENDS))) {
            Woken::Happened => Ok(server),
            Woken::Dead => Err(server.complaint()),
            Woken::Late => Err("it does not get ready".to_owned()),
        })
    }

    /// Tells it to stop, and takes in what it has shown.
    pub(super) fn end(&self, mut server: HaproxyServer) {
        let alive = server.process.end().is_none();
        if alive {
            let _ = server.signal(Signal::TERM);
        }
        let end = server.wait_for_end(Deadline::after(self.limit.of(ENDS)));
        let mut round = Round {
            crash: match (alive, end) {
                (true, None) => Some("it does not end after SIGTERM".to_owned()),
                (false, Some(End::Killed(signal))) => Some(format!("it is killed by signal {signal}")),
                (false, Some(End::Exited(code))) => Some(format!("it ends by itself, with status {code}")),
                (true, Some(End::Killed(signal))) if signal != libc::SIGTERM => {
                    Some(format!("it is killed by signal {signal} while it ends"))
                }
                _ => None,
            },
            lua: server.printed().lines().filter_map(lua_error).map(str::to_owned).collect(),
            findings: Vec::new(),
        };
        if let Some(trace) = server.trace() {
            let judgement = rules::judge(&Reader::of(&trace), of_handlers());
            if is_ground(&judgement.troubles) {
                for result in &judgement.results {
                    *self.exercised.borrow_mut().entry(result.rule.id).or_default() += result.exercised;
                }
                let of_others = |found: &&rules::Finding| !is_own(&judgement, found);
                round.findings = judgement.findings().filter(of_others).cloned().collect();
            }
        }
        self.rounds.borrow_mut().push(round);
    }

    /// Connects to where this is asked: a socket of the command line, or that of the frontend.
    pub(super) fn connect(
        &self,
        server: &HaproxyServer,
        asked: &Asked,
        socket: &str,
    ) -> Result<CliClient, CliError> {
        self.clients.set(self.clients.get() + 1);
        let socket = match asked {
            Asked::Command(_) => socket.to_owned(),
            Asked::Request(request) => {
                let frontend = self.validate.configuration.frontend(&request.frontend);
                frontend.map(|one| one.socket.clone()).unwrap_or_default()
            }
        };
        server.connect(self.clients.get(), &socket, Deadline::after(self.patience()))
    }

    /// Asks, and reads the answer to its end; `slow`: little at a time, each when the server waits for it. `known` is how long
    /// the answer was before.
    pub(super) fn ask(
        &self,
        server: &mut HaproxyServer,
        asked: &Asked,
        slow: bool,
        known: Option<usize>,
    ) -> Answered {
        self.ask_at(server, asked, "cli", slow, known)
    }

    pub(super) fn ask_at(
        &self,
        server: &mut HaproxyServer,
        asked: &Asked,
        socket: &str,
        slow: bool,
        known: Option<usize>,
    ) -> Answered {
        let mut client = match self.connect(server, asked, socket) {
            Ok(client) => client,
            Err(error) => return Answered::Cut(format!("no connection: {error}")),
        };
        if let Err(error) = client.send(text_of(asked).as_bytes()) {
            return Answered::Cut(format!("nothing could be sent: {error}"));
        }
        let mut got: Vec<u8> = Vec::new();
        let mut sips = 0;
        let most = known.map_or(64 << 20, |known| known.saturating_mul(2).saturating_add(MORE));
        let answered = loop {
            if slow && sips < SIPS {
                server.wait_idle(Deadline::after(IDLE));
                sips += 1;
            }
            match client.read_bytes(SIP) {
                Ok(bytes) => got.extend(bytes),
                Err(CliError::Closed) => break whole(asked, got),
                Err(CliError::Timeout) => break Answered::Late,
                Err(error) => break Answered::Cut(error.to_string()),
            }
            if got.len() > most {
                break Answered::Endless;
            }
        };
        client.hang_up();
        answered
    }
}

/// A command of our own is at fault, or the wait for the server to get ready.
fn is_own(judgement: &rules::Judgement, found: &rules::Finding) -> bool {
    let appctx = found.calls.iter().find_map(|call| judgement.history.appctx(call.handle));
    let command = appctx.and_then(|appctx| appctx.command.as_ref());
    command.and_then(|command| judgement.history.registered_as(command.number)).is_some_and(|one| one.own)
}

/// What a client sends.
pub(super) fn text_of(asked: &Asked) -> String {
    match asked {
        Asked::Command(command) => format!("{command}\n"),
        Asked::Request(request) => request.text(true),
    }
}

/// An answer of HTTP by status and body, however it was cut into pieces.
fn whole(asked: &Asked, got: Vec<u8>) -> Answered {
    match asked {
        // There is an empty line behind whatever is answered.
        Asked::Command(_) if got.is_empty() => {
            Answered::Cut("the connection ends without an answer".to_owned())
        }
        Asked::Command(_) => Answered::Whole(got),
        Asked::Request(_) => match http::whole(&got) {
            Some(response) => {
                Answered::Whole([format!("{}\n", response.status).into_bytes(), response.body].concat())
            }
            None => Answered::Cut(format!(
                "the connection ends in the middle of the answer, after {} bytes",
                got.len()
            )),
        },
    }
}
