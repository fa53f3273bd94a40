//! Playing a scenario on a real nbdkit.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use layers_trace::record::Record;
use layers_trace::writer::record;
use layers_trace::{Breach, Kind, Operation, Writer};
use rustix::process::Signal;

use super::mishap::Mishap;
use super::patience::DEPARTURE;
use super::player::{GRACE, Player, Recording, Running};
use super::{Ending, Scenario, Step};
use crate::client::breach;
use crate::client::nbd::{NbdClient, Wishes};
use crate::client::raw::Raw;
use crate::client::{ClientError, Peer};
use crate::deadline::Deadline;
use crate::history::End;
use crate::run::Start;
use crate::server::nbdkit::{Conditions, Nbdkit, Serve, Server, ServerError};
use crate::server::process::{Process, Woken};

/// Records of a scenario's trace, unless told otherwise: 4 MiB of address space, touched as it fills.
const CAPACITY: u64 = 1 << 16;
/// Clients of the harness; the bare connections of [`Step::Knock`] and [`Step::Peek`] get numbers from here on.
const KNOCKS: u32 = 1000;

/// What is waited for before there are clients, and when they have left.
const READY: &str = "it does not get ready";
const THE_SIGNAL: &str = "it does not notice the signal";
const THE_FAILURE: &str = "it does not end, though a callback of its start-up failed";
const THE_CLOSES: &str = "handles stay open after their clients have gone";

impl Running for Server {
    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn trace(&self) -> Option<Arc<Writer>> {
        Server::trace(self)
    }

    fn signal(&self, signal: Signal) -> std::io::Result<()> {
        Server::signal(self, signal)
    }

    fn wait_for_end(&mut self, deadline: Deadline) -> Option<End> {
        Server::wait_for_end(self, deadline)
    }
}

impl Player<'_, Nbdkit> {
    /// Plays it once.
    pub fn play(&self, scenario: &Scenario) -> Result<Recording, ServerError> {
        let deadline = Deadline::after(self.timeout);
        let logged = scenario.command.is_none();
        let run = self.server.describe(&scenario.name, &scenario.stack, scenario.start, logged);
        let cpu = scenario.one_cpu.then_some(0);
        let (keep, command) = (self.keep, scenario.command);
        let serve = Serve {
            stack: &scenario.stack,
            run,
            capacity: self.room.unwrap_or(CAPACITY),
            keep,
            cpu,
            command,
            conditions: Conditions::default(),
        };
        let mut server = self.server.start(&serve)?;
        let mut clients = Clients { player: self, clients: BTreeMap::new(), knocks: KNOCKS, deadline };
        let played = clients.perform(&mut server, scenario);
        let departed = played.as_ref().err().and_then(|mishap| clients.depart(&mut server, mishap));
        let recording = self.finish(&mut server, played, departed, Deadline::after(self.timeout));
        server.save_trace()?;
        Ok(recording)
    }
}

fn send(server: &Server, signal: i32) -> std::io::Result<()> {
    let signal = Signal::from_named_raw(signal).ok_or_else(|| std::io::Error::other("no such signal"))?;
    server.signal(signal)
}

fn wait_for_closes(server: &mut Server, deadline: Deadline) -> Result<(), Mishap> {
    match server.wait_until(deadline, |seen| seen.open() == 0) {
        Woken::Late => Err(Mishap::Hang { doing: THE_CLOSES.to_owned() }),
        Woken::Happened | Woken::Dead => Ok(()),
    }
}

/// How a step went wrong.
enum Wrong {
    /// Nothing had come of it by the deadline.
    Late,
    /// In this way.
    Otherwise(String),
}

/// What is waited for in this step: the same in every scenario.
fn waited_for(step: &Step) -> String {
    let vain = |what: &str| format!("the client waits in vain: {what}");
    match step.plain() {
        Step::Noticed(_) => THE_SIGNAL.to_owned(),
        Step::Request(_, command) | Step::Running(_, command) => vain(&format!("{:?}", command.operation)),
        Step::Entered(_, callback, _) => vain(&format!("the call of {callback}")),
        Step::Connect(..) | Step::ConnectTls(_) | Step::StartTls(..) => vain("it connects"),
        Step::ConnectRaw(_) | Step::Dial(_) | Step::Greeting(_) | Step::Peek | Step::Knock => {
            vain("the greeting of the server")
        }
        Step::List(_) | Step::Info(..) | Step::Go(..) | Step::Say(..) => vain("the reply to an option"),
        Step::Answers(_) | Step::Pipeline(..) | Step::Offered(..) | Step::Send(..) => {
            vain("the replies to its requests")
        }
        Step::Dropped(_) | Step::Abort(_) | Step::Disconnect(_) | Step::HalfClose(_) | Step::HangUp(_) => {
            vain("the end of its connection")
        }
        Step::Signal(_) | Step::Fails(_) | Step::Perhaps(_) => vain("the server goes on"),
    }
}

struct Clients<'a> {
    player: &'a Player<'a, Nbdkit>,
    clients: BTreeMap<u32, Peer>,
    knocks: u32,
    deadline: Deadline,
}

impl Clients<'_> {
    /// From the first wait to the last request; the caller waits for the end.
    fn perform(&mut self, server: &mut Server, scenario: &Scenario) -> Result<(), Mishap> {
        let deadline = self.deadline;
        if !scenario.start.serves() {
            return Ok(());
        }
        match (server.wait_ready(self.player.until(READY, deadline)), scenario.start_fails) {
            (Woken::Happened, false) => {}
            (Woken::Happened, true) => return self.fails_later(server),
            (Woken::Dead, true) => return Ok(()),
            (Woken::Dead, false) => return Err(Mishap::NotStarted { complaint: server.complaint() }),
            (Woken::Late, _) => return Err(Mishap::Hang { doing: READY.to_owned() }),
        }
        for (index, step) in scenario.script.iter().enumerate() {
            let doing = waited_for(step);
            // Each step has the whole time: what is slow is no hang.
            self.hurry(self.player.until(&doing, Deadline::after(self.player.timeout)));
            self.step(server, step).map_err(|wrong| match wrong {
                Wrong::Late => Mishap::Hang { doing },
                Wrong::Otherwise(how) => Mishap::Script { step: index + 1, what: format!("{step:?}"), how },
            })?;
        }
        let deadline = Deadline::after(self.player.timeout);
        self.hurry(deadline);
        let failed = |error: std::io::Error| Mishap::Script {
            step: scenario.script.len() + 1,
            what: format!("{:?}", scenario.ending),
            how: error.to_string(),
        };
        match scenario.ending {
            Ending::Stop(signal) => {
                self.leave();
                wait_for_closes(server, self.player.until(THE_CLOSES, deadline))?;
                send(server, signal).map_err(failed)?;
            }
            Ending::Interrupt(signal) => {
                send(server, signal).map_err(failed)?;
                self.await_shutdown()?;
                self.leave();
            }
            Ending::Cut(signal) => send(server, signal).map_err(failed)?,
            Ending::ByItself => {
                self.leave();
                if scenario.start == Start::Captive {
                    wait_for_closes(server, self.player.until(THE_CLOSES, deadline))?;
                } else {
                    // The one connection of `-s` is over when our end is closed, even if nothing was ever said.
                    drop(server.take_client_end());
                }
                server.release().map_err(failed)?;
            }
            Ending::CommandEnds => {
                server.release().map_err(failed)?;
                self.await_shutdown()?;
                self.leave();
            }
        }
        Ok(())
    }

    /// Waits for the end of a server whose start fails although its outermost layer has said that it is ready: a server
    /// that calls after_fork in another order is not serving then. One that greets a client is.
    fn fails_later(&mut self, server: &mut Server) -> Result<(), Mishap> {
        if self.knock(server, true).is_ok() {
            return Err(Mishap::Started);
        }
        match server.wait_until(self.player.until(THE_FAILURE, self.deadline), |_| false) {
            Woken::Dead => Ok(()),
            Woken::Happened | Woken::Late => Err(Mishap::Hang { doing: THE_FAILURE.to_owned() }),
        }
    }

    /// Brings a run that has gone wrong to an end that is none of the server's faults: every client leaves, and the server
    /// gets some time for its closes before it is told to stop. Returns where in the trace that begins, unless nothing
    /// but the closes was missing.
    fn depart(&mut self, server: &mut Server, mishap: &Mishap) -> Option<u32> {
        let position = server.trace().and_then(|trace| u32::try_from(trace.cursor()).ok());
        let deadline = self.player.until(DEPARTURE, Deadline::after(GRACE));
        let hangs = matches!(mishap, Mishap::Hang { .. });
        for (_, mut client) in std::mem::take(&mut self.clients) {
            // What a server that hangs makes of a request to end the connection is no further question.
            if hangs {
                client.hang_up();
            } else {
                client.hurry(Deadline::after(GRACE));
                client.leave();
            }
        }
        drop(server.take_client_end());
        let waited = matches!(mishap, Mishap::Hang { doing } if doing == THE_CLOSES);
        if !waited && server.wait_until(deadline, |seen| seen.open() == 0) == Woken::Late {
            self.player.lose(DEPARTURE);
        }
        position.filter(|_| !waited)
    }

    /// From now on no step takes longer than until then.
    fn hurry(&mut self, deadline: Deadline) {
        self.deadline = deadline;
        self.clients.values_mut().for_each(|client| client.hurry(deadline));
    }

    fn step(&mut self, server: &mut Server, step: &Step) -> Result<(), Wrong> {
        match (step, self.act(server, step)) {
            (_, Err(ClientError::Timeout)) => Err(Wrong::Late),
            (Step::Fails(step), Ok(())) => {
                if let (Some(trace), Some(client)) = (server.trace(), step.client()) {
                    let message = format!("{step:?} went well");
                    breach::note_as(&trace, client, None, Breach::Granted, &message);
                }
                Err(Wrong::Otherwise("went well, and should have failed".to_owned()))
            }
            (Step::Fails(_) | Step::Perhaps(_), _) | (_, Ok(())) => Ok(()),
            (_, Err(error)) => Err(Wrong::Otherwise(format!("failed: {error}"))),
        }
    }

    fn act(&mut self, server: &mut Server, step: &Step) -> Result<(), ClientError> {
        match step {
            Step::Connect(number, wishes) => {
                let trace = server.trace().ok_or(ClientError::Gone)?;
                let mut client = NbdClient::new(*number, *wishes, trace, self.deadline)?;
                match server.take_client_end() {
                    Some(end) => client.connect_socket(end)?,
                    None => client.connect(server.socket().ok_or(ClientError::Gone)?)?,
                }
                self.clients.insert(*number, Peer::Nbd(Box::new(client)));
                Ok(())
            }
            Step::ConnectTls(number) => {
                let trace = server.trace().ok_or(ClientError::Gone)?;
                let mut client = NbdClient::new(*number, Wishes::default(), trace, self.deadline)?;
                client.secure(server.credentials().ok_or(ClientError::Gone)?)?;
                client.connect(server.socket().ok_or(ClientError::Gone)?)?;
                self.clients.insert(*number, Peer::Nbd(Box::new(client)));
                Ok(())
            }
            Step::StartTls(number, wishes) => {
                let socket = self.taken(*number)?.into_raw()?.into_fresh()?;
                let trace = server.trace().ok_or(ClientError::Gone)?;
                let credentials = server.credentials().ok_or(ClientError::Gone)?;
                let client =
                    NbdClient::take_over(*number, socket, credentials, *wishes, trace, self.deadline)?;
                self.clients.insert(*number, Peer::Nbd(Box::new(client)));
                Ok(())
            }
            Step::ConnectRaw(number) => {
                let mut client = self.dialled(server, *number)?;
                client.greeting()?;
                self.clients.insert(*number, Peer::Raw(Box::new(client)));
                Ok(())
            }
            Step::Dial(number) => {
                let client = self.dialled(server, *number)?;
                self.clients.insert(*number, Peer::Raw(Box::new(client)));
                Ok(())
            }
            Step::Greeting(client) => self.raw(*client)?.greeting(),
            Step::Send(client, messages) => self.raw(*client)?.send(messages),
            Step::Answers(client) => self.client(*client)?.answers(),
            Step::Say(client, messages) => self.raw(*client)?.say(messages),
            Step::Dropped(client) => self.raw(*client)?.until_closed(),
            Step::HalfClose(client) => self.raw(*client)?.half_close(),
            Step::Entered(layer, callback, times) => {
                reached(server.wait_until(self.deadline, |seen| seen.entered(*layer, *callback) >= *times))
            }
            Step::Noticed(client) => self.client(*client)?.nbd()?.await_shutdown(),
            Step::Signal(signal) => send(server, *signal).map_err(|_| ClientError::Gone),
            Step::Knock => self.knock(server, false),
            Step::Peek => self.knock(server, true),
            Step::List(client) => self.client(*client)?.list(),
            Step::Info(client, export) => self.client(*client)?.info(export),
            Step::Go(client, export) => self.client(*client)?.go(export),
            Step::Request(client, command) => self.client(*client)?.requests(&[*command]),
            Step::Offered(client, commands) => {
                let client = self.client(*client)?.nbd()?;
                let offered: Vec<_> = commands.iter().filter(|command| client.offers(command)).collect();
                offered.into_iter().try_for_each(|command| match client.command(*command) {
                    Ok(_) | Err(ClientError::Refused { .. }) => Ok(()),
                    Err(error) => Err(error),
                })
            }
            Step::Pipeline(client, commands) => self.client(*client)?.requests(commands),
            Step::Running(client, command) => {
                let before = server.observer.data_calls();
                self.client(*client)?.send(*command)?;
                reached(server.wait_until(self.deadline, |seen| seen.data_calls() > before))
            }
            Step::Abort(client) => self.taken(*client)?.abort(),
            Step::Disconnect(client) => self.taken(*client)?.disconnect(),
            Step::HangUp(client) => {
                self.taken(*client)?.hang_up();
                Ok(())
            }
            Step::Fails(step) | Step::Perhaps(step) => self.act(server, step),
        }
    }

    fn client(&mut self, number: u32) -> Result<&mut Peer, ClientError> {
        self.clients.get_mut(&number).ok_or(ClientError::Gone)
    }

    fn raw(&mut self, number: u32) -> Result<&mut Raw, ClientError> {
        self.client(number)?.raw()
    }

    fn taken(&mut self, number: u32) -> Result<Peer, ClientError> {
        self.clients.remove(&number).ok_or(ClientError::Gone)
    }

    /// A raw client that has connected, and has not waited for the greeting.
    fn dialled(&self, server: &mut Server, number: u32) -> Result<Raw, ClientError> {
        let trace = server.trace().ok_or(ClientError::Gone)?;
        match server.take_client_end() {
            Some(end) => Raw::on(number, end, trace, self.deadline),
            None => Raw::dial(number, server.socket().ok_or(ClientError::Gone)?, trace, self.deadline),
        }
    }

    /// A connection that is made and dropped without a byte from our side; with or without the server's greeting.
    fn knock(&mut self, server: &Server, greeted: bool) -> Result<(), ClientError> {
        let (Some(trace), Some(socket)) = (server.trace(), server.socket()) else {
            return Err(ClientError::Gone);
        };
        self.knocks += 1;
        let entry = |kind, operation| Record { handle: self.knocks, ..record(kind, 0, operation as u8) };
        let call = trace.enter(entry(Kind::Request, Operation::Connect), &[]);
        let connected = UnixStream::connect(socket).and_then(|mut socket| {
            if greeted {
                socket.set_read_timeout(Some(self.deadline.left().max(Duration::from_millis(1))))?;
                socket.read_exact(&mut [0])?;
            }
            Ok(socket)
        });
        // Without the greeting it is no success.
        let result: i64 = if greeted && connected.is_ok() { 0 } else { -1 };
        trace.exit(call, Record { a: result.cast_unsigned(), ..entry(Kind::Reply, Operation::Connect) }, &[]);
        let call = trace.enter(entry(Kind::Request, Operation::Hangup), &[]);
        let result = connected.map(drop);
        trace.exit(call, entry(Kind::Reply, Operation::Hangup), &[]);
        result.map_err(|_| ClientError::Gone)
    }

    /// Waits until the server knows that it is to stop: it then refuses requests.
    fn await_shutdown(&mut self) -> Result<(), Mishap> {
        self.hurry(self.player.until(THE_SIGNAL, self.deadline));
        for client in self.clients.values_mut() {
            let Ok(client) = client.nbd() else { continue };
            client.await_shutdown().map_err(|_| Mishap::Hang { doing: THE_SIGNAL.to_owned() })?;
        }
        Ok(())
    }

    /// Every client that is still there says goodbye; one that cannot is dropped.
    fn leave(&mut self) {
        let deadline = self.player.until(THE_CLOSES, self.deadline);
        for (_, mut client) in std::mem::take(&mut self.clients) {
            client.hurry(deadline);
            client.leave();
        }
    }
}

/// A step that waits for something in the trace, as a client's.
fn reached(woken: Woken) -> Result<(), ClientError> {
    match woken {
        Woken::Happened => Ok(()),
        Woken::Dead => Err(ClientError::Gone),
        Woken::Late => Err(ClientError::Timeout),
    }
}
