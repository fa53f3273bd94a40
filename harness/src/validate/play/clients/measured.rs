//! Requests whose size, or whose number, depends on what has come of those before.

use std::time::{Duration, Instant};

use layers_trace::Operation;

use super::stops::perhaps;
use super::{Clients, OWN};
use crate::deadline::Deadline;
use crate::protocol::MOST_PORTABLE;
use crate::server::nbdkit::Server;
use crate::validate::play::stop::Stop;
use crate::validate::script::fact::BlockSize;
use crate::validate::script::op::DiskRequest;

/// The first byte count of a request that grows, and by what it grows.
const FIRST: u32 = 1 << 20;
const FACTOR: u32 = 4;
/// A request that takes longer does not grow any more. Of zeroes that are written after all each byte costs something; of
/// the others only the answer does.
const QUICK: Duration = Duration::from_millis(20);
const QUICK_ANSWER: Duration = Duration::from_millis(300);
/// How long a request is waited for that may take longer than anybody waits.
const PATIENCE: Duration = Duration::from_millis(2500);
/// Exports that are open side by side.
const MOST_OPEN: u32 = 4;

impl Clients {
    /// The request with byte counts that grow up to its own, as long as that is quick. A large one may be much work: that
    /// of a plugin which writes zeroes is.
    pub(super) fn grow(&mut self, request: &DiskRequest) -> Result<(), Stop> {
        let mut count = FIRST;
        let quick = if request.operation == Operation::Zero { QUICK } else { QUICK_ANSWER };
        loop {
            // What has been slow once is not asked for more, also where it is quick now: it may be cached.
            let most =
                self.quick.get(&(request.operation as u8)).copied().unwrap_or(u32::MAX).min(request.count);
            let now = DiskRequest { count: count.min(most), ..*request };
            self.begin_step();
            let begun = Instant::now();
            perhaps(self.request(&now))?;
            if begun.elapsed() > quick {
                self.quick.insert(request.operation as u8, now.count);
            }
            if now.count == most || begun.elapsed() > quick {
                return Ok(());
            }
            count = count.saturating_mul(FACTOR);
        }
    }

    /// A request that may take for ever, as one that is tried again and again does; but then the server ends all the same
    /// when it is told to, which whoever plays the case looks at.
    pub(super) fn patiently(&mut self, request: &DiskRequest) -> Result<(), Stop> {
        let deadline = Deadline::after(self.limit.of(PATIENCE.min(self.timeout)));
        self.client(request.client)?.client.set_deadline(deadline);
        match self.request(request) {
            Err(Stop::NoAnswer(what)) => Err(Stop::Slow(what)),
            other => other,
        }
    }

    /// Reads of one of the block sizes that this client was told.
    pub(super) fn sized(&mut self, number: u32, which: BlockSize) -> Result<(), Stop> {
        let client = &self.client(number)?.client;
        let Some([minimum, preferred, maximum]) = client.block_sizes() else { return Ok(()) };
        let size = client.size().unwrap_or(0);
        let unit = minimum.max(1);
        let count = match which {
            BlockSize::Minimum => unit,
            BlockSize::Preferred => preferred,
            BlockSize::Maximum => maximum,
        };
        let count = count.min(MOST_PORTABLE) / unit * unit;
        let (length, unit) = (u64::from(count), u64::from(unit));
        let Some(last) = size.checked_sub(length).filter(|_| count > 0) else { return Ok(()) };
        let mut places = vec![0, length, last / length * length];
        places.retain(|offset| offset + length <= size && offset.is_multiple_of(unit));
        places.dedup();
        places.into_iter().try_for_each(|offset| {
            let operation = Operation::Read;
            self.request(&DiskRequest { client: number, operation, offset, count, flags: 0, data: 0 })
        })
    }

    /// Opens the exports that are listed side by side, and reads each at its start and at its end; then again, the last one
    /// first.
    pub(super) fn read_listed(&mut self, server: &mut Server) -> Result<(), Stop> {
        let mut reads = Vec::new();
        for (number, name) in (OWN..OWN + MOST_OPEN).zip(self.listed.clone()) {
            self.connect(server, number, &name)?;
            let client = &self.client(number)?.client;
            let size = client.size().unwrap_or(0);
            let unit = client.block_sizes().map_or(1, |[minimum, ..]| u64::from(minimum.max(1)));
            let count = (512_u64.div_ceil(unit) * unit).min(size / unit * unit);
            let Some(count) = u32::try_from(count).ok().filter(|count| *count > 0) else { continue };
            let last = (size - u64::from(count)) / unit * unit;
            let read = |offset| {
                let operation = Operation::Read;
                DiskRequest { client: number, operation, offset, count, flags: 0, data: 0 }
            };
            reads.extend([read(0), read(last)]);
        }
        for read in &reads {
            self.first_of(read.client);
            self.learn(read)?;
        }
        for read in reads.iter().rev() {
            self.first_of(read.client);
            self.again(read)?;
        }
        let clients: Vec<u32> = self.clients.keys().copied().filter(|number| *number >= OWN).collect();
        clients.into_iter().try_for_each(|number| self.disconnect(server, number))
    }

    /// What this client was told is what its requests are held against: exports differ.
    fn first_of(&mut self, number: u32) {
        self.first = self.clients.get(&number).map(|connected| super::answers(&connected.client));
    }
}
