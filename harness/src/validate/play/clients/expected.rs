//! What a client sees, against what the author of a subject says that it sees.

use layers_trace::Operation;
use ring::digest::{Context, SHA256};

use super::stops::stop;
use super::{Asked, Clients, Command, OWN, Stop, Wrong};
use crate::foreign::visible::visible_line;
use crate::server::nbdkit::Server;
use crate::validate::script::fact::{BlockSize, Fact};

/// Bytes of one read where a whole disk is read.
const PIECE: u64 = 1 << 20;

impl Clients {
    /// This client sees it so. What is refused is asked for by a client of its own.
    pub(super) fn expect(&mut self, server: &mut Server, number: u32, fact: &Fact) -> Result<(), Stop> {
        let actual = match fact {
            // Of a server that serves this is wrong already.
            Fact::StartRefused => Some("it serves".to_owned()),
            Fact::Refused(name) => return self.expect_refusal(server, name, fact),
            Fact::Listed(name) => {
                self.list(server)?;
                let listed: Vec<String> = self.listed.iter().map(|name| format!("`{name}`")).collect();
                (!self.listed.contains(name)).then(|| format!("listed: {}", listed.join(", ")))
            }
            Fact::Sha256(digits) => {
                let seen = self.digest(number)?;
                (seen != *digits).then(|| format!("sha256={seen}"))
            }
            Fact::Bytes(offset, digits) => {
                let seen = self.digits_at(number, *offset, digits.len() / 2)?;
                (seen != *digits).then(|| Fact::Bytes(*offset, seen).to_string())
            }
            Fact::Size(_) | Fact::Block(..) | Fact::Description(_) | Fact::Flag(..) => {
                let seen = self.told_like(number, fact)?;
                (seen.as_ref() != Some(fact))
                    .then(|| seen.map_or_else(|| "nothing is told".to_owned(), |seen| seen.to_string()))
            }
        };
        actual.map_or(Ok(()), |actual| Err(unlike(fact, &actual)))
    }

    fn expect_refusal(&mut self, server: &mut Server, name: &str, fact: &Fact) -> Result<(), Stop> {
        match self.connect(server, OWN, name) {
            Ok(()) => {
                self.disconnect(server, OWN)?;
                Err(unlike(fact, "it opens"))
            }
            Err(Stop::Refused(_)) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// What this client is told of the same thing.
    fn told_like(&mut self, number: u32, fact: &Fact) -> Result<Option<Fact>, Stop> {
        let client = &self.client(number)?.client;
        Ok(match fact {
            Fact::Size(_) => client.size().map(Fact::Size),
            Fact::Block(which, _) => client.block_sizes().map(|[minimum, preferred, maximum]| {
                let bytes = match which {
                    BlockSize::Minimum => minimum,
                    BlockSize::Preferred => preferred,
                    BlockSize::Maximum => maximum,
                };
                Fact::Block(*which, bytes)
            }),
            Fact::Description(_) => client.description().map(Fact::Description),
            Fact::Flag(bit, _) => Some(Fact::Flag(*bit, client.flags() & bit != 0)),
            _ => None,
        })
    }

    /// The SHA-256 of the whole disk; each piece has the time of a step.
    fn digest(&mut self, number: u32) -> Result<String, Stop> {
        let mut context = Context::new(&SHA256);
        let client = &self.client(number)?.client;
        let size = client.size().unwrap_or(0);
        let [unit, _, most] = client.block_sizes().unwrap_or([1, 1, u32::MAX]);
        let unit = u64::from(unit.max(1));
        let piece = (PIECE.min(u64::from(most)) / unit).max(1) * unit;
        let mut offset = 0;
        while offset < size {
            self.begin_step();
            let bytes = self.piece(number, offset, piece.min(size - offset))?;
            context.update(&bytes);
            offset += piece;
        }
        Ok(hexadecimal(context.finish().as_ref()))
    }

    /// Bytes from somewhere on, read in whole blocks.
    fn digits_at(&mut self, number: u32, offset: u64, count: usize) -> Result<String, Stop> {
        let client = &self.client(number)?.client;
        let size = client.size().unwrap_or(0);
        let unit = u64::from(client.block_sizes().map_or(1, |[unit, ..]| unit.max(1)));
        let (start, end) = (offset / unit * unit, offset.saturating_add(count as u64));
        let end = end.div_ceil(unit).saturating_mul(unit).min(size);
        if start >= end {
            return Ok(String::new());
        }
        let bytes = self.piece(number, start, end - start)?;
        let from = usize::try_from(offset - start).unwrap_or(usize::MAX);
        let there = bytes.get(from..).unwrap_or_default();
        Ok(hexadecimal(there.get(..count).unwrap_or(there)))
    }

    fn piece(&mut self, number: u32, offset: u64, count: u64) -> Result<Vec<u8>, Stop> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let command = Command { operation: Operation::Read, offset, count, flags: 0 };
        let read = self.client(number)?.client.command(command);
        let what = format!("read offset={offset} count={count}");
        let bytes = read.map_err(|error| stop(Asked::Request(Operation::Read), what, error))?;
        self.evidence.reads(&bytes);
        self.evidence.compared += u64::from(count);
        Ok(bytes)
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unlike(fact: &Fact, actual: &str) -> Stop {
    Stop::Wrong(Wrong::new(format!("{} (--expect)", visible_line(&fact.to_string())), actual))
}
