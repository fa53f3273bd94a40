//! One step of a case, as a value: what a check asks a client to do, and what stands in a file for `layers repro`.
//!
//! Each has one line of text. What an operation must lead to is not written down with it: that follows from the
//! operations before, through the model of the disk.

use std::fmt;
use std::str::FromStr;

use layers_trace::Operation;
use serde::{Deserialize, Serialize};

use super::fact::{BlockSize, Fact};
use crate::scenario::flag;

/// A request of the transmission phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskRequest {
    /// The client that sends it.
    pub client: u32,
    /// Which one: read, write, zero, trim, flush, cache or block status.
    pub operation: Operation,
    /// Byte offset.
    pub offset: u64,
    /// Byte count.
    pub count: u32,
    /// NBD_CMD_FLAG_*.
    pub flags: u32,
    /// What a write writes: the number of a pattern.
    pub data: u64,
}

/// Something that a process must not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Open file descriptors.
    Descriptors,
    /// Threads.
    Threads,
    /// Resident memory.
    Memory,
}

impl Resource {
    const ALL: [Resource; 3] = [Resource::Descriptors, Resource::Threads, Resource::Memory];

    /// As it stands in a file.
    pub fn word(self) -> &'static str {
        match self {
            Resource::Descriptors => "descriptors",
            Resource::Threads => "threads",
            Resource::Memory => "memory",
        }
    }
}

/// Clients at once, each with many requests in flight, each request in a part of the disk of its own, next to the others'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// How many clients.
    pub clients: u32,
    /// How many requests each has in flight.
    pub depth: u32,
    /// Bytes of a request.
    pub count: u32,
    /// Number of the first pattern.
    pub data: u64,
    /// Some of the requests that write are for zeroes.
    pub zeroes: bool,
    /// Milliseconds until which it is done again with other data; in any case once.
    pub again: u32,
    /// What they open.
    pub export: String,
}

/// What is done again and again to see what it leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repeated {
    /// This request, all on one connection.
    Request(DiskRequest),
    /// Clients that open the export and leave.
    Connections,
    /// Clients that ask for an export that is not listed.
    Refusals,
    /// Clients that have the exports listed, and leave.
    Listings,
}

impl Repeated {
    const CLIENTS: [(&str, Repeated); 3] = [
        ("connections", Repeated::Connections),
        ("refusals", Repeated::Refusals),
        ("listings", Repeated::Listings),
    ];

    /// For a finding.
    pub(in crate::validate) fn many(&self) -> String {
        match self {
            Repeated::Request(request) => {
                let word =
                    REQUESTS.iter().find(|(_, one)| *one == request.operation).map_or("?", |(word, _)| word);
                format!("requests for {word}")
            }
            Repeated::Connections => "connections".to_owned(),
            Repeated::Refusals => "clients that ask for an export which is not listed".to_owned(),
            Repeated::Listings => "lists of the exports".to_owned(),
        }
    }
}

impl fmt::Display for Repeated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Repeated::CLIENTS.iter().find(|(_, one)| one == self) {
            Some((word, _)) => f.write_str(word),
            None => match self {
                Repeated::Request(request) => request.fmt(f),
                _ => Ok(()),
            },
        }
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Op {
    /// From here on the subject is judged; before, the case is being set up.
    Judge,
    /// This client connects and selects this export.
    Connect(u32, String),
    /// This client says goodbye, and waits until the server has closed the connection.
    Disconnect(u32),
    /// This client's export has the size, the flags and the block sizes of the first one of the case.
    Answers(u32),
    /// The exports are listed, and the list is well-formed.
    List,
    /// Each export of that list opens.
    OpenListed,
    /// A request.
    Request(DiskRequest),
    /// A request that the server must refuse.
    Refused(DiskRequest),
    /// A request that may succeed or be refused.
    Perhaps(DiskRequest),
    /// The same; where it succeeds, the plugin below has made all durable that it was given to write.
    Durable(DiskRequest),
    /// A request, whatever comes of it: the server has to live, and no more is asked.
    Try(DiskRequest),
    /// The same, with byte counts that grow up to this one as long as answers come quickly.
    Grow(DiskRequest),
    /// A request that may be refused. Where no answer comes soon the case is over, and the server ends when it is told to.
    Patient(DiskRequest),
    /// Requests of this block size, as this client was told it, are served at multiples of the smallest.
    Sized(u32, BlockSize),
    /// What follows is left out where the case has been slow so far.
    IfQuick,
    /// The server is killed by SIGKILL and started again, on what it has left behind. What was known of the disk of each
    /// client is known of the client with the same number that connects next.
    Kill,
    /// The same, but the clients leave and the server is told to end.
    Restart,
    /// This client opens this export and leaves again, or is refused.
    Visit(u32, String),
    /// A read; what comes is from now on what is there.
    Learn(DiskRequest),
    /// The same read as one that was learnt gives the same bytes.
    Again(DiskRequest),
    /// A write that makes bytes differ from one another, where they can be written; what is there then a read says.
    Vary(DiskRequest),
    /// This client, the second one, sees what the first one has flushed.
    Share(u32, u32),
    /// So many clients open this export and leave again, one after another.
    Cycles(u32, String),
    /// So many clients ask for an export that is not listed, one after another.
    Refusals(u32),
    /// Several rounds of so many of these on this export: what they allocate is given back.
    Rounds(u32, Repeated, String),
    /// Takes down what the server holds.
    Measure,
    /// It holds no more of this than then.
    Compare(Resource),
    /// Requests of several clients at once.
    Load(Load),
    /// So many clients at once, each of which opens this export, reads and leaves, for this many milliseconds.
    Crowd(u32, u32, String),
    /// Each export that is listed is read at its start and at its end, beside the others, and again.
    ReadListed,
    /// This client sees what the author of the subject says.
    Expect(u32, Fact),
}

const REQUESTS: &[(&str, Operation)] = &[
    ("read", Operation::Read),
    ("write", Operation::Write),
    ("zero", Operation::Zero),
    ("trim", Operation::Trim),
    ("flush", Operation::Flush),
    ("cache", Operation::Cache),
    ("extents", Operation::BlockStatus),
];

const FLAGS: &[(&str, u32)] =
    &[("fua", flag::FUA), ("no-hole", flag::NO_HOLE), ("one", flag::REQ_ONE), ("fast", flag::FAST_ZERO)];

impl fmt::Display for DiskRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = REQUESTS.iter().find(|(_, one)| *one == self.operation).map_or("?", |(word, _)| word);
        write!(f, "{word} {}", self.client)?;
        if self.operation != Operation::Flush {
            write!(f, " offset={} count={}", self.offset, self.count)?;
        }
        if self.operation == Operation::Write {
            write!(f, " data={}", self.data)?;
        }
        for (word, _) in FLAGS.iter().filter(|(_, bit)| self.flags & bit != 0) {
            write!(f, " {word}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Judge => write!(f, "judge"),
            Op::Connect(client, export) => write!(f, "connect {client}{}", suffix(export)),
            Op::Disconnect(client) => write!(f, "disconnect {client}"),
            Op::Answers(client) => write!(f, "answers {client}"),
            Op::List => write!(f, "list"),
            Op::OpenListed => write!(f, "open-listed"),
            Op::Request(request) => request.fmt(f),
            Op::Refused(request) => write!(f, "refused {request}"),
            Op::Perhaps(request) => write!(f, "perhaps {request}"),
            Op::Durable(request) => write!(f, "durable {request}"),
            Op::Try(request) => write!(f, "try {request}"),
            Op::Grow(request) => write!(f, "grow {request}"),
            Op::Patient(request) => write!(f, "patient {request}"),
            Op::Sized(client, size) => write!(f, "sized {client} {}", size.word()),
            Op::IfQuick => write!(f, "if-quick"),
            Op::Kill => write!(f, "kill"),
            Op::Restart => write!(f, "restart"),
            Op::Crowd(clients, time, export) => write!(f, "crowd {clients} {time}{}", suffix(export)),
            Op::ReadListed => write!(f, "read-listed"),
            Op::Expect(client, fact) => write!(f, "expect {client} {fact}"),
            Op::Visit(client, export) => write!(f, "visit {client}{}", suffix(export)),
            Op::Learn(request) => write!(f, "learn {request}"),
            Op::Again(request) => write!(f, "again {request}"),
            Op::Vary(request) => write!(f, "vary {request}"),
            Op::Share(from, to) => write!(f, "share {from} {to}"),
            Op::Cycles(times, export) => write!(f, "cycles {times}{}", suffix(export)),
            Op::Refusals(times) => write!(f, "refusals {times}"),
            Op::Rounds(times, what, export) => write!(f, "rounds {times} {what}{}", suffix(export)),
            Op::Measure => write!(f, "measure"),
            Op::Compare(resource) => write!(f, "compare {}", resource.word()),
            Op::Load(Load { clients, depth, count, data, zeroes, again, export }) => {
                write!(f, "load {clients} depth={depth} count={count} data={data}")?;
                let zeroes = if *zeroes { " zeroes" } else { "" };
                write!(f, " again={again}{zeroes}{}", suffix(export))
            }
        }
    }
}

impl Op {
    /// Returns true for a step that is requests of a client, each of which is owed an answer.
    pub(in crate::validate) fn asks_for_data(&self) -> bool {
        use Op::{Again, Durable, Grow, Learn, Load, Patient, Perhaps, Refused, Request, Sized, Vary};
        let one = matches!(self, Request(_) | Refused(_) | Perhaps(_) | Durable(_) | Grow(_) | Patient(_));
        one || matches!(self, Learn(_) | Again(_) | Vary(_) | Load { .. } | Sized(..))
    }

    /// Returns true for a step that may change what is on the disk.
    pub(in crate::validate) fn writes(&self) -> bool {
        use Op::{Again, Durable, Learn, Perhaps, Refused, Request, Rounds, Try, Vary};
        let changes = |request: &DiskRequest| {
            matches!(request.operation, Operation::Write | Operation::Zero | Operation::Trim)
        };
        match self {
            Request(one) | Refused(one) | Perhaps(one) | Durable(one) | Try(one) => changes(one),
            Learn(one) | Again(one) | Vary(one) | Rounds(_, Repeated::Request(one), _) => changes(one),
            Op::Load(_) => true,
            _ => false,
        }
    }

    /// The request that it is, if it is one.
    pub(in crate::validate) fn one(&self) -> Option<DiskRequest> {
        match self {
            Op::Request(one) | Op::Perhaps(one) | Op::Durable(one) | Op::Vary(one) => Some(*one),
            _ => None,
        }
    }

    /// The read that it asks for, if it asks for one.
    pub(in crate::validate) fn read(&self) -> Option<DiskRequest> {
        match self {
            Op::Request(request) | Op::Perhaps(request) | Op::Learn(request) | Op::Again(request) => {
                Some(*request).filter(|request| request.operation == Operation::Read)
            }
            _ => None,
        }
    }
}

/// The name of an export may hold anything, and so stands last.
fn suffix(export: &str) -> String {
    if export.is_empty() { String::new() } else { format!(" export={export}") }
}

impl From<Op> for String {
    fn from(op: Op) -> String {
        op.to_string()
    }
}

/// A line that is no step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a step of a script")]
pub struct NotAnOp(String);

impl TryFrom<String> for Op {
    type Error = NotAnOp;

    fn try_from(line: String) -> Result<Op, NotAnOp> {
        line.parse()
    }
}

impl FromStr for Op {
    type Err = NotAnOp;

    fn from_str(line: &str) -> Result<Op, NotAnOp> {
        parse(line).ok_or_else(|| NotAnOp(line.to_owned()))
    }
}

fn parse(line: &str) -> Option<Op> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    // A fact may hold anything, and so stands last.
    if word == "expect" {
        let (client, fact) = rest.split_once(' ')?;
        return Some(Op::Expect(client.parse().ok()?, fact.parse().ok()?));
    }
    let (rest, export) = rest.split_once(" export=").unwrap_or((rest, ""));
    let takes_export = matches!(word, "connect" | "visit" | "cycles" | "rounds" | "load" | "crowd");
    if !export.is_empty() && !takes_export {
        return None;
    }
    let export = export.to_owned();
    let mut words = rest.split_ascii_whitespace();
    let op = match word {
        "judge" => Op::Judge,
        "visit" => Op::Visit(words.next()?.parse().ok()?, export),
        "connect" => Op::Connect(words.next()?.parse().ok()?, export),
        "disconnect" => Op::Disconnect(words.next()?.parse().ok()?),
        "answers" => Op::Answers(words.next()?.parse().ok()?),
        "list" => Op::List,
        "open-listed" => Op::OpenListed,
        "share" => Op::Share(words.next()?.parse().ok()?, words.next()?.parse().ok()?),
        "cycles" => Op::Cycles(number(words.next()?, MOST_TIMES)?, export),
        "refusals" => Op::Refusals(number(words.next()?, MOST_TIMES)?),
        "rounds" => {
            let times = number(words.next()?, MOST_TIMES)?;
            let word = words.next()?;
            let clients = Repeated::CLIENTS.into_iter().find(|(one, _)| *one == word);
            let what = match clients {
                Some((_, clients)) => clients,
                None => Repeated::Request(request(word, &mut words)?),
            };
            Op::Rounds(times, what, export)
        }
        "measure" => Op::Measure,
        "compare" => {
            let word = words.next()?;
            Op::Compare(Resource::ALL.into_iter().find(|resource| resource.word() == word)?)
        }
        "load" => Op::Load(Load {
            clients: number(words.next()?, MOST_CLIENTS)?,
            depth: field(words.next()?, "depth").filter(|depth| (1..=MOST_DEPTH).contains(depth))?,
            count: field(words.next()?, "count").filter(|count| (1..=MOST_BYTES).contains(count))?,
            data: field(words.next()?, "data")?,
            again: field(words.next()?, "again").filter(|again| *again <= MOST_MILLISECONDS)?,
            zeroes: match words.next() {
                None => false,
                Some("zeroes") => true,
                Some(_) => return None,
            },
            export,
        }),
        "crowd" => Op::Crowd(
            number(words.next()?, MOST_CLIENTS)?,
            words.next()?.parse().ok().filter(|milliseconds| *milliseconds <= MOST_MILLISECONDS)?,
            export,
        ),
        "read-listed" => Op::ReadListed,
        "if-quick" => Op::IfQuick,
        "kill" => Op::Kill,
        "restart" => Op::Restart,
        "sized" => {
            let client = words.next()?.parse().ok()?;
            let word = words.next()?;
            Op::Sized(client, BlockSize::ALL.into_iter().find(|size| size.word() == word)?)
        }
        "grow" => Op::Grow(request(words.next()?, &mut words)?),
        "patient" => Op::Patient(request(words.next()?, &mut words)?),
        "perhaps" => Op::Perhaps(request(words.next()?, &mut words)?),
        "try" => Op::Try(request(words.next()?, &mut words)?),
        "durable" => Op::Durable(request(words.next()?, &mut words)?),
        "refused" => Op::Refused(request(words.next()?, &mut words)?),
        "learn" => Op::Learn(request(words.next()?, &mut words)?),
        "again" => Op::Again(request(words.next()?, &mut words)?),
        "vary" => Op::Vary(request(words.next()?, &mut words)?),
        word => Op::Request(request(word, &mut words)?),
    };
    words.next().is_none().then_some(op)
}

/// Clients of a load, requests that each has in flight, and bytes of one, at most: a file may ask for anything.
const MOST_CLIENTS: u32 = 64;
const MOST_DEPTH: u32 = 256;
/// How often something is done again and again, at most.
const MOST_TIMES: u32 = 100_000;
const MOST_BYTES: u32 = 1 << 20;
/// Bytes that a request to read or to write has at most: twice of what any server takes.
const MOST_DATA: u32 = 128 << 20;
/// For how long clients of a crowd come and go, at most.
const MOST_MILLISECONDS: u32 = 60_000;

/// Returns how many of something there are: one at least.
fn number(word: &str, most: u32) -> Option<u32> {
    word.parse().ok().filter(|number| (1..=most).contains(number))
}

fn field<T: FromStr>(word: &str, name: &str) -> Option<T> {
    word.strip_prefix(name)?.strip_prefix('=')?.parse().ok()
}

fn request<'a>(word: &str, words: &mut impl Iterator<Item = &'a str>) -> Option<DiskRequest> {
    let (_, operation) = *REQUESTS.iter().find(|(one, _)| *one == word)?;
    let client = words.next()?.parse().ok()?;
    let (mut offset, mut count, mut data) = (0, 0, 0);
    if operation != Operation::Flush {
        // A server's disk has no bytes behind the largest off_t.
        offset = field(words.next()?, "offset").filter(|offset| *offset <= i64::MAX as u64)?;
        let carries = matches!(operation, Operation::Read | Operation::Write);
        count = field(words.next()?, "count").filter(|count| !carries || *count <= MOST_DATA)?;
    }
    if operation == Operation::Write {
        data = field(words.next()?, "data")?;
    }
    let mut flags = 0;
    for word in words {
        flags |= FLAGS.iter().find(|(one, _)| *one == word)?.1;
    }
    Some(DiskRequest { client, operation, offset, count, flags, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_reads_back_as_written() {
        let request = DiskRequest {
            client: 1,
            operation: Operation::Zero,
            offset: 4096,
            count: 512,
            flags: flag::FUA | flag::NO_HOLE,
            data: 0,
        };
        let ops = [
            Op::Judge,
            Op::Connect(1, String::new()),
            Op::Connect(2, "a b".to_owned()),
            Op::Disconnect(1),
            Op::Answers(1),
            Op::List,
            Op::OpenListed,
            Op::Request(request),
            Op::Refused(DiskRequest { operation: Operation::Write, data: 7, flags: 0, ..request }),
            Op::Request(DiskRequest {
                operation: Operation::Flush,
                offset: 0,
                count: 0,
                flags: 0,
                ..request
            }),
            Op::Perhaps(request),
            Op::Durable(request),
            Op::Try(request),
            Op::Visit(3, "x".to_owned()),
            Op::Learn(DiskRequest { operation: Operation::Read, flags: 0, ..request }),
            Op::Again(DiskRequest { operation: Operation::Read, flags: 0, ..request }),
            Op::Vary(DiskRequest { operation: Operation::Write, data: 9, flags: 0, ..request }),
            Op::Share(1, 2),
            Op::Cycles(64, "x".to_owned()),
            Op::Refusals(20),
            Op::Rounds(16, Repeated::Listings, String::new()),
            Op::Rounds(100, Repeated::Request(request), "x".to_owned()),
            Op::Measure,
            Op::Compare(Resource::Threads),
            Op::Load(Load {
                clients: 4,
                depth: 8,
                count: 4096,
                data: 3,
                zeroes: true,
                again: 100,
                export: String::new(),
            }),
            Op::Grow(request),
            Op::Patient(request),
            Op::Sized(1, BlockSize::Preferred),
            Op::IfQuick,
            Op::Kill,
            Op::Restart,
            Op::Crowd(8, 100, "x".to_owned()),
            Op::ReadListed,
            Op::Expect(1, Fact::Listed("one export=two".to_owned())),
        ];
        for op in ops {
            assert_eq!(op.to_string().parse::<Op>(), Ok(op));
        }
    }

    #[test]
    fn what_is_no_step_is_an_error() {
        for line in ["", "reed 1 offset=0 count=1", "read 1", "read 1 offset=0 count=1 fue", "judge 1"] {
            assert_eq!(line.parse::<Op>(), Err(NotAnOp(line.to_owned())));
        }
    }
}
