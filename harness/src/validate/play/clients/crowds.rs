//! Much at once: requests of several clients in flight together, and clients that come and go.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use layers_trace::Operation;

use super::stops::{differs, stop};
use super::{Clients, OWN};
use crate::client::nbd::{ClientError, Command, NbdClient, Ticket, Wishes};
use crate::deadline::Deadline;
use crate::protocol::transmission::{MULTI_CONN, READ_ONLY, SEND_FLUSH};
use crate::server::nbdkit::Server;
use crate::validate::play::disk_model::{Difference, Disk, pattern};
use crate::validate::play::stop::{Asked, Stop, Symptom, Wrong};
use crate::validate::script::op::{DiskRequest, Load};

/// Reads that overlap the parts of others are so many parts long.
const WIDE: u64 = 4;
/// Clients that share nothing work so far from one another at least, where the disk is large enough.
const APART: u64 = 64 << 10;
/// One in so many requests that write is for zeroes.
const ZEROES: usize = 3;
/// Bytes that a client of a crowd reads.
const LITTLE: u64 = 512;

/// What they ask for, so that they come and go quickly.
const NOTHING: Wishes =
    Wishes { block_size: false, full_info: false, structured_replies: false, meta_context: false };

/// A part of the disk and the client that works on it.
#[derive(Clone, Copy)]
struct Part {
    client: u32,
    offset: u64,
}

/// A request of a load, before it is sent.
#[derive(Clone, Copy)]
struct Sent {
    client: u32,
    operation: Operation,
    offset: u64,
    count: u32,
    data: u64,
}

impl Clients {
    /// Each request that changes something has its own part of the disk, next to those of the others. First all parts are
    /// written at once; then half of them again, while the other half is read; then all are read, and their neighbours
    /// with them. So it goes on until the time is over.
    pub(super) fn load(&mut self, server: &mut Server, load: &Load) -> Result<(), Stop> {
        let begun = Instant::now();
        let Load { clients, depth, count, data, again, ref export, .. } = *load;
        for number in OWN..OWN + clients {
            self.connect(server, number, export)?;
        }
        let flags = self.client(OWN)?.client.flags();
        let writable = flags & READ_ONLY == 0;
        // What one connection writes another one sees where the export says so, and only after a flush.
        let (shared, flushes) = (clients == 1 || flags & MULTI_CONN != 0, flags & SEND_FLUSH != 0);
        let (length, own) = (u64::from(count), u64::from(depth) * u64::from(count));
        let region = self.first.as_ref().map_or(0, |first| first.size) / u64::from(clients.max(1));
        let region = [region / APART * APART, own].into_iter().find(|region| *region >= own).unwrap_or(own);
        let of_client = |index: u32| {
            (OWN..OWN + clients).map(move |client| {
                let (nth, index) = (u64::from(client - OWN), u64::from(index));
                let offset = match shared {
                    true => (nth + index * u64::from(clients)) * length,
                    false => nth * region + index * length,
                };
                Part { client, offset }
            })
        };
        let parts: Vec<Part> = (0..depth).flat_map(of_client).collect();
        let mut known = Disk::default();
        for round in 0_u64.. {
            self.goes_on("load")?;
            self.begin_step();
            let data = (data ^ self.seed << 32).wrapping_add(round << 44);
            if writable {
                let all = |(nth, part): (usize, &Part)| changed(load, nth, part, data);
                let all: Vec<Sent> = (round as usize..).zip(&parts).map(all).collect();
                self.together(load, &all, &mut known)?;
                let half = |(nth, part): (usize, &Part)| match nth % 2 {
                    0 => changed(load, nth / 2, part, data.wrapping_add(1 << 43)),
                    _ => read(part, length),
                };
                let half: Vec<Sent> = (0..).zip(&parts).map(half).collect();
                self.together(load, &half, &mut known)?;
            } else if round == 0 {
                for part in &parts {
                    self.together(load, &[read(part, length)], &mut known)?;
                }
            }
            if writable && shared && clients > 1 && flushes {
                let flush =
                    |client| Sent { client, operation: Operation::Flush, offset: 0, count: 0, data: 0 };
                self.together(load, &(OWN..OWN + clients).map(flush).collect::<Vec<_>>(), &mut known)?;
            }
            let end = if shared { length * parts.len() as u64 } else { own };
            let sees = clients == 1 || !shared || flushes || !writable;
            let wide = |(nth, part): (usize, &Part)| {
                let left = end - part.offset % if shared { end } else { region };
                read(part, if nth % 4 == 0 && sees { (WIDE * length).min(left) } else { length })
            };
            let all: Vec<Sent> = parts.iter().enumerate().map(wide).collect();
            self.together(load, &all, &mut known)?;
            if begun.elapsed() >= Duration::from_millis(again.into()) {
                break;
            }
        }
        (OWN..OWN + clients).try_for_each(|number| self.disconnect(server, number))
    }

    /// Sends all of these requests before it waits for the first answer. No two that write overlap, and nothing that is
    /// written is read meanwhile.
    fn together(&mut self, load: &Load, all: &[Sent], known: &mut Disk) -> Result<(), Stop> {
        let failed = |sent: &Sent, error| {
            let Sent { client, operation, offset, count, data } = *sent;
            let request = DiskRequest { client, operation, offset, count, flags: 0, data };
            stop(Asked::Request(operation), format!("{request}, one of {} at once", all.len()), error)
        };
        let mut tickets = Vec::new();
        for sent in all {
            if matches!(sent.operation, Operation::Write | Operation::Zero) {
                known.forget(sent.offset, sent.count.into());
            }
            let client = &mut self.client(sent.client)?.client;
            tickets.push((sent, sent.send(client).map_err(|error| failed(sent, error))?));
        }
        let (mut outcome, mut wrong) = (Ok(()), None);
        for (sent, ticket) in tickets {
            // However many there are: each answer is a step forward.
            let deadline = Deadline::after(self.limit.of(self.timeout));
            let client = &mut self.client(sent.client)?.client;
            client.set_deadline(deadline);
            let answer = client.wait(ticket).map_err(|error| failed(sent, error));
            let taken = answer.and_then(|bytes| sent.take(known, &bytes));
            self.evidence.answered += u64::from(taken.is_ok());
            self.evidence.compared += taken.as_ref().copied().unwrap_or(0);
            if let (Ok(()), Err(Stop::Wrong(_))) = (&outcome, &taken) {
                wrong = Some(*sent);
            }
            outcome = outcome.and(taken.map(drop));
            if matches!(outcome, Err(Stop::NoAnswer(_))) {
                break;
            }
        }
        match (wrong, outcome) {
            (Some(sent), Err(Stop::Wrong(wrong))) if self.is_wrong_alone(load, sent, known)? => {
                let actual = wrong.actual + ", with one request at a time, too";
                Err(Stop::Wrong(Wrong { actual, symptom: Symptom::Alone, ..wrong }))
            }
            (_, outcome) => outcome,
        }
    }

    /// A read that has given wrong bytes gives wrong bytes when nothing else is at work, also where they have just been
    /// written, or zeroed, or their neighbours have: then it is no matter of requests at the same time.
    fn is_wrong_alone(&mut self, load: &Load, read: Sent, known: &Disk) -> Result<bool, Stop> {
        let Sent { client, offset, count, .. } = read;
        self.begin_step();
        let connected = &mut self.client(client)?.client;
        let alone = if connected.flags() & READ_ONLY == 0 {
            let request = |operation, data| DiskRequest { client, operation, offset, count, flags: 0, data };
            let changes = [Operation::Write, Operation::Zero];
            let size = self.first.as_ref().map_or(0, |first| first.size);
            let (own, count) = (u64::from(count), count.min(load.count));
            let sides = [offset.checked_sub(count.into()), offset.checked_add(own)];
            let sides: Vec<u64> =
                sides.into_iter().flatten().filter(|side| side + u64::from(count) <= size).collect();
            changes.into_iter().take(if load.zeroes { 2 } else { 1 }).try_for_each(|change| {
                self.request(&request(change, own << 8))?;
                self.request(&request(Operation::Read, 0))?;
                self.request(&request(Operation::Write, own << 9))?;
                sides.iter().try_for_each(|side| {
                    self.request(&DiskRequest { offset: *side, count, ..request(change, own << 10) })
                })?;
                self.request(&request(Operation::Read, 0))
            })
        } else {
            let command = Command { operation: Operation::Read, offset, count, flags: 0 };
            let bytes = connected
                .command(command)
                .map_err(|error| stop(Asked::Request(Operation::Read), "read", error));
            bytes.and_then(|bytes| known.clone().read(offset, &bytes).map(drop).map_err(differs))
        };
        match alone {
            Err(Stop::Wrong(_)) => Ok(true),
            Ok(()) | Err(Stop::Refused(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Clients that come, read a little, and go, all at the same time and again and again.
    pub(super) fn crowd(
        &mut self,
        server: &mut Server,
        clients: u32,
        milliseconds: u32,
        export: &str,
    ) -> Result<(), Stop> {
        let begun = Instant::now();
        let gone = || Stop::Gone("connect".to_owned());
        let trace = server.trace().ok_or_else(gone)?;
        let socket = server.socket().ok_or_else(gone)?;
        let size = self.first.as_ref().map_or(0, |first| first.size);
        let unit = self.first.as_ref().and_then(|first| first.block).map_or(1, |[minimum, ..]| minimum);
        let count = (LITTLE.max(unit.into()).min(size) / u64::from(unit.max(1)) * u64::from(unit)) as u32;
        let timeout = self.timeout;
        let visit = |number: u32| -> Result<Vec<u8>, Stop> {
            let open = |error| stop(Asked::Open, format!("open export {export:?}"), error);
            let deadline = Deadline::after(timeout);
            let mut client = NbdClient::new(number, NOTHING, trace.clone(), deadline).map_err(open)?;
            client.connect(socket).map_err(|error| match error {
                // Where the server has ended, its end is told.
                ClientError::Refused { errno: libc::ENOENT, .. } => Stop::NoSocket,
                error => open(error),
            })?;
            client.go(export).map_err(open)?;
            let command = Command { operation: Operation::Read, offset: 0, count, flags: 0 };
            let bytes = match count {
                0 => Vec::new(),
                _ => client
                    .command(command)
                    .map_err(|error| stop(Asked::Request(Operation::Read), "read", error))?,
            };
            client.disconnect().map_err(|error| stop(Asked::Other, "disconnect", error))?;
            Ok(bytes)
        };
        let before = visit(OWN)?;
        let (broken, visits) = (AtomicBool::new(false), AtomicU64::new(1));
        let first: Mutex<Option<Stop>> = Mutex::new(None);
        let come_and_go = |number: u32| {
            while !broken.load(Ordering::Relaxed) {
                let seen = visit(number).and_then(|bytes| compared(&before, &bytes));
                match seen {
                    Ok(()) => visits.fetch_add(1, Ordering::Relaxed),
                    Err(stop) => {
                        broken.store(true, Ordering::Relaxed);
                        first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(stop);
                        return;
                    }
                };
                if begun.elapsed() >= Duration::from_millis(milliseconds.into()) {
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            for number in OWN..OWN + clients {
                let begun = std::thread::Builder::new().spawn_scoped(scope, move || come_and_go(number));
                begun.map_err(|error| Stop::Short(format!("a thread for client {number} ({error})")))?;
            }
            Ok(())
        })?;
        let visits = visits.into_inner();
        self.evidence.answered += visits;
        self.evidence.compared += visits.saturating_sub(1) * before.len() as u64;
        first.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

/// This part is written, or zeroed in its turn.
fn changed(load: &Load, nth: usize, part: &Part, data: u64) -> Sent {
    let zero = load.zeroes && nth.is_multiple_of(ZEROES);
    let operation = if zero { Operation::Zero } else { Operation::Write };
    let Part { client, offset } = *part;
    Sent { client, operation, offset, count: load.count, data: data.wrapping_add(offset) }
}

fn read(part: &Part, length: u64) -> Sent {
    let Part { client, offset } = *part;
    let count = u32::try_from(length).unwrap_or(u32::MAX);
    Sent { client, operation: Operation::Read, offset, count, data: 0 }
}

impl Sent {
    fn send(&self, client: &mut NbdClient) -> Result<Ticket, ClientError> {
        let Sent { operation, offset, count, data, .. } = *self;
        match operation {
            Operation::Write => client.send_data(offset, pattern(data, offset, count as usize), 0),
            _ => client.send(Command { operation, offset, count, flags: 0 }),
        }
    }

    /// It has succeeded, with these bytes; says of how many of them it was known what they must be.
    fn take(&self, known: &mut Disk, bytes: &[u8]) -> Result<u64, Stop> {
        let length = u64::from(self.count);
        match self.operation {
            Operation::Write => known.write(self.offset, length, self.data),
            Operation::Zero => known.zero(self.offset, length),
            Operation::Flush => {}
            _ => return known.read(self.offset, bytes).map_err(differs),
        }
        Ok(0)
    }
}

fn compared(before: &[u8], now: &[u8]) -> Result<(), Stop> {
    let Some(at) = before.iter().zip(now).position(|(one, other)| one != other) else { return Ok(()) };
    let byte = |bytes: &[u8]| bytes.get(at).copied().unwrap_or_default();
    let (expected, actual) = (byte(before), byte(now));
    Err(differs(Difference { offset: at as u64, expected, actual, learnt: true }))
}
