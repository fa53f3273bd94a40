//! Servers with the subject in them, and what each has shown by its end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use layers_trace::Reader;
use layers_trace::appctx::State;
use rustix::process::Signal;

use super::subject::{HaproxyValidation, canonical, of_handlers};
use crate::campaign::halt::Limit;
use crate::client::asked::Asked;
use crate::client::haproxy_cli::{CliClient, CliError};
use crate::conform::is_ground;
use crate::deadline::Deadline;
use crate::history::{End, History};
use crate::rules;
use crate::run::Start;
use crate::server::haproxy::asking::{Answered, Pace, converse, text_of};
use crate::server::haproxy::{
    self, Configuration, HaproxyError, HaproxyServer, Loading, ServeHaproxy, lua_error,
};
use crate::server::process::Woken;
use crate::version::Version;

/// Records of one server's trace.
const CAPACITY: u64 = 1 << 17;
/// How long a server may take to get ready, and to end.
const ENDS: Duration = Duration::from_secs(10);
/// Lines of `global` that have code in Lua tell what it registers, and what stands before each of these.
const TELLING: &str = "    lua-load {dir}/telling.lua\n";
const TELLING_PER_THREAD: &str = "    lua-load-per-thread {dir}/telling.lua\n";
const PER_THREAD_SINCE: Version = Version(2, 4, 0);
const REGISTERED: &str = "layers: registered: ";
/// The applet of the server's command line.
const COMMAND_LINE: &str = "<CLI>";
/// Signals by which a fault in a program ends it.
const FAULTS: &[i32] = &[libc::SIGSEGV, libc::SIGABRT, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];

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
#[derive(Clone, Copy, Debug)]
pub(super) struct Conditions {
    pub(super) buffers: Buffers,
    /// Without the configuration and the modules.
    pub(super) bare: bool,
    pub(super) threads: u32,
    /// As a master process and its worker.
    pub(super) workers: bool,
    /// Options of the command line.
    pub(super) arguments: &'static [&'static str],
    /// Lines of the section `global`.
    pub(super) settings: &'static [&'static str],
    /// It says what is registered by code in Lua.
    pub(super) tells: bool,
    /// It is told to stop before it is over.
    pub(super) stops: bool,
    /// Its allocations fail: that code in Lua ends with an error then is as it should be.
    pub(super) fails: bool,
}

impl Default for Conditions {
    fn default() -> Conditions {
        Conditions {
            buffers: Buffers::Usual,
            bare: false,
            threads: 1,
            workers: false,
            arguments: &[],
            settings: &[],
            tells: false,
            stops: false,
            fails: false,
        }
    }
}

/// How a server has died that was not told to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Crash {
    pub(super) how: String,
    /// By a signal that a fault in the program sends it, which code in Lua cannot do by itself.
    pub(super) is_fault: bool,
}

impl Crash {
    /// Returns how it died, if it did: `told` is that it was told to end.
    fn of(told: bool, end: Option<End>) -> Option<Crash> {
        // A master process ends with the status of a worker that has died: 128 and the signal.
        let is_fault = match end {
            Some(End::Killed(signal)) => FAULTS.contains(&signal),
            Some(End::Exited(code)) => FAULTS.iter().any(|signal| 128 + signal == code),
            None => false,
        };
        let how = match (told, end) {
            (true, None) => "it does not end after it was told to".to_owned(),
            (false, Some(End::Killed(signal))) => format!("it is killed by signal {signal}"),
            (false, Some(End::Exited(code))) => format!("it ends by itself, with status {code}"),
            (true, Some(End::Killed(signal))) if signal != libc::SIGTERM => {
                format!("it is killed by signal {signal} while it ends")
            }
            (true, Some(End::Exited(code))) if is_fault => format!("it ends with status {code}"),
            _ => return None,
        };
        Some(Crash { how, is_fault })
    }
}

/// What one server has shown by its end, beside its answers.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// How it has died, if it was not told to.
    pub(super) crash: Option<Crash>,
    /// Errors of Lua.
    pub(super) lua: Vec<String>,
    /// Rules that handlers have broken.
    pub(super) findings: Vec<rules::Finding>,
    /// What it says that code in Lua has registered, where it was asked to.
    pub(super) registered: Vec<String>,
    /// A handler was running at its end.
    pub(super) in_a_handler: bool,
}

/// What all servers of one act have shown.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) servers: u32,
    pub(super) rounds: Vec<Round>,
    pub(super) exercised: BTreeMap<&'static str, u64>,
}

impl Shown {
    /// Takes in what other servers have shown.
    pub(super) fn add(&mut self, other: Shown) {
        self.servers += other.servers;
        self.rounds.extend(other.rounds);
        for (id, times) in other.exercised {
            *self.exercised.entry(id).or_default() += times;
        }
    }
}

pub(super) struct Bench<'a> {
    validate: &'a HaproxyValidation,
    server: &'a haproxy::Haproxy,
    pub(super) limit: Limit,
    nothing: Configuration,
    clients: AtomicU32,
    shown: Mutex<Shown>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(
        validate: &'a HaproxyValidation,
        server: &'a haproxy::Haproxy,
        limit: Limit,
    ) -> Bench<'a> {
        let nothing = Configuration::of_user(&[]);
        let (clients, shown) = (AtomicU32::new(0), Mutex::default());
        Bench { validate, server, limit, nothing, clients, shown }
    }

    pub(super) fn modules(&self) -> &[PathBuf] {
        &self.validate.modules
    }

    pub(super) fn version(&self) -> Version {
        self.server.version
    }

    pub(super) fn patience(&self) -> Duration {
        self.limit.of(self.validate.timeout)
    }

    /// The number of the next client.
    pub(super) fn client(&self) -> u32 {
        self.clients.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn show(&self, show: impl FnOnce(&mut Shown)) {
        show(&mut self.shown.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns what the servers that have ended have shown, and forgets it.
    pub(super) fn take_shown(&self) -> Shown {
        std::mem::take(&mut *self.shown.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A server that is ready, or why there is none.
    pub(super) fn start(
        &self,
        conditions: &Conditions,
    ) -> Result<Result<HaproxyServer, String>, HaproxyError> {
        self.show(|shown| shown.servers += 1);
        let mut first = format!("global\n    nbthread {}\n", conditions.threads);
        let mut settings: Vec<String> = conditions.settings.iter().map(|line| (*line).to_owned()).collect();
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
        if conditions.tells && users.lua {
            first.push_str(TELLING);
            first.push_str(if self.version() < PER_THREAD_SINCE { "" } else { TELLING_PER_THREAD });
        }
        let users = users.clone().without_threads().with_global(&settings);
        let modules: Vec<PathBuf> = if conditions.bare {
            Vec::new()
        } else {
            self.modules().iter().map(|one| canonical(one)).collect()
        };
        let serve = ServeHaproxy {
            scenario: "validate",
            configuration: &first,
            users: Some(&users),
            modules: &modules,
            arguments: conditions.arguments,
            start: if conditions.workers { Start::MasterWorker } else { Start::Foreground },
            load: Loading::Preload,
            capacity: self.validate.room.unwrap_or(CAPACITY),
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
    pub(super) fn end(&self, mut server: HaproxyServer, conditions: &Conditions) {
        let is_alive = server.process.wait_for_end(Deadline::after(Duration::ZERO)).is_none();
        if is_alive {
            let _ = server.signal(Signal::TERM);
        }
        let end = server.wait_for_end(Deadline::after(self.limit.of(ENDS)));
        let printed = server.printed();
        let registered = printed.lines().filter_map(|line| line.split_once(REGISTERED)).map(|(_, what)| what);
        let mut round = Round {
            crash: Crash::of(is_alive || (conditions.stops && end == Some(End::Exited(0))), end),
            lua: if conditions.fails {
                Vec::new()
            } else {
                printed.lines().filter_map(lua_error).map(str::to_owned).collect()
            },
            findings: Vec::new(),
            registered: registered.map(|what| what.trim().to_owned()).collect(),
            in_a_handler: false,
        };
        if let Some(trace) = server.trace() {
            let judgement = rules::judge(&Reader::of(&trace), of_handlers());
            if is_ground(&judgement.troubles) {
                self.show(|shown| {
                    for result in &judgement.results {
                        *shown.exercised.entry(result.rule.id).or_default() += result.exercised;
                    }
                });
                let of_others = |found: &&rules::Finding| !is_own(&judgement, found);
                round.findings = judgement.findings().filter(of_others).cloned().collect();
                round.in_a_handler = has_handler_in_flight(&judgement.history);
            }
        }
        self.show(|shown| shown.rounds.push(round));
    }

    /// Returns true where the last server that has ended died in a call of a keyword or an applet that is neither the server's
    /// command line nor our own.
    pub(super) fn has_died_in_a_handler(&self) -> bool {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.rounds.last().is_some_and(|round| round.crash.is_some() && round.in_a_handler)
    }

    /// Connects to where this is asked: a socket of the command line, or that of the frontend.
    pub(super) fn connect(
        &self,
        server: &HaproxyServer,
        asked: &Asked,
        socket: &str,
    ) -> Result<CliClient, CliError> {
        let socket = match asked {
            Asked::Command(_) => socket.to_owned(),
            Asked::Request(request) => {
                let frontend = self.validate.configuration.frontend(&request.frontend);
                frontend.map(|one| one.socket.clone()).unwrap_or_default()
            }
        };
        server.connect(self.client(), &socket, Deadline::after(self.patience()))
    }

    /// Asks, and reads the answer to its end as fast as it comes.
    pub(super) fn ask(&self, server: &mut HaproxyServer, asked: &Asked) -> Answered {
        self.ask_at(server, asked, "cli", Pace::Quick, None)
    }

    /// Asks at this socket of the command line, where it is a command; `known` is how long the answer was before.
    pub(super) fn ask_at(
        &self,
        server: &mut HaproxyServer,
        asked: &Asked,
        socket: &str,
        pace: Pace,
        known: Option<usize>,
    ) -> Answered {
        match self.connect(server, asked, socket) {
            Ok(client) => converse(client, server, (asked, &text_of(asked)), pace, known),
            Err(error) => Answered::Cut(format!("no connection: {error}")),
        }
    }

    /// Asks by this text.
    pub(super) fn ask_text(&self, server: &mut HaproxyServer, asked: &Asked, text: &str) -> Answered {
        match self.connect(server, asked, "cli") {
            Ok(client) => converse(client, server, (asked, text), Pace::Quick, None),
            Err(error) => Answered::Cut(format!("no connection: {error}")),
        }
    }
}

/// A keyword or an applet is being called that is neither the server's command line nor our own.
fn has_handler_in_flight(history: &History) -> bool {
    history.in_flight().any(|call| {
        let registered = State::of(&call.enter).and_then(|state| history.registered_as(state.number));
        registered.is_some_and(|one| !one.own && one.words != COMMAND_LINE)
    })
}

/// A command of our own is at fault, or the wait for the server to get ready.
fn is_own(judgement: &rules::Judgement, found: &rules::Finding) -> bool {
    let appctx = found.calls.iter().find_map(|call| judgement.history.appctx(call.handle));
    let command = appctx.and_then(|appctx| appctx.command.as_ref());
    command.and_then(|command| judgement.history.registered_as(command.number)).is_some_and(|one| one.own)
}
