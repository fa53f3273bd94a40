//! Playing a session on a real HAProxy.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use layers_trace::Reader;
use rustix::process::Signal;

use super::play::{Mishap, Recording};
use super::session::{ARGUMENTS, LEFT_OUT, Session, SessionStep, Socket};
use super::{Ending, Scenario};
use crate::client::haproxy_cli::{CliError, Client};
use crate::deadline::Deadline;
use crate::rules::{Rule, judge};
use crate::server::haproxy::{Haproxy, HaproxyError, Serve, Server};
use crate::server::process::Woken;

/// Records of a session's trace: 8 MiB of address space, touched as it fills.
const CAPACITY: u64 = 1 << 17;
/// How long a server may take to die when its session has gone astray.
const GRACE: Duration = Duration::from_secs(2);
/// How long a command may take to be released once its client has gone, before the server is told to stop.
const RELEASE: Duration = Duration::from_secs(2);
/// Calls of one handler at which a client leaves, at most.
const MOST_CALLS: u64 = 48;
/// What is read at a time, where the handler is to go on step by step.
const SIP: usize = 256;
/// Clients that the harness makes itself get numbers from here on.
const OWN_CLIENTS: u32 = 1000;

/// Plays sessions on one server.
#[derive(Clone, Debug)]
pub struct SessionPlayer<'a> {
    /// The server.
    pub server: &'a Haproxy,
    /// Judged by these.
    pub rules: Vec<&'static Rule>,
    /// For a whole run.
    pub timeout: Duration,
    /// Hand out all events, too.
    pub keep_events: bool,
    /// Keep the trace in this file.
    pub keep: Option<&'a Path>,
}

impl<'a> SessionPlayer<'a> {
    /// Judges by every rule of HAProxy's; a run may take ten seconds.
    pub fn new(server: &'a Haproxy) -> SessionPlayer<'a> {
        let rules = crate::rules::of(crate::server::Which::Haproxy).collect();
        SessionPlayer { server, rules, timeout: Duration::from_secs(10), keep_events: false, keep: None }
    }

    /// Plays it once.
    pub fn play(&self, scenario: &Scenario) -> Result<Recording, HaproxyError> {
        let Some(session) = &scenario.session else {
            return Err(std::io::Error::other(format!("`{}` is a scenario of nbdkit", scenario.name)).into());
        };
        let deadline = Deadline::after(self.timeout);
        let serve = Serve {
            scenario: &scenario.name,
            configuration: session.configuration,
            arguments: session.arguments,
            start: scenario.start,
            capacity: CAPACITY,
            keep: self.keep,
        };
        let mut server = self.server.start(&serve)?;
        let mut mishaps = Vec::new();
        let mut acting = Acting::new(&mut server, deadline);
        if let Err(mishap) = acting.perform(scenario, session) {
            mishaps.push(mishap);
        }
        let end = if mishaps.is_empty() {
            let end = server.wait_for_end(deadline);
            let hangs = end.is_none() && server.process.end().is_none();
            mishaps.extend(hangs.then(|| Mishap::Hang { doing: "it does not come to its end".to_owned() }));
            end
        } else {
            // It may have crashed, which is for the trace to tell; if not, it is no longer needed.
            let _ = server.signal(Signal::TERM);
            server.wait_for_end(Deadline::after(GRACE))
        };
        server.process.kill();
        Ok(self.recorded(&server, end, mishaps))
    }

    fn recorded(&self, server: &Server, end: Option<crate::history::End>, mishaps: Vec<Mishap>) -> Recording {
        let (stdout, stderr) = (server.process.stdout(), server.process.stderr());
        let (judgement, events) = match server.trace() {
            Some(trace) => {
                let reader = Reader::of(&trace);
                let events = if self.keep_events { reader.events().flatten().collect() } else { Vec::new() };
                (judge(&reader, self.rules.iter().copied()), events)
            }
            None => (super::play::judge_nothing(), Vec::new()),
        };
        Recording { judgement, mishaps, end, events, stdout, stderr }
    }
}

/// A session in progress.
struct Acting<'a> {
    server: &'a mut Server,
    clients: BTreeMap<u32, Client>,
    own: u32,
    deadline: Deadline,
}

impl<'a> Acting<'a> {
    fn new(server: &'a mut Server, deadline: Deadline) -> Acting<'a> {
        Acting { server, clients: BTreeMap::new(), own: OWN_CLIENTS, deadline }
    }

    /// From the first wait to the signal that ends it; the caller waits for the end.
    fn perform(&mut self, scenario: &Scenario, session: &Session) -> Result<(), Mishap> {
        match self.server.wait_ready(self.deadline) {
            Woken::Happened => {}
            Woken::Dead => return Err(Mishap::NotStarted { complaint: self.server.complaint() }),
            Woken::Late => return Err(Mishap::Hang { doing: "it does not get ready".to_owned() }),
        }
        let wrong = |step: usize, what: String, error: CliError| match error {
            CliError::Timeout => Mishap::Hang { doing: format!("no answer in step {step} ({what})") },
            error => Mishap::Script { step, what, how: error.to_string() },
        };
        for (index, step) in session.steps.iter().enumerate() {
            self.step(step).map_err(|error| wrong(index + 1, format!("{step:?}"), error))?;
        }
        if session.dies {
            return Ok(());
        }
        let last = session.steps.len() + 1;
        let failed = |error: CliError| wrong(last, format!("{:?}", scenario.ending), error);
        match scenario.ending {
            Ending::Stop(signal) => {
                self.leave();
                // That nothing is released is for a rule to say, not for us.
                self.released(Deadline::after(RELEASE.min(self.deadline.left())));
                self.still_answers().map_err(failed)?;
                self.signal(signal).map_err(failed)?;
            }
            Ending::Interrupt(signal) => {
                self.signal(signal).map_err(failed)?;
                self.leave();
            }
            _ => self.signal(libc::SIGTERM).map_err(failed)?,
        }
        Ok(())
    }

    /// Whatever it has been through, it goes on serving.
    fn still_answers(&mut self) -> Result<(), CliError> {
        let answer = self.ask(Socket::Cli, "show info")?;
        if answer.is_empty() { Err(CliError::Closed) } else { Ok(()) }
    }

    fn leave(&mut self) {
        for (_, client) in std::mem::take(&mut self.clients) {
            client.hang_up();
        }
    }

    fn signal(&mut self, signal: i32) -> Result<(), CliError> {
        let signal = Signal::from_named_raw(signal).ok_or_else(|| std::io::Error::other("no such signal"))?;
        self.server.signal(signal).map_err(CliError::Io)
    }

    fn client(&mut self, number: u32) -> Result<&mut Client, CliError> {
        self.clients.get_mut(&number).ok_or(CliError::Closed)
    }

    fn connect(&mut self, socket: Socket) -> Result<Client, CliError> {
        self.own += 1;
        if socket == Socket::Master {
            // The master starts itself anew once its workers are there, and listens only then.
            let file = self.server.file(socket.file());
            let deadline = self.deadline;
            self.server
                .process
                .wait_until(deadline, || std::os::unix::net::UnixStream::connect(&file).is_ok());
        }
        self.server.connect(self.own, socket.file(), self.deadline)
    }

    /// Commands on a connection of their own, and all their answers.
    fn ask(&mut self, socket: Socket, commands: &str) -> Result<Vec<u8>, CliError> {
        let mut client = self.connect(socket)?;
        let commands =
            commands.replace("{dir}", self.server.file("").to_string_lossy().trim_end_matches('/'));
        let answer = client.send(format!("{commands}\n").as_bytes()).and_then(|()| {
            // The command line of the master closes only when nothing more can come.
            if socket == Socket::Master {
                client.half_close()?;
            }
            client.read_to_end()
        });
        client.hang_up();
        answer
    }

    fn step(&mut self, step: &SessionStep) -> Result<(), CliError> {
        match step {
            SessionStep::Connect(number, socket) => {
                let client = self.server.connect(*number, socket.file(), self.deadline)?;
                self.clients.insert(*number, client);
                Ok(())
            }
            SessionStep::Send(number, text) => self.client(*number)?.send(text.as_bytes()),
            SessionStep::ReadUntil(number, ending) => {
                self.client(*number)?.read_until(ending.as_bytes()).map(drop)
            }
            SessionStep::ReadBytes(number, count) => self.client(*number)?.read_bytes(*count).map(drop),
            SessionStep::ReadToEnd(number) => self.client(*number)?.read_to_end().map(drop),
            SessionStep::HalfClose(number) => self.client(*number)?.half_close(),
            SessionStep::HangUp(number) => {
                self.clients.remove(number).ok_or(CliError::Closed)?.hang_up();
                Ok(())
            }
            SessionStep::Ask(socket, commands) => self.ask(*socket, commands).map(drop),
            SessionStep::Perhaps(socket, commands) => match self.ask(*socket, commands) {
                Err(CliError::Timeout) => Err(CliError::Timeout),
                _ => Ok(()),
            },
            SessionStep::Handled(calls) => {
                let calls = *calls;
                self.wait(|progress| progress.handled() >= calls)
            }
            SessionStep::Released => match self.released(self.deadline) {
                true => Ok(()),
                false => Err(CliError::Timeout),
            },
            SessionStep::LeaveAtEveryCall(command) => self.leave_at_every_call(command),
            SessionStep::EveryKeyword { complete } => self.every_keyword(*complete),
            SessionStep::Crowd { clients, commands } => self.crowd(*clients, commands),
            SessionStep::ShutDownSessions => self.shut_down_sessions(),
            SessionStep::Signal(signal) => self.signal(*signal),
        }
    }

    fn wait(
        &mut self,
        happened: impl FnMut(&crate::server::haproxy::Progress) -> bool,
    ) -> Result<(), CliError> {
        match self.server.wait_until(self.deadline, happened) {
            Woken::Happened => Ok(()),
            Woken::Dead => Err(CliError::Closed),
            Woken::Late => Err(CliError::Timeout),
        }
    }

    /// Waits until every appctx that has run a command is released.
    fn released(&mut self, deadline: Deadline) -> bool {
        self.server.wait_until(deadline, |progress| progress.live() == 0) != Woken::Late
    }

    fn leave_at_every_call(&mut self, command: &str) -> Result<(), CliError> {
        for calls in 1..=MOST_CALLS {
            self.wait(|_| true)?;
            let goal = self.server.progress().handled() + calls;
            let mut client = self.connect(Socket::Cli)?;
            client.send(format!("{command}\n").as_bytes())?;
            let mut over = false;
            loop {
                self.server.look();
                if self.server.progress().handled() >= goal {
                    break;
                }
                match client.read_bytes(SIP) {
                    Ok(_) => {}
                    Err(CliError::Closed) => {
                        over = true;
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            client.hang_up();
            if !self.released(Deadline::after(RELEASE)) || over {
                return Ok(());
            }
        }
        Ok(())
    }

    fn every_keyword(&mut self, complete: bool) -> Result<(), CliError> {
        self.server.look();
        let keywords: Vec<String> = self.server.progress().keywords().to_vec();
        for words in keywords {
            let strange = words.contains(['@', '<', '|']) || words.starts_with("layers ");
            if strange || LEFT_OUT.iter().any(|left_out| words.starts_with(left_out)) {
                continue;
            }
            let arguments =
                ARGUMENTS.iter().find(|(keyword, _)| *keyword == words).map(|(_, arguments)| arguments);
            let command = match arguments.filter(|_| complete) {
                Some(arguments) => format!("{words} {arguments}"),
                None => words,
            };
            self.ask(Socket::Cli, &command)?;
        }
        Ok(())
    }

    /// The list has an address for each session; our own is over when the next command comes.
    fn shut_down_sessions(&mut self) -> Result<(), CliError> {
        let listed = self.ask(Socket::Cli, "show sess")?;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        for line in listed.lines().filter(|line| line.contains("fe=GLOBAL")) {
            if let Some((address, _)) = line.split_once(':') {
                self.ask(Socket::Cli, &format!("shutdown session {address}"))?;
            }
        }
        Ok(())
    }

    fn crowd(&mut self, clients: u32, commands: &[String]) -> Result<(), CliError> {
        let (first, deadline) = (self.own + 1, self.deadline);
        self.own += clients;
        let Some(trace) = self.server.trace() else { return Err(CliError::Closed) };
        let socket = self.server.file(Socket::Cli.file());
        std::thread::scope(|scope| {
            let visits: Vec<_> = (first..first + clients)
                .map(|number| {
                    let (trace, socket) = (trace.clone(), &socket);
                    scope.spawn(move || {
                        for command in commands {
                            let mut client = Client::connect(number, socket, trace.clone(), deadline)?;
                            client.send(format!("{command}\n").as_bytes())?;
                            client.read_to_end()?;
                            client.hang_up();
                        }
                        Ok(())
                    })
                })
                .collect();
            visits.into_iter().try_for_each(|visit| visit.join().unwrap_or(Err(CliError::Closed)))
        })
    }
}
