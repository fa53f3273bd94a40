//! Bytes and extents: what clients get against what layers gave. The disk is written first, so that what is read differs from
//! place to place; several requests of different sizes are in flight, at offsets of every kind.

use layers_behaviour::Extents;
use layers_trace::{Callback, Operation};

use super::super::{Scenario, Step, command, flag};
use super::{connect, go, nth, say};
use crate::client::Command;
use crate::client::raw::Message;
use crate::run::stack::Stack;

pub(super) fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    for client in [Kind::Library, Kind::Structured, Kind::Simple] {
        all.extend([at_once(client), large(client), after_failures(client)]);
    }
    all.extend([two_clients(), bare(), emulated()]);
    for client in [Kind::Library, Kind::Structured] {
        all.extend([made_up_extents(client), written_extents(client)]);
    }
    all.push(no_extents());
    all.extend([far(Kind::Library), far(Kind::Structured)]);
    // They are about data; the trees of other scenarios tell of the order of such calls.
    all.into_iter().map(Scenario::unordered).collect()
}

/// Bytes of the disk.
const SIZE: u32 = 4 << 20;

/// Offsets and lengths that have nothing in common: most begin and end in the middle of a block.
const RANGES: [(u64, u32); 16] = [
    (0, 512),
    (512, 513),
    (1025, 1),
    (4095, 2),
    (8192, 4096),
    (12_289, 4095),
    (20_000, 33_333),
    (65_536, 65_536),
    (131_071, 65_537),
    (262_144, 131_072),
    (400_001, 7),
    (400_008, 99_992),
    (524_288, 262_144),
    (1_048_575, 3),
    (1_100_000, 300_000),
    (1_500_001, 1_000_001),
];

/// How a client talks to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Over libnbd.
    Library,
    /// The raw client, with structured replies.
    Structured,
    /// The raw client, with simple replies.
    Simple,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Library => "libnbd",
            Kind::Structured => "structured",
            Kind::Simple => "simple",
        }
    }

    /// Connects this client, and selects the export.
    fn enters(self, client: u32) -> Vec<Step> {
        let contexts = Message::SetMetaContext(String::new(), vec!["base:allocation".to_owned()]);
        match self {
            Kind::Library => vec![connect(client), go(client, "")],
            Kind::Structured => vec![
                Step::ConnectRaw(client),
                say(client, [Message::StructuredReply, contexts]),
                go(client, ""),
            ],
            Kind::Simple => vec![Step::ConnectRaw(client), go(client, "")],
        }
    }
}

fn stack(filters: u8) -> Stack {
    Stack::reference(filters).with(0, |plugin| {
        plugin.answers.insert(Callback::GetSize, SIZE.into());
    })
}

/// A request for each of these ranges.
fn each(operation: Operation) -> Vec<Command> {
    RANGES.iter().map(|(offset, count)| command(operation, *offset, *count, 0)).collect()
}

fn one(client: u32, operation: Operation, offset: u64, count: u32) -> Step {
    Step::Request(client, command(operation, offset, count, 0))
}

/// One client writes, and reads, with all of its requests in flight; then it reads them one by one.
fn at_once(client: Kind) -> Scenario {
    let about = "sixteen writes of different sizes in flight, then as many reads, then one after the other";
    // They all have their answers at the same moment.
    let stack = stack(2).with(0, |plugin| {
        plugin.sleep.insert(Callback::Pread, 2);
    });
    let mut script = client.enters(1);
    script.extend([Step::Pipeline(1, each(Operation::Write)), Step::Pipeline(1, each(Operation::Read))]);
    script.extend(RANGES.iter().rev().map(|(offset, count)| one(1, Operation::Read, *offset, *count)));
    script.push(Step::Disconnect(1));
    Scenario::new(format!("data/at-once/{}", client.name()), about, stack).script(script)
}

/// Requests of a whole disk, beside small ones.
fn large(client: Kind) -> Scenario {
    let script = [
        one(1, Operation::Write, 0, SIZE),
        one(1, Operation::Read, 0, SIZE),
        one(1, Operation::Read, u64::from(SIZE) - 1, 1),
        one(1, Operation::Read, 1, SIZE - 1),
        one(1, Operation::Write, 3, 5),
        one(1, Operation::Read, 0, 8192),
    ];
    let script = client.enters(1).into_iter().chain(script).chain([Step::Disconnect(1)]);
    let about = "a read and a write of the whole disk, with small ones before and after";
    Scenario::new(format!("data/large/{}", client.name()), about, stack(1)).script(script)
}

/// Reads of which some fail: what is left in a buffer belongs to nobody.
fn after_failures(client: Kind) -> Scenario {
    let failing = stack(2)
        .with(0, |plugin| plugin.fail.extend([2, 3, 6].map(|n| nth(Callback::Pread, n))))
        .with(1, |filter| filter.fail.push(super::nth_after_next(Callback::Pread, 4)));
    let read = |nth: usize| {
        let (offset, count) = RANGES.get(nth).copied().unwrap_or((0, 512));
        one(1, Operation::Read, offset, count)
    };
    let mut script = client.enters(1);
    script.push(one(1, Operation::Write, 0, SIZE / 2));
    script.extend([read(7), read(8).fails(), read(9).fails(), read(4).fails(), read(3), read(2).fails()]);
    script.extend([read(7), read(6), Step::Pipeline(1, each(Operation::Read)), Step::Disconnect(1)]);
    let about =
        "reads of which some fail, at the plugin and at a filter that has read before, and reads after them";
    Scenario::new(format!("data/failing/{}", client.name()), about, failing).script(script)
}

/// Two clients at once, of different kinds.
fn two_clients() -> Scenario {
    let stack = stack(2).with(0, |plugin| {
        plugin.sleep.insert(Callback::Pread, 2);
    });
    let messages = |operation| each(operation).into_iter().map(Message::Request).collect::<Vec<_>>();
    let mut script = Kind::Library.enters(1);
    script.extend(Kind::Structured.enters(2));
    script.extend([
        one(1, Operation::Write, 0, SIZE),
        Step::Send(2, messages(Operation::Read)),
        Step::Pipeline(1, each(Operation::Read).into_iter().rev().collect()),
        Step::Answers(2),
        Step::Pipeline(1, each(Operation::Write)),
        Step::Pipeline(2, each(Operation::Read)),
        Step::Disconnect(1),
        Step::Disconnect(2),
    ]);
    Scenario::new("data/two-clients", "two clients that read at the same time", stack).script(script)
}

/// The plugin is the outermost layer.
fn bare() -> Scenario {
    let mut script = Kind::Structured.enters(1);
    script.extend([Step::Pipeline(1, each(Operation::Write)), Step::Pipeline(1, each(Operation::Read))]);
    script.push(Step::Disconnect(1));
    Scenario::new("data/bare", "reads and writes in flight, and no filter", stack(0)).script(script)
}

/// What the server makes of FUA, zeroes and caching goes between reads and writes.
fn emulated() -> Scenario {
    let stack = stack(2).with(0, |plugin| {
        plugin.answers.insert(Callback::CanFua, 1);
        plugin.answers.insert(Callback::CanZero, 0);
        plugin.answers.insert(Callback::CanCache, 1);
    });
    let mut script = Kind::Library.enters(1);
    script.extend([
        Step::Request(1, command(Operation::Write, 0, 300_000, flag::FUA)),
        one(1, Operation::Zero, 100_001, 50_001),
        one(1, Operation::Read, 90_000, 80_000),
        one(1, Operation::Cache, 0, 200_000),
        one(1, Operation::Read, 0, 300_000),
        Step::Disconnect(1),
    ]);
    let about = "reads and writes beside FUA, zeroes and caching that the server emulates";
    Scenario::new("data/emulated", about, stack).script(script)
}

/// A block status of each of these ranges, and of the whole disk, with and without REQ_ONE.
fn block_status(client: u32) -> Vec<Step> {
    let ranges = RANGES.iter().copied().chain([(0, SIZE), (u64::from(SIZE) - 1, 1)]);
    let both = ranges.flat_map(|(offset, count)| [flag::REQ_ONE, 0].map(|flags| (offset, count, flags)));
    both.map(|(offset, count, flags)| {
        Step::Request(client, command(Operation::BlockStatus, offset, count, flags))
    })
    .collect()
}

fn made_up_extents(client: Kind) -> Scenario {
    let stack = stack(1).with(0, |plugin| plugin.extents = Extents::Whole);
    let script = client.enters(1).into_iter().chain(block_status(1)).chain([Step::Disconnect(1)]);
    let about = "a plugin that adds the extents of its whole disk, of every type, whatever it is asked for";
    Scenario::new(format!("data/extents/whole/{}", client.name()), about, stack).script(script)
}

fn written_extents(client: Kind) -> Scenario {
    let writes = [(4096, 4096), (12_288, 1), (65_536, 65_536), (200_000, 100_000), (1 << 20, 1 << 20)];
    let writes = writes.map(|(offset, count)| one(1, Operation::Write, offset, count));
    let script =
        client.enters(1).into_iter().chain(writes).chain(block_status(1)).chain([Step::Disconnect(1)]);
    let about = "block status of a disk with data and holes";
    Scenario::new(format!("data/extents/written/{}", client.name()), about, stack(2)).script(script)
}

fn no_extents() -> Scenario {
    let stack = stack(2).with(1, |filter| {
        filter.answers.insert(Callback::CanExtents, 0);
    });
    let script = Kind::Structured.enters(1).into_iter().chain(block_status(1)).chain([Step::Disconnect(1)]);
    let about = "block status where a filter says that there are no extents";
    Scenario::new("data/extents/none", about, stack).script(script)
}

/// Every request across 2 GiB and 4 GiB, and behind them, where an offset needs more than 31 and 32 bits. Each of them reads
/// another place where the upper bits are lost.
fn far(client: Kind) -> Scenario {
    use Operation::{BlockStatus, Cache, Read, Trim, Write, Zero};
    const GIB: u64 = 1 << 30;
    let stack = stack(1).with(0, |plugin| {
        plugin.answers.insert(Callback::GetSize, 6 << 30);
    });
    let mut script = client.enters(1);
    script.push(one(1, Write, 0, 65_536));
    for offset in [2 * GIB - 4096, 4 * GIB - 4096, 4 * GIB, 5 * GIB + 4096] {
        script.extend([
            one(1, Write, offset, 8192),
            one(1, Read, offset, 8192),
            one(1, Cache, offset, 8192),
            one(1, BlockStatus, offset, 16_384),
            one(1, Zero, offset + 1024, 4096),
            one(1, Trim, offset + 6144, 1024),
            one(1, Read, offset, 8192),
        ]);
    }
    let most = !4095;
    script.extend([
        one(1, Zero, GIB, most),
        one(1, Trim, GIB + 4096, most),
        one(1, BlockStatus, GIB, most),
        one(1, Read, 0, 65_536),
        Step::Disconnect(1),
    ]);
    let about = "every request across 2 GiB and 4 GiB, and beyond them";
    Scenario::new(format!("data/far/{}", client.name()), about, stack).script(script)
}
