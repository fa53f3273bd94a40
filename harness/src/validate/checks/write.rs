//! Writing, and what is read after it.

use layers_trace::Operation;

use super::check::{CasePlan, Level, ModuleCheck, Planned, Play, Profile, ServerOutcome, Twist};
use super::script;
use crate::rules::Party;
use crate::run::Start;
use crate::scenario::flag;
use crate::validate::script::claims::{Claims, flagged, fua, read, request, write};
use crate::validate::script::op::{DiskRequest, Op};

const CLAUSE: &str = "nbdkit-plugin(3), \".pwrite\"";

pub(super) const CHECKS: &[ModuleCheck] = &[
    ModuleCheck {
        id: "write.succeeds",
        level: Level::Must,
        profile: Profile::Write,
        party: Party::Module,
        statement: "Writes at the start, in the middle and at the end of the disk succeed.",
        clause: "nbdkit-plugin(3), \".can_write\", \".pwrite\"",
        broken_by: "a .can_write that says yes on a disk that cannot be written to",
        fix: "let .can_write tell the truth; every byte below .get_size can be written",
        play: Play::Stack(succeeds),
    },
    ModuleCheck {
        id: "write.read-back",
        level: Level::Must,
        profile: Profile::Write,
        party: Party::Module,
        statement: "What was written is what is read, in whole blocks of 4096.",
        clause: CLAUSE,
        broken_by: "a .pwrite that returns 0 and has written nothing",
        fix: "write all of the buffer before returning 0, and fail if that is not possible",
        play: Play::Stack(read_back),
    },
    ModuleCheck {
        id: "write.odd",
        level: Level::Must,
        profile: Profile::Write,
        party: Party::Module,
        statement: "What was written at odd offsets and in odd sizes, also across powers of two, is what is read.",
        clause: CLAUSE,
        broken_by: "a .pwrite that rounds to sectors",
        fix: "read, change and write back the blocks at both ends; or tell a minimum with .block_size",
        play: Play::Stack(odd),
    },
    ModuleCheck {
        id: "write.neighbours",
        level: Level::Must,
        profile: Profile::Write,
        party: Party::Module,
        statement: "A write leaves the bytes before and behind it as they were.",
        clause: CLAUSE,
        broken_by: "a .pwrite that writes whole blocks when it is given part of one",
        fix: "write exactly count bytes at exactly offset",
        play: Play::Stack(neighbours),
    },
    ModuleCheck {
        id: "write.last-wins",
        level: Level::Must,
        profile: Profile::Write,
        party: Party::Module,
        statement: "Of two writes to the same place the later one is read.",
        clause: CLAUSE,
        broken_by: "a cache that is not told of a second write",
        fix: "update or drop what is cached whenever something is written",
        play: Play::Stack(last_wins),
    },
    ModuleCheck {
        id: "write.large",
        level: Level::Must,
        profile: Profile::Write,
        party: Party::Module,
        statement: "The largest request is written as a whole, at both ends of the disk, and so are long ones that are no whole number of blocks.",
        clause: CLAUSE,
        broken_by: "a .pwrite that ignores a short write of the system call below, or that writes whole blocks and then the wrong rest",
        fix: "write in a loop until all count bytes are written",
        play: Play::Stack(large),
    },
    ModuleCheck {
        id: "readonly.refuses",
        level: Level::Must,
        profile: Profile::Core,
        party: Party::Module,
        statement: "Opened read-only, the export says so, and nothing can be written to it.",
        clause: "nbdkit(1), \"-r\"; nbdkit-plugin(3), \".open\": readonly",
        broken_by: "a filter that opens the layer below for writing, and lets clients write",
        fix: "pass readonly on to next, and do not answer .can_write with yes when it is set",
        play: Play::Stack(readonly),
    },
    ModuleCheck {
        id: "fua.write",
        level: Level::Must,
        profile: Profile::Fua,
        party: Party::Module,
        statement: "A write with FUA is a write: what was written is what is read.",
        clause: "nbdkit-plugin(3), \".can_fua\", \".pwrite\"",
        broken_by: "a .pwrite that only flushes when it sees NBDKIT_FLAG_FUA, or that refuses the flag",
        fix: "write, then make it durable; or let .can_fua say NBDKIT_FUA_EMULATE or NONE",
        play: Play::Stack(with_fua),
    },
    ModuleCheck {
        id: "write.zeroes",
        level: Level::Must,
        profile: Profile::Write,
        party: Party::Module,
        statement: "Without a .zero the server writes zeroes instead, and they are what is read, with their neighbours as they were.",
        clause: "nbdkit-plugin(3), \".zero\": without it the server uses .pwrite",
        broken_by: "a .pwrite that changes its buffer, in which the server keeps zeroes; one that drops what is all zero",
        fix: "write what is in the buffer, whatever that is, and leave the buffer as it is",
        play: Play::Stack(zeroes),
    },
];

fn succeeds(claims: &Claims) -> Planned {
    claims.writes()?;
    let writes = (1..).zip(claims.places()).map(|(data, place)| write(place, data)).collect();
    Ok(vec![CasePlan::new(script(claims, Vec::new(), writes))])
}

fn read_back(claims: &Claims) -> Planned {
    claims.writes()?;
    let middle = claims.end() / 2 / 4096 * 4096;
    let last = claims.end().saturating_sub(4096) / 4096 * 4096;
    let places: Vec<_> =
        [0, 4096, middle, last].into_iter().filter_map(|at| claims.range(at, 4096)).collect();
    let writes = (1..).zip(&places).map(|(data, place)| write(*place, data));
    let judged = writes.chain(places.iter().copied().map(read)).collect();
    Ok(vec![CasePlan::new(script(claims, Vec::new(), judged))])
}

/// The far end comes first: what grows with the disk has never been there.
fn odd(claims: &Claims) -> Planned {
    claims.writes()?;
    let places = claims.borders().into_iter().chain(claims.places());
    let judged = (1..).zip(places).flat_map(|(data, place)| [write(place, data), read(place)]).collect();
    Ok(vec![CasePlan::new(script(claims, Vec::new(), judged))])
}

fn neighbours(claims: &Claims) -> Planned {
    claims.writes()?;
    let around: Vec<_> =
        claims.places().into_iter().filter_map(|p| Some((p, claims.around(p, 5000)?))).collect();
    // Places may lie in one another's surroundings: one after another, each with a pattern of its own.
    let setup: Vec<Op> =
        (1..).zip(&around).flat_map(|(data, (_, all))| [write(*all, data), read(*all)]).collect();
    let judged =
        (100..).zip(&around).flat_map(|(data, (place, all))| [write(*place, data), read(*all)]).collect();
    Ok(vec![CasePlan::new(script(claims, setup, judged))])
}

fn last_wins(claims: &Claims) -> Planned {
    claims.writes()?;
    let all = claims.some(0, 65536)?;
    let parts = [(0, 65536), (4096, 8192), (1000, 5000), (12000, 300), (0, 512), (4096, 8192), (65000, 536)];
    let judged = (2..)
        .zip(parts)
        .filter_map(|(data, (offset, count))| Some((data, claims.range(offset, count)?)))
        .flat_map(|(data, part)| [write(part, data), read(all)])
        .collect();
    Ok(vec![CasePlan::new(script(claims, vec![write(all, 1), read(all)], judged))])
}

fn large(claims: &Claims) -> Planned {
    claims.writes()?;
    let mut ranges: Vec<_> = claims.range(0, claims.most()).into_iter().chain(claims.last()).collect();
    ranges.dedup();
    let judged = (1..).zip(ranges).flat_map(|(data, range)| [write(range, data), read(range)]).collect();
    let long = long(claims, write);
    Ok(vec![
        CasePlan::new(script(claims, Vec::new(), judged)),
        CasePlan::new(script(claims, Vec::new(), long)),
    ])
}

/// Long ranges that a slow subject is asked for, too.
const SIZES_IN_ANY_CASE: u64 = 6;

/// Long requests that change the disk, each with small reads at its end and behind it.
pub(super) fn long(claims: &Claims, change: impl Fn((u64, u32), u64) -> Op) -> Vec<Op> {
    let mut steps = Vec::new();
    for (data, (offset, count)) in (1000..).zip(claims.long()) {
        if data == 1000 + SIZES_IN_ANY_CASE {
            steps.push(Op::IfQuick);
        }
        let end = offset + u64::from(count);
        let around = claims.range(end - u64::from(count).min(700), 1400);
        steps.extend(around.map(|around| write(around, data + 500)));
        steps.push(change((offset, count), data));
        steps.extend(around.map(read));
        steps.extend(claims.range(offset, 512).map(read));
        steps.push(read((offset, count)));
    }
    steps
}

/// Zeroes that the server writes where there is no .zero.
fn zeroes(claims: &Claims) -> Planned {
    claims.writes()?;
    claims.has_emulated_zeroes()?;
    let flags = [flag::NO_HOLE, 0, fua(claims), fua(claims) | flag::NO_HOLE];
    let places = claims.places().into_iter().chain(claims.range(4096, 300_000));
    let steps = |((data, flags), place): ((u64, u32), (u64, u32))| {
        let around = claims.around(place, 700).unwrap_or(place);
        let zero = Op::Request(DiskRequest { flags, ..request(Operation::Zero, place) });
        [write(around, data), zero, read(around)]
    };
    // Twice, and then with the other flags.
    let places: Vec<_> = places.collect();
    let turns = flags.iter().flat_map(|flags| places.iter().map(move |place| (*flags, *place)));
    let quick = places.len() * 3;
    let mut judged: Vec<Op> =
        (1..).zip(turns).flat_map(|(data, (flags, place))| steps(((data, flags), place))).collect();
    judged.insert(quick.min(judged.len()), Op::IfQuick);
    Ok(vec![CasePlan::new(script(claims, Vec::new(), judged))])
}

fn readonly(claims: &Claims) -> Planned {
    claims.holds(1)?;
    let mut plan = CasePlan::new(vec![Op::Judge, Op::Connect(1, claims.export.clone())])
        .twist(Twist::Readonly)
        .start(Start::Foreground, ServerOutcome::Serves);
    if let Some(range) = claims.range(0, 4096) {
        let write = DiskRequest { data: 1, ..request(Operation::Write, range) };
        plan.script.extend([read(range), Op::Refused(write), read(range)]);
    }
    Ok(vec![plan])
}

fn with_fua(claims: &Claims) -> Planned {
    claims.has_fua()?;
    // What is refused without the flag is no business of the flag's.
    let setup = (1..).zip(claims.places()).map(|(data, place)| write(place, data)).collect();
    let steps = |(data, place)| [flagged(write(place, data), flag::FUA), read(place)];
    let judged = (100..).zip(claims.places()).flat_map(steps).collect();
    Ok(vec![CasePlan::new(script(claims, setup, judged))])
}
