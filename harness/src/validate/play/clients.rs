//! The clients of a case, each with what it knows of the disk.

mod crowds;
mod expected;
mod measured;
mod rounds;
mod stops;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use layers_trace::{Operation, Reader};

use super::disk_model::{Difference, Disk, pattern};
use super::evidence::Evidence;
use super::flush_duty::left_volatile;
use super::origin::Change;
use super::played::Answers;
use super::resource_usage;
use super::stop::{Asked, Stop, Symptom, Wrong};
use crate::campaign::halt::{Halt, Limit};
use crate::client::nbd::{ClientError, Command, NbdClient, Wishes};
use crate::deadline::Deadline;
use crate::protocol::transmission::{READ_ONLY, SEND_CACHE, SEND_FLUSH, SEND_TRIM, SEND_ZERO};
use crate::rules::CallRef;
use crate::scenario::flag;
use crate::server::nbdkit::Server;
use crate::server::process::Woken;
use crate::validate::script::op::{DiskRequest, Op, Resource};
use stops::{differs, differs_from, perhaps, stop, whatever, wrong};

/// NBD_STATE_ZERO.
const STATE_ZERO: u32 = 1 << 1;
/// Clients that a step makes for itself get numbers from here on.
const OWN: u32 = 100;
/// Connections that cycles make in any case, and the time after which there are no more.
const FEWEST_CYCLES: u32 = 10;
const MOST_CYCLING: Duration = Duration::from_secs(4);
/// Rounds of connections that are made when memory has grown in all rounds so far.
const MORE_ROUNDS: u32 = 3;
/// So many times its time may a step take on which work goes on.
const STEADY: u32 = 4;
/// Exports of a list that are opened.
const MOST_OPENED: usize = 32;

struct Connected {
    client: NbdClient,
    disk: Disk,
    /// Reads that were learnt, by offset and count.
    learnt: BTreeMap<(u64, u32), Vec<u8>>,
}

/// All clients of a case.
pub(in crate::validate) struct Clients {
    /// For one step.
    timeout: Duration,
    /// For the whole run.
    limit: Limit,
    /// Of this step.
    deadline: Deadline,
    /// The number that written data begins from.
    seed: u64,
    clients: BTreeMap<u32, Connected>,
    /// What clients of a server that has ended knew of its disk.
    outlived: BTreeMap<u32, Disk>,
    /// What the first one was told.
    pub(in crate::validate) first: Option<Answers>,
    pub(in crate::validate) listed: Vec<String>,
    pub(in crate::validate) evidence: Evidence,
    /// Byte counts of requests of each kind that were slow.
    quick: BTreeMap<u8, u32>,
    /// What the server held, whenever that was looked at.
    measured: Vec<resource_usage::Held>,
    /// The connections that were made last for that: how many, and of which export.
    cycled: Option<(u32, String)>,
    /// Requests that have changed the disk, in order.
    changes: Vec<Change>,
}

/// Says goodbye, and waits until the server has closed the connection, or has at least closed a handle for it: a child that
/// holds the socket keeps it open.
fn part(server: &mut Server, client: &mut NbdClient) -> Result<(), ClientError> {
    let Some(trace) = server.trace() else { return Err(ClientError::Gone) };
    let observer = &mut server.observer;
    observer.look(&trace);
    let before = observer.open();
    client.disconnect_once(|| {
        observer.look(&trace);
        observer.open() < before
    })
}

impl Clients {
    /// Each step may take so long.
    pub(in crate::validate) fn new(timeout: Duration, limit: Limit, seed: u64) -> Clients {
        Clients {
            timeout,
            limit,
            deadline: Deadline::after(limit.of(timeout)),
            seed,
            clients: BTreeMap::new(),
            outlived: BTreeMap::new(),
            first: None,
            listed: Vec::new(),
            evidence: Evidence::default(),
            quick: BTreeMap::new(),
            measured: Vec::new(),
            cycled: None,
            changes: Vec::new(),
        }
    }

    /// The time of a step begins.
    pub(in crate::validate) fn begin_step(&mut self) {
        self.deadline = Deadline::after(self.limit.of(self.timeout));
        let last = Deadline::after(self.limit.of(self.timeout.saturating_mul(STEADY)));
        for connected in self.clients.values_mut() {
            connected.client.set_deadlines(self.deadline, last);
        }
    }

    /// Goes on only within the time of the whole run: what one step does again and again is many steps.
    fn goes_on(&self, what: impl ToString) -> Result<(), Stop> {
        match self.limit.reached() {
            Some(Halt::Time(_)) => Err(Stop::NoAnswer(what.to_string())),
            _ => Ok(()),
        }
    }

    /// One step of the script.
    pub(in crate::validate) fn step(&mut self, server: &mut Server, op: &Op) -> Result<(), Stop> {
        self.goes_on(op)?;
        match op {
            // What becomes of the server is not the clients' doing.
            Op::Judge | Op::IfQuick | Op::Kill | Op::Restart => Ok(()),
            Op::Connect(number, export) => self.connect(server, *number, export),
            Op::Disconnect(number) => self.disconnect(server, *number),
            Op::Answers(number) => self.same_answers(*number),
            Op::List => self.list(server),
            Op::OpenListed => self.open_listed(server),
            Op::Request(request) => self.request(request),
            Op::Refused(request) => self.refused(request),
            Op::Perhaps(request) => perhaps(self.request(request)),
            Op::Durable(request) => self.durable(server, request),
            Op::Try(request) => whatever(self.request(request)),
            Op::Visit(number, export) => match self.connect(server, *number, export) {
                Ok(()) => self.disconnect(server, *number),
                Err(Stop::Gone(_)) => Ok(()),
                Err(other) => perhaps(Err(other)),
            },
            Op::Learn(request) => self.learn(request),
            Op::Again(request) => self.again(request),
            Op::Vary(request) => self.vary(request),
            Op::Share(from, to) => self.share(*from, *to),
            Op::Cycles(times, export) => self.cycles(server, *times, export),
            Op::Refusals(times) => self.refusals(server, *times),
            Op::Rounds(times, what, export) => self.rounds(server, *times, what, export),
            Op::Measure => self.measure(server),
            Op::Compare(resource) => self.compare(server, *resource),
            Op::Load(load) => self.load(server, load),
            Op::Grow(request) => self.grow(request),
            Op::Patient(request) => perhaps(self.patiently(request)),
            Op::Sized(number, size) => self.sized(*number, *size),
            Op::Crowd(clients, time, export) => self.crowd(server, *clients, *time, export),
            Op::ReadListed => self.read_listed(server),
            Op::Expect(number, fact) => self.expect(server, *number, fact),
        }
    }

    /// Every client that is still there says goodbye.
    pub(in crate::validate) fn leave(&mut self, server: &mut Server) {
        for (_, mut connected) in std::mem::take(&mut self.clients) {
            if connected.client.is_ready() {
                let _ = part(server, &mut connected.client);
            }
        }
    }

    /// Every client is gone without a word.
    pub(in crate::validate) fn hang_up(&mut self) {
        self.clients.clear();
    }

    /// Takes down what each client knows of the disk, for whoever comes when the server has been started again.
    pub(in crate::validate) fn remember(&mut self) {
        self.outlived.extend(self.clients.iter().map(|(number, one)| (*number, one.disk.clone())));
    }

    fn client(&mut self, number: u32) -> Result<&mut Connected, Stop> {
        self.clients.get_mut(&number).ok_or(Stop::Unconnected(number))
    }

    fn greeted(&self, server: &Server, number: u32) -> Result<NbdClient, Stop> {
        let gone = || Stop::Gone("connect".to_owned());
        let trace = server.trace().ok_or_else(gone)?;
        let socket = server.socket().ok_or_else(gone)?;
        let mut client = NbdClient::new(number, Wishes::default(), trace, self.deadline)
            .map_err(|error| stop(Asked::Open, "connect", error))?;
        match client.connect(socket) {
            // A server that ends removes its socket; then its end is told.
            Err(ClientError::Refused { errno: libc::ENOENT, .. }) if server.process.end().is_none() => {
                Err(Stop::NoSocket)
            }
            connected => connected.map(|()| client).map_err(|error| stop(Asked::Open, "connect", error)),
        }
    }

    fn connect(&mut self, server: &mut Server, number: u32, export: &str) -> Result<(), Stop> {
        // A module may end the server with its last client. Of a connection that comes before it has said so, and is
        // accepted after, the server makes a mess of its own.
        if self.first.is_some() && self.clients.is_empty() {
            self.quiet(server)?;
        }
        let mut client = self.greeted(server, number)?;
        client.go(export).map_err(|error| stop(Asked::Open, format!("open export {export:?}"), error))?;
        let answers = answers(&client);
        self.first.get_or_insert(answers);
        let disk = self.outlived.remove(&number).unwrap_or_default();
        self.clients.insert(number, Connected { client, disk, learnt: BTreeMap::new() });
        Ok(())
    }

    fn disconnect(&mut self, server: &mut Server, number: u32) -> Result<(), Stop> {
        match self.clients.remove(&number) {
            Some(mut connected) => {
                let parted = part(server, &mut connected.client);
                parted.map_err(|error| stop(Asked::Other, "disconnect", error))
            }
            None => Err(Stop::Unconnected(number)),
        }
    }

    fn same_answers(&mut self, number: u32) -> Result<(), Stop> {
        let now = answers(&self.client(number)?.client);
        match &self.first {
            Some(first) if *first != now => Err(Stop::Wrong(Wrong::new(
                format!("as the first connection was told: {}", told(first)),
                told(&now),
            ))),
            _ => Ok(()),
        }
    }

    fn list(&mut self, server: &Server) -> Result<(), Stop> {
        let mut client = self.greeted(server, OWN)?;
        let listed = client.list().map_err(|error| stop(Asked::List, "list exports", error))?;
        client.abort().map_err(|error| stop(Asked::Other, "leave", error))?;
        for (index, (name, description)) in listed.iter().enumerate() {
            let before = listed.get(..index).unwrap_or_default();
            if before.iter().any(|(one, _)| one == name) {
                let actual = format!("`{name}` comes twice");
                return Err(Stop::Wrong(Wrong::new("each export is listed once", actual)));
            }
            if [name, description].into_iter().any(|text| text.contains(char::REPLACEMENT_CHARACTER)) {
                let actual = format!("`{name}`: {description}");
                return Err(Stop::Wrong(Wrong::new("names and descriptions are UTF-8", actual)));
            }
        }
        self.listed = listed.into_iter().map(|(name, _)| name).collect();
        Ok(())
    }

    fn open_listed(&mut self, server: &mut Server) -> Result<(), Stop> {
        for name in self.listed.clone().into_iter().take(MOST_OPENED) {
            self.connect(server, OWN, &name)?;
            self.disconnect(server, OWN)?;
        }
        Ok(())
    }

    fn request(&mut self, request: &DiskRequest) -> Result<(), Stop> {
        let seed = self.seed << 32;
        let DiskRequest { operation, offset, count, flags, data, .. } = *request;
        self.is_offered(request)?;
        let Clients { clients, evidence, changes, .. } = self;
        let Some(Connected { client, disk, .. }) = clients.get_mut(&request.client) else {
            return Err(Stop::Unconnected(request.client));
        };
        let (length, data) = (u64::from(count), data ^ seed);
        let failed = |error| stop(Asked::Request(operation), request, error);
        let command = Command { operation, offset, count, flags };
        if matches!(operation, Operation::Write | Operation::Zero | Operation::Trim) {
            changes.push(Change { operation, offset, count: length, data });
        }
        match operation {
            Operation::Read => {
                let bytes = client.command(command).map_err(failed)?;
                evidence.reads(&bytes);
                let wrong = |difference| differs_from(difference, changes, offset, &bytes);
                evidence.compared += disk.read(offset, &bytes).map_err(wrong)?;
                Ok(())
            }
            Operation::Write => {
                let bytes = pattern(data, offset, count as usize);
                disk.forget(offset, length);
                client
                    .send_data(offset, bytes, flags)
                    .and_then(|ticket| client.wait(ticket))
                    .map_err(failed)?;
                evidence.answered += 1;
                disk.write(offset, length, data);
                Ok(())
            }
            Operation::Zero => {
                disk.forget(offset, length);
                evidence.answered += 1;
                match client.command(command) {
                    Ok(_) => disk.zero(offset, length),
                    // The one answer besides success that a fast zero may have.
                    Err(ClientError::Refused { errno: libc::ENOTSUP, .. })
                        if flags & flag::FAST_ZERO != 0 => {}
                    Err(error) => return Err(failed(error)),
                }
                Ok(())
            }
            Operation::Trim => {
                disk.forget(offset, length);
                client.command(command).map_err(failed)?;
                evidence.answered += 1;
                Ok(())
            }
            Operation::BlockStatus => {
                let extents = client.extents(offset, count, flags).map_err(failed)?;
                evidence.answered += 1;
                judge_extents(request, &extents, disk)
            }
            _ => {
                client.command(command).map_err(failed)?;
                evidence.answered += 1;
                Ok(())
            }
        }
    }

    /// This connection was told that it may ask for that. Another one was; but answers may differ from one open to the
    /// next.
    fn is_offered(&mut self, request: &DiskRequest) -> Result<(), Stop> {
        let Some(first) = self.first.clone() else { return Ok(()) };
        let client = &self.client(request.client)?.client;
        let (size, end) = (client.size().unwrap_or(0), request.offset + u64::from(request.count));
        if end > size && end <= first.size {
            let told = format!("client {} is told of {size} bytes: see open.same-answers", request.client);
            return Err(Stop::Changed(told));
        }
        let lost = first.flags & !client.flags();
        let became_read_only = client.flags() & READ_ONLY & !first.flags;
        let (changes, needs) = match request.operation {
            Operation::Write => (true, 0),
            Operation::Zero => (true, SEND_ZERO),
            Operation::Trim => (true, SEND_TRIM),
            Operation::Flush => (false, SEND_FLUSH),
            Operation::Cache => (false, SEND_CACHE),
            _ => (false, 0),
        };
        if lost & needs != 0 || (changes && became_read_only != 0) {
            let told = format!("client {} is not offered `{request}`: see open.same-answers", request.client);
            return Err(Stop::Changed(told));
        }
        Ok(())
    }

    fn learn(&mut self, request: &DiskRequest) -> Result<(), Stop> {
        let DiskRequest { operation, offset, count, flags, .. } = *request;
        self.is_offered(request)?;
        let connected = self.client(request.client)?;
        let read = connected.client.command(Command { operation, offset, count, flags });
        let bytes = read.map_err(|error| stop(Asked::Request(operation), request, error))?;
        connected.disk.relearn(offset, &bytes);
        self.evidence.reads(&bytes);
        self.client(request.client)?.learnt.insert((offset, count), bytes);
        Ok(())
    }

    fn again(&mut self, request: &DiskRequest) -> Result<(), Stop> {
        let DiskRequest { client, offset, count, .. } = *request;
        let before = self.client(client)?.learnt.get(&(offset, count)).cloned();
        self.learn(request)?;
        let now = self.client(client)?.learnt.get(&(offset, count)).cloned().unwrap_or_default();
        self.evidence.compared += u64::from(count);
        let Some(before) = before.filter(|before| *before != now) else { return Ok(()) };
        let at = before.iter().zip(&now).position(|(one, other)| one != other).unwrap_or(0);
        let byte = |bytes: &[u8]| bytes.get(at).copied().unwrap_or_default();
        let (expected, actual) = (byte(&before), byte(&now));
        Err(differs(Difference { offset: offset + at as u64, expected, actual, learnt: true }))
    }

    fn vary(&mut self, request: &DiskRequest) -> Result<(), Stop> {
        let varied = perhaps(self.request(request));
        self.client(request.client)?.disk.forget(request.offset, request.count.into());
        varied
    }

    fn refused(&mut self, request: &DiskRequest) -> Result<(), Stop> {
        let Connected { client, disk, .. } = self.client(request.client)?;
        if client.flags() & READ_ONLY == 0 {
            let (expected, actual) = ("the export is read-only", "it can be written to");
            return Err(Stop::Wrong(Wrong::new(expected, actual)));
        }
        let known = disk.clone();
        match self.request(request) {
            Ok(()) => Err(Stop::Wrong(Wrong::new("it is refused", format!("`{request}` succeeds")))),
            Err(Stop::Refused(_)) => {
                // What is refused changes nothing: what was known before still is.
                self.client(request.client)?.disk = known;
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    fn durable(&mut self, server: &Server, request: &DiskRequest) -> Result<(), Stop> {
        // Where what is below fails, it may be tried again for as long as anybody likes.
        match self.patiently(request) {
            Err(Stop::Refused(_)) => return Ok(()),
            other => other?,
        }
        let Some(trace) = server.trace() else { return Ok(()) };
        match left_volatile(Reader::of(&trace).events().flatten()) {
            None => Ok(()),
            Some(write) => Err(wrong(
                format!("when `{request}` succeeds, all that the plugin below was given to write is durable"),
                format!("`{}` was neither flushed after it nor had FUA", CallRef::from(&write)),
                (write.offset(), u64::from(write.count())),
            )),
        }
    }

    fn share(&mut self, from: u32, to: u32) -> Result<(), Stop> {
        let known = self.client(from)?.disk.clone();
        self.client(to)?.disk.take_from(&known);
        Ok(())
    }

    fn cycles(&mut self, server: &mut Server, times: u32, export: &str) -> Result<(), Stop> {
        self.cycled = Some((times, export.to_owned()));
        let begun = Instant::now();
        for cycle in 0..times {
            // A slow subject is measured by fewer.
            if cycle >= FEWEST_CYCLES && begun.elapsed() > MOST_CYCLING {
                break;
            }
            self.goes_on("cycles")?;
            self.begin_step();
            self.connect(server, OWN, export)?;
            if let Some(Connected { client, .. }) = self.clients.get_mut(&OWN) {
                let size = client.size().unwrap_or(0).min(4096);
                let count = u32::try_from(size).unwrap_or(0);
                let read = Command { operation: Operation::Read, offset: 0, count, flags: 0 };
                if count == 4096 {
                    client
                        .command(read)
                        .map_err(|error| stop(Asked::Request(Operation::Read), "read", error))?;
                }
            }
            self.disconnect(server, OWN)?;
        }
        Ok(())
    }

    fn measure(&mut self, server: &mut Server) -> Result<(), Stop> {
        self.quiet(server)?;
        self.measured
            .push(resource_usage::held(server.process.pid(), server.run_id()).ok_or(Stop::Unmeasured)?);
        Ok(())
    }

    fn quiet(&self, server: &mut Server) -> Result<(), Stop> {
        match server.wait_until(self.deadline, |seen| seen.open() == 0) {
            Woken::Happened => Ok(()),
            Woken::Dead => Err(Stop::Gone("waiting for the closes".to_owned())),
            Woken::Late => Err(Stop::NoAnswer("disconnect".to_owned())),
        }
    }

    fn compare(&mut self, server: &mut Server, resource: Resource) -> Result<(), Stop> {
        self.quiet(server)?;
        for more in 0.. {
            let held: Vec<String> = self.measured.iter().map(|held| held.text(resource)).collect();
            let Some(after) = resource_usage::settles(server, &self.measured, resource) else {
                return Ok(());
            };
            let again = self.cycled.clone().filter(|_| resource == Resource::Memory && more < MORE_ROUNDS);
            let Some((times, export)) = again else {
                return Err(Stop::Wrong(Wrong::new(
                    format!("the server holds {} as before", resource.word()),
                    format!("{} became {after}", held.join(", then ")),
                )));
            };
            // On a busy machine threads come to memory of their own late: what is lost is lost in each round.
            self.measure(server)?;
            self.cycles(server, times, &export)?;
            self.quiet(server)?;
        }
        Ok(())
    }
}

fn answers(client: &NbdClient) -> Answers {
    Answers {
        size: client.size().unwrap_or(0),
        flags: client.flags(),
        block: client.block_sizes(),
        block_status: client.can_block_status(),
    }
}

fn told(answers: &Answers) -> String {
    let Answers { size, flags, block, block_status } = answers;
    let block = block.map_or("none".to_owned(), |[min, pref, max]| format!("{min}, {pref}, {max}"));
    let extents = if *block_status { "" } else { "no " };
    format!("size {size}, flags {flags:#x}, block sizes {block}, {extents}block status")
}

fn judge_extents(request: &DiskRequest, extents: &[(u32, u32)], disk: &Disk) -> Result<(), Stop> {
    let range = (request.offset, u64::from(request.count));
    if extents.is_empty() || extents.iter().any(|(length, _)| *length == 0) {
        let actual = format!("`{request}` gives {extents:?}");
        return Err(wrong("at least one extent, and none of length 0", actual, range));
    }
    if request.flags & flag::REQ_ONE != 0 && extents.len() > 1 {
        return Err(wrong("one extent", format!("`{request}` gives {}", extents.len()), range));
    }
    let mut at = request.offset;
    for (length, state) in extents {
        let zero = state & STATE_ZERO != 0;
        if let Some(byte) = zero.then(|| disk.first_nonzero(at, u64::from(*length))).flatten() {
            let found = Wrong::new(
                format!("byte {byte} of the disk is in no extent of zeroes: it is not zero"),
                format!("`{request}` tells of {length} zeroes from {at} on"),
            );
            return Err(Stop::Wrong(Wrong { range: Some((byte, 1)), symptom: Symptom::ToldZero, ..found }));
        }
        at += u64::from(*length);
    }
    Ok(())
}
