//! The steps of a session, one after another.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::super::mishap::Mishap;
use super::super::session::{ARGUMENTS, LEFT_OUT, Session, SessionStep, Socket};
use super::super::{Ending, Scenario};
use super::tried::{DIRECTORY, directory_of};
use crate::client::haproxy_cli::{CliClient, CliError};
use crate::client::http::Http;
use crate::deadline::Deadline;
use crate::run::Start;
use crate::server::haproxy::{Haproxy, HaproxyServer, Progress, ServeHaproxy, reloads};
use crate::server::process::Woken;
use crate::version::Version;

/// How long a command may take to be released once its client has gone: longer than the `stats timeout` of those
/// configurations whose clients leave in the middle.
const RELEASE: Duration = Duration::from_secs(1);
/// How long the server is watched for a moment in which it has nothing to do.
pub(super) const IDLE: Duration = Duration::from_millis(300);
/// How long a client waits for an answer that may never come.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long a keyword may take for its answer.
const KEYWORD: Duration = Duration::from_secs(3);
/// Clients that the harness makes itself get numbers from here on.
const OWN_CLIENTS: u32 = 1000;
/// A server without memory closes a connection now and then, or forgets it; so often it is asked, and each time it may take
/// this long.
const MOST_QUESTIONS: u32 = 20;
const QUESTION: Duration = Duration::from_secs(1);

/// Records of the trace of a server beside that of the session: nobody reads them.
const CAPACITY_OF_OTHERS: u64 = 1 << 12;
/// What stands in a configuration for the size of its buffers.
pub(super) const BUFFERS: &str = "{buffers}";

/// Sends these commands, and reads to the end what is answered. `half_close`: nothing more is sent.
fn answers(mut client: CliClient, commands: &str, half_close: bool) -> Result<Vec<u8>, CliError> {
    let answer = client.send(format!("{commands}\n").as_bytes()).and_then(|()| {
        if half_close {
            client.half_close()?;
        }
        client.read_to_end()
    });
    client.hang_up();
    answer
}

/// A session in progress.
pub(super) struct Acting<'a> {
    pub(super) server: &'a mut HaproxyServer,
    clients: BTreeMap<u32, (CliClient, Http)>,
    /// The number of the last client of the harness's own.
    pub(super) own: u32,
    pub(super) deadline: Deadline,
    /// The youngest appctx when a client of the script connected last.
    before: u32,
    /// Something was not released in time: it is not waited for again.
    forgotten: bool,
    /// Keywords that are not called: they had no answer before.
    silent: &'a [String],
    /// The keyword that has had none now.
    stuck: Option<String>,
    /// How long a session may take.
    pub(super) timeout: Duration,
    /// The session is over before its end.
    pub(super) is_over: bool,
    installed: &'a Haproxy,
    pub(super) session: &'a Session,
}

impl<'a> Acting<'a> {
    pub(super) fn new(
        server: &'a mut HaproxyServer,
        (installed, session): (&'a Haproxy, &'a Session),
        timeout: Duration,
        silent: &'a [String],
    ) -> Acting<'a> {
        let (clients, own, deadline) = (BTreeMap::new(), OWN_CLIENTS, Deadline::after(timeout));
        let (before, forgotten, stuck) = (0, false, None);
        Acting {
            server,
            clients,
            own,
            deadline,
            before,
            forgotten,
            silent,
            stuck,
            timeout,
            is_over: false,
            installed,
            session,
        }
    }

    /// Another server of the same configuration, but for its buffers.
    pub(super) fn another(&self, buffers: &str) -> Result<HaproxyServer, CliError> {
        let configuration = self.session.configuration.replace(BUFFERS, buffers);
        let serve = ServeHaproxy {
            scenario: "another",
            configuration: &configuration,
            users: None,
            modules: &[],
            arguments: self.session.arguments,
            start: Start::Foreground,
            load: self.session.load,
            capacity: CAPACITY_OF_OTHERS,
            keep: None,
        };
        self.installed.start(&serve).map_err(|error| CliError::Other(error.to_string()))
    }

    /// The number of the next client.
    pub(super) fn number(&mut self) -> u32 {
        self.own += 1;
        self.own
    }

    /// What comes next has as much time as the whole session.
    pub(super) fn renew(&mut self) {
        self.deadline = Deadline::after(self.timeout);
    }

    /// The version of the server.
    pub(super) fn version(&self) -> Version {
        self.installed.version
    }

    /// The steps end with this keyword.
    pub(super) fn give_up(&mut self, words: &str) {
        self.stuck = Some(words.to_owned());
    }

    /// Returns the keyword that has had no answer, if the steps have ended with it.
    pub(super) fn take_stuck(&mut self) -> Option<String> {
        self.stuck.take()
    }

    /// From the first wait to the signal that ends it; the caller waits for the end.
    pub(super) fn perform(&mut self, scenario: &Scenario, session: &Session) -> Result<(), Mishap> {
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
            if self.is_over {
                break;
            }
            self.step(step).map_err(|error| match &self.stuck {
                Some(words) => wrong(index + 1, format!("`{words}`, of every keyword"), error),
                None => wrong(index + 1, format!("{step:?}"), error),
            })?;
        }
        if session.dies || self.is_over {
            return Ok(());
        }
        let last = session.steps.len() + 1;
        let failed = |error: CliError| wrong(last, format!("{:?}", scenario.ending), error);
        match scenario.ending {
            Ending::Stop(signal) => {
                self.leave();
                self.await_release();
                self.still_answers().map_err(failed)?;
                self.signal(signal).map_err(failed)?;
            }
            Ending::Interrupt(signal) => {
                self.signal(signal).map_err(failed)?;
                self.leave();
            }
            Ending::ByItself => self.leave(),
            _ => self.signal(libc::SIGTERM).map_err(failed)?,
        }
        Ok(())
    }

    /// Whatever it has been through, it goes on serving.
    fn still_answers(&mut self) -> Result<(), CliError> {
        for _ in 0..MOST_QUESTIONS {
            let deadline = Deadline::after(QUESTION.min(self.deadline.left()));
            match self.server.ask(OWN_CLIENTS, "show info", deadline) {
                Ok(answer) if !answer.is_empty() => return Ok(()),
                Ok(_) | Err(CliError::Closed) => {}
                Err(CliError::Timeout) if !self.deadline.left().is_zero() => {}
                Err(error) => return Err(error),
            }
        }
        Err(CliError::Closed)
    }

    /// Brings a run that has gone wrong to an end that is none of the server's faults: every client leaves, and the server
    /// gets some time for its releases before it is told to stop. Returns where in the trace that begins.
    pub(super) fn depart(&mut self) -> Option<u32> {
        let position = self.server.trace().and_then(|trace| u32::try_from(trace.cursor()).ok());
        self.leave();
        self.deadline = Deadline::after(RELEASE);
        self.await_release();
        position
    }

    fn leave(&mut self) {
        for (_, (client, _)) in std::mem::take(&mut self.clients) {
            client.hang_up();
        }
    }

    pub(super) fn signal(&mut self, signal: i32) -> Result<(), CliError> {
        let signal = Signal::from_named_raw(signal).ok_or_else(|| std::io::Error::other("no such signal"))?;
        self.server.signal(signal).map_err(CliError::Io)
    }

    fn client(&mut self, number: u32) -> Result<&mut CliClient, CliError> {
        self.clients.get_mut(&number).map(|(client, _)| client).ok_or(CliError::Closed)
    }

    /// A connection of the harness's own.
    pub(super) fn connect(&mut self, socket: Socket) -> Result<CliClient, CliError> {
        let number = self.number();
        self.server.connect(number, socket.file(), self.deadline)
    }

    /// With the directory of the run in it.
    pub(super) fn placed(&self, text: &str) -> String {
        text.replace(DIRECTORY, &directory_of(self.server))
    }

    /// Commands on a connection of their own, and all their answers.
    fn ask_all(&mut self, socket: Socket, commands: &str) -> Result<Vec<u8>, CliError> {
        let client = self.connect(socket)?;
        // The command line of the master closes only when nothing more can come.
        answers(client, &self.placed(commands), socket == Socket::Master)
    }

    /// Asks the master until it answers as expected.
    fn ask_master(&mut self, commands: &str, expected: impl Fn(&str) -> bool) -> Result<(), CliError> {
        let (commands, own) = (self.placed(commands), &mut self.own);
        let number = || {
            *own += 1;
            *own
        };
        self.server.ask_master(number, &commands, self.deadline, expected).map(drop)
    }

    fn step(&mut self, step: &SessionStep) -> Result<(), CliError> {
        match step {
            SessionStep::Connect(number, socket) => {
                self.server.look();
                self.before = self.server.progress().youngest();
                let client = self.server.connect(*number, socket.file(), self.deadline)?;
                self.clients.insert(*number, (client, Http::default()));
                Ok(())
            }
            SessionStep::Send(number, text) => {
                let text = self.placed(text);
                self.client(*number)?.send(text.as_bytes())
            }
            SessionStep::ReadUntil(number, ending) => {
                self.client(*number)?.read_until(ending.as_bytes()).map(drop)
            }
            SessionStep::ReadBytes(number, count) => self.client(*number)?.read_bytes(*count).map(drop),
            SessionStep::ReadToEnd(number) => self.client(*number)?.read_to_end().map(drop),
            SessionStep::Response(number, status) => self.response(*number, *status),
            SessionStep::HalfClose(number) => self.client(*number)?.half_close(),
            SessionStep::HangUp(number) => {
                self.clients.remove(number).ok_or(CliError::Closed)?.0.hang_up();
                Ok(())
            }
            SessionStep::Ask(Socket::Master, commands) => {
                self.ask_master(commands, |answer| !answer.trim().is_empty())
            }
            SessionStep::Ask(socket, commands) => self.ask_all(*socket, commands).map(drop),
            SessionStep::Perhaps(socket, commands) => match self.ask_all(*socket, commands) {
                Err(CliError::Timeout) => Err(CliError::Timeout),
                _ => Ok(()),
            },
            SessionStep::Attempt(socket, command) => self.attempt(*socket, command),
            SessionStep::Handled(calls) => {
                let (calls, before) = (*calls, self.before);
                self.wait(|progress| progress.handled_since(before) >= calls)
            }
            SessionStep::Released => self.wait(|progress| progress.live() == 0),
            SessionStep::Idle => {
                self.server.wait_idle(Deadline::after(IDLE));
                Ok(())
            }
            SessionStep::LeaveAtEveryCall(socket, text) => self.leave_at_every_call(*socket, text),
            SessionStep::LeaveOthersAtEveryCall => self.leave_others_at_every_call(),
            SessionStep::EveryKeyword { complete } => self.every_keyword(*complete),
            SessionStep::Try(trial, tried) => self.try_each(*trial, *tried),
            SessionStep::Crowd { clients, commands } => self.crowd(*clients, commands),
            SessionStep::ShutDownSessions => self.shut_down_sessions(),
            SessionStep::Signal(signal) => self.signal(*signal),
            SessionStep::Reloaded => {
                self.ask_master("show proc", |answer| reloads(answer).is_some_and(|count| count > 0))
            }
            SessionStep::KillWorker => self.kill_worker(),
        }
    }

    fn response(&mut self, number: u32, status: u16) -> Result<(), CliError> {
        let (client, http) = self.clients.get_mut(&number).ok_or(CliError::Closed)?;
        let got = http.response(client)?.status;
        if got == status {
            return Ok(());
        }
        Err(CliError::Other(format!("the answer has status {got}, not {status}")))
    }

    pub(super) fn wait(&mut self, happened: impl FnMut(&Progress) -> bool) -> Result<(), CliError> {
        match self.server.wait_until(self.deadline, happened) {
            Woken::Happened => Ok(()),
            Woken::Dead => Err(CliError::Closed),
            Woken::Late => Err(CliError::Timeout),
        }
    }

    /// Waits until every appctx that has run a command is released, but not for long: that one is not is for a rule to say.
    pub(super) fn await_release(&mut self) {
        let deadline = Deadline::after(RELEASE.min(self.deadline.left()));
        self.forgotten = self.forgotten
            || self.server.wait_until(deadline, |progress| progress.live() == 0) == Woken::Late;
    }

    /// A command whose answer nobody waits for long, nor misses.
    fn attempt(&mut self, socket: Socket, command: &str) -> Result<(), CliError> {
        let mut client = self.connect(socket)?;
        client.hurry(Deadline::after(PATIENCE.min(self.deadline.left())));
        let _ = client.send(format!("{command}\n").as_bytes()).and_then(|()| client.read_to_end());
        client.hang_up();
        Ok(())
    }

    fn every_keyword(&mut self, complete: bool) -> Result<(), CliError> {
        self.server.look();
        let keywords: Vec<String> = self.server.progress().keywords().to_vec();
        for words in keywords {
            let strange = words.contains(['@', '<', '|']) || words.starts_with("layers ");
            if strange
                || self.is_silent(&words)
                || LEFT_OUT.iter().any(|left_out| words.starts_with(left_out))
            {
                continue;
            }
            let arguments =
                ARGUMENTS.iter().find(|(keyword, _)| *keyword == words).map(|(_, arguments)| arguments);
            let command = match arguments.filter(|_| complete) {
                Some(arguments) => format!("{words} {arguments}"),
                None => words.clone(),
            };
            self.of_keyword(&words, |acting| acting.ask_all(Socket::Cli, &command).map(drop))?;
        }
        Ok(())
    }

    /// Does what is about this keyword alone, for which there is less time than for all; where that fails, it is the one that
    /// the steps have ended with.
    pub(super) fn of_keyword(
        &mut self,
        words: &str,
        act: impl FnOnce(&mut Acting<'a>) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let whole = self.deadline;
        self.deadline = Deadline::after(KEYWORD.min(whole.left()));
        let done = act(self);
        self.deadline = whole;
        if done.is_err() {
            self.stuck = Some(words.to_owned());
        }
        done
    }

    /// Returns true for a keyword that is not called: it had no answer before.
    pub(super) fn is_silent(&self, words: &str) -> bool {
        self.silent.iter().any(|one| one == words)
    }

    /// The list has an address for each session; our own is over when the next command comes.
    fn shut_down_sessions(&mut self) -> Result<(), CliError> {
        let listed = self.ask_all(Socket::Cli, "show sess")?;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        for line in listed.lines().filter(|line| line.contains("fe=GLOBAL")) {
            if let Some((address, _)) = line.split_once(':') {
                self.ask_all(Socket::Cli, &format!("shutdown session {address}"))?;
            }
        }
        Ok(())
    }

    /// A worker is a child of the process that we watch.
    fn kill_worker(&mut self) -> Result<(), CliError> {
        self.server.look();
        let worker = self.server.progress().last_process().filter(|pid| *pid != self.server.process.pid());
        let pid = worker.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| CliError::Other("no worker has run a command".to_owned()))?;
        self.server.kill_worker(pid).map_err(CliError::Io)
    }

    fn crowd(&mut self, clients: u32, commands: &[String]) -> Result<(), CliError> {
        let (first, deadline) = (self.own + 1, self.deadline);
        self.own += clients;
        let Some(trace) = self.server.trace() else { return Err(CliError::Closed) };
        let socket = self.server.file(Socket::Cli.file());
        std::thread::scope(|scope| {
            let visits: Result<Vec<_>, CliError> = (first..first + clients)
                .map(|number| {
                    let (trace, socket) = (trace.clone(), &socket);
                    let visit = move || {
                        for command in commands {
                            let mut client = CliClient::connect(number, socket, trace.clone(), deadline)?;
                            client.send(format!("{command}\n").as_bytes())?;
                            client.read_to_end()?;
                            client.hang_up();
                        }
                        Ok(())
                    };
                    std::thread::Builder::new().spawn_scoped(scope, visit).map_err(CliError::Io)
                })
                .collect();
            let visits = visits?;
            visits.into_iter().try_for_each(|visit| visit.join().unwrap_or(Err(CliError::Closed)))
        })
    }
}
