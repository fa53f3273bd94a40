//! Reading.

use layers_trace::Operation;

use super::check::{CasePlan, Level, ModuleCheck, Planned, Play, Profile, Unfit};
use super::script;
use crate::rules::Party;
use crate::validate::script::claims::{Claims, LONG, read, request};
use crate::validate::script::op::{DiskRequest, Op};

const CLAUSE: &str = "nbdkit-plugin(3), \".pread\"";

pub(super) const CHECKS: &[ModuleCheck] = &[
    ModuleCheck {
        id: "read.succeeds",
        level: Level::Must,
        profile: Profile::Read,
        party: Party::Module,
        statement: "Reads at the start, in the middle and at the end of the disk succeed.",
        clause: CLAUSE,
        broken_by: "a .pread that fails for the last block, or for a size that is no multiple of 512",
        fix: "every byte below .get_size can be read",
        play: Play::Stack(succeeds),
    },
    ModuleCheck {
        id: "read.repeats",
        level: Level::Must,
        profile: Profile::Read,
        party: Party::Module,
        statement: "What nobody writes reads the same twice on one connection.",
        clause: CLAUSE,
        broken_by: "a .pread that leaves part of the buffer as it was",
        fix: "fill all of the buffer, from the same source each time",
        play: Play::Stack(repeats),
    },
    ModuleCheck {
        id: "read.odd",
        level: Level::Must,
        profile: Profile::Read,
        party: Party::Module,
        statement: "A byte reads the same in a small request at an odd offset as in a large one, also across powers of two.",
        clause: CLAUSE,
        broken_by: "a .pread that rounds its offset down to a sector, or its count up",
        fix: "serve exactly count bytes from exactly offset; or tell a minimum with .block_size",
        play: Play::Stack(odd),
    },
    ModuleCheck {
        id: "read.large",
        level: Level::Must,
        profile: Profile::Read,
        party: Party::Module,
        statement: "The largest request, and long ones that are no whole number of blocks, read the same bytes as small ones do.",
        clause: CLAUSE,
        broken_by: "a .pread that ignores a short read of the system call below, or that reads whole blocks and then the wrong rest",
        fix: "read in a loop until all count bytes are there",
        play: Play::Stack(large),
    },
];

/// On a disk that can be written to, bytes that differ from one place to the next.
fn vary(claims: &Claims, places: &[(u64, u32)]) -> Vec<Op> {
    let varied = |(data, place): (u64, &(u64, u32))| {
        Op::Vary(DiskRequest { data, ..request(Operation::Write, *place) })
    };
    if claims.writes().is_ok() { (1000..).zip(places).map(varied).collect() } else { Vec::new() }
}

fn succeeds(claims: &Claims) -> Planned {
    claims.holds(1)?;
    let reads = claims.places().into_iter().map(|place| Op::Learn(request(Operation::Read, place))).collect();
    Ok(vec![CasePlan::new(script(claims, Vec::new(), reads))])
}

fn repeats(claims: &Claims) -> Planned {
    claims.holds(1)?;
    let places = claims.places();
    let reads = || places.iter().map(|place| request(Operation::Read, *place));
    let judged = reads().map(Op::Learn).chain(reads().map(Op::Again)).collect();
    Ok(vec![CasePlan::new(script(claims, vary(claims, &places), judged)).compares()])
}

fn odd(claims: &Claims) -> Planned {
    claims.holds(1)?;
    let borders = claims.borders();
    let around: Vec<_> = claims.places().into_iter().filter_map(|place| claims.around(place, 700)).collect();
    // The far end comes first: what grows with the disk has never been there.
    let all: Vec<_> = borders.iter().copied().chain(around).collect();
    let large = all.iter().copied().map(read);
    let small = |(offset, count): (u64, u32)| {
        let unit = claims.unit();
        [(1, 1), (511, 3), (u64::from(count) / 2, 513)]
            .into_iter()
            .filter(move |(skip, some)| skip + some <= u64::from(count) && offset % unit == 0)
            .filter_map(move |(skip, some)| claims.range(offset + skip, some))
            .map(read)
    };
    let judged = large.chain(all.iter().copied().flat_map(small)).collect();
    Ok(vec![CasePlan::new(script(claims, vary(claims, &all), judged)).compares()])
}

/// Bytes are known from reads of whole blocks, and of less than one.
fn long(claims: &Claims) -> Result<CasePlan, Unfit> {
    let long = claims.long();
    let whole = claims.some(0, LONG / (1 << 20) * (1 << 20))?;
    let mut setup = vary(claims, &[whole]);
    let last = u64::from(whole.1);
    let parts = (0..last).step_by(CHUNK as usize).filter_map(|at| claims.range(at, CHUNK.min(last - at)));
    setup.extend(parts.map(read));
    let mut judged: Vec<Op> = long.into_iter().map(read).collect();
    judged.insert(judged.len().min(9), Op::IfQuick);
    Ok(CasePlan::new(script(claims, setup, judged)).compares())
}

/// A read that is no longer than a block, and in which no block begins but at its start.
const CHUNK: u64 = 1 << 20;

fn large(claims: &Claims) -> Planned {
    claims.holds(1)?;
    let whole = claims.range(0, claims.most()).unwrap_or_default();
    let last = claims.last().unwrap_or_default();
    let some: Vec<_> = [0, 1 << 16, (1 << 20) + 512, (4 << 20) - 4096, (32 << 20) - 4096]
        .into_iter()
        .flat_map(|offset| [claims.range(offset, 4096), claims.range(last.0 + offset, 4096)])
        .flatten()
        .collect();
    let setup = vary(claims, &some).into_iter().chain(some.into_iter().map(read)).collect();
    let judged = vec![read(whole), read(last)];
    Ok(vec![CasePlan::new(script(claims, setup, judged)).compares(), long(claims)?])
}
