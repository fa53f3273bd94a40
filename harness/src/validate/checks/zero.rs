//! Writing zeroes by a callback of its own, with every combination of flags that is offered.

use layers_trace::Operation;

use super::check::{CasePlan, Level, ModuleCheck, Planned, Play, Profile};
use super::script;
use crate::rules::Party;
use crate::scenario::flag;
use crate::validate::script::claims::{Claims, LONG, fua, read, request, write};
use crate::validate::script::op::{DiskRequest, Op};

const CLAUSE: &str = "nbdkit-plugin(3), \".zero\"";
const FIX: &str = "write zeroes to exactly the range, or fail with EOPNOTSUPP so that the server writes them";

pub(super) const CHECKS: &[ModuleCheck] = &[
    ModuleCheck {
        id: "zero.succeeds",
        level: Level::Must,
        profile: Profile::Zero,
        party: Party::Module,
        statement: "Zeroing succeeds where it is claimed, with and without leave to punch a hole.",
        clause: "nbdkit-plugin(3), \".can_zero\", \".zero\"",
        broken_by: "a .zero that fails with EIO, so that the server does not fall back to .pwrite",
        fix: "fail with EOPNOTSUPP, and the server writes the zeroes",
        play: Play::Stack(succeeds),
    },
    ModuleCheck {
        id: "zero.may-trim",
        level: Level::Must,
        profile: Profile::Zero,
        party: Party::Module,
        statement: "A range that was zeroed, with leave to punch a hole, reads as zeroes.",
        clause: CLAUSE,
        broken_by: "a .zero that trims where holes do not read as zeroes",
        fix: FIX,
        play: Play::Stack(|claims| zeroed(claims, 0)),
    },
    ModuleCheck {
        id: "zero.no-hole",
        level: Level::Must,
        profile: Profile::Zero,
        party: Party::Module,
        statement: "A range that was zeroed without NBDKIT_FLAG_MAY_TRIM reads as zeroes.",
        clause: CLAUSE,
        broken_by: "a .zero that does nothing unless it may trim",
        fix: FIX,
        play: Play::Stack(|claims| zeroed(claims, flag::NO_HOLE)),
    },
    ModuleCheck {
        id: "zero.fua",
        level: Level::Must,
        profile: Profile::Zero,
        party: Party::Module,
        statement: "A range that was zeroed with FUA, with and without leave to punch a hole, reads as zeroes.",
        clause: "nbdkit-plugin(3), \".zero\", \".can_fua\"",
        broken_by: "a .zero that refuses flags or forgets the zeroes when it sees NBDKIT_FLAG_FUA",
        fix: FIX,
        play: Play::Stack(|claims| {
            claims.has_fua()?;
            Ok([zeroed(claims, flag::FUA)?, zeroed(claims, flag::FUA | flag::NO_HOLE)?].concat())
        }),
    },
    ModuleCheck {
        id: "zero.fast",
        level: Level::Must,
        profile: Profile::Zero,
        party: Party::Module,
        statement: "A fast zero either zeroes the range or fails with ENOTSUP or EOPNOTSUPP.",
        clause: "nbdkit-plugin(3), \".zero\", \".can_fast_zero\"",
        broken_by: "a .zero that fails a fast zero with EIO; one that returns 0 and has zeroed nothing",
        fix: "decide first: zero the range, or fail with EOPNOTSUPP",
        play: Play::Stack(|claims| {
            claims.zeroes_fast()?;
            let flags = [0, flag::NO_HOLE, fua(claims), fua(claims) | flag::NO_HOLE];
            let plans = flags.map(|flags| zeroed(claims, flag::FAST_ZERO | flags));
            Ok(plans.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
        }),
    },
    ModuleCheck {
        id: "zero.neighbours",
        level: Level::Must,
        profile: Profile::Zero,
        party: Party::Module,
        statement: "Zeroing a range leaves the bytes before and behind it as they were.",
        clause: CLAUSE,
        broken_by: "a .zero that zeroes whole blocks when it is given part of one",
        fix: "zero the whole blocks inside the range, and write zeroes to the parts at its ends",
        play: Play::Stack(neighbours),
    },
    ModuleCheck {
        id: "zero.then-write",
        level: Level::Must,
        profile: Profile::Zero,
        party: Party::Module,
        statement: "What is written to a range after it was zeroed is read.",
        clause: CLAUSE,
        broken_by: "a .zero that marks a block as zero, and a .pwrite that does not unmark it",
        fix: "let .pwrite undo what .zero has marked",
        play: Play::Stack(then_write),
    },
    ModuleCheck {
        id: "zero.large",
        level: Level::Must,
        profile: Profile::Zero,
        party: Party::Module,
        statement: "The largest range is zeroed as a whole, and so are long ones that are no whole number of blocks.",
        clause: CLAUSE,
        broken_by: "a .zero that stops at a buffer's length",
        fix: "zero in a loop until the whole range is done",
        play: Play::Stack(large),
    },
];

fn zero(place: (u64, u32), flags: u32) -> Op {
    Op::Request(DiskRequest { flags, ..request(Operation::Zero, place) })
}

fn zeroed(claims: &Claims, flags: u32) -> Planned {
    claims.zeroes()?;
    let mut places = claims.places();
    if flags == flag::NO_HOLE {
        places.extend(claims.borders());
    }
    let setup = (1..).zip(&places).flat_map(|(data, place)| [write(*place, data), read(*place)]).collect();
    let judged = places.iter().flat_map(|place| [zero(*place, flags), read(*place)]).collect();
    Ok(vec![CasePlan::new(script(claims, setup, judged))])
}

fn succeeds(claims: &Claims) -> Planned {
    claims.zeroes()?;
    let judged = claims.places().into_iter().flat_map(|place| [zero(place, 0), zero(place, flag::NO_HOLE)]);
    Ok(vec![CasePlan::new(script(claims, Vec::new(), judged.collect()))])
}

fn neighbours(claims: &Claims) -> Planned {
    claims.zeroes()?;
    let around: Vec<_> =
        claims.places().into_iter().filter_map(|p| Some((p, claims.around(p, 5000)?))).collect();
    let setup = (1..).zip(&around).flat_map(|(data, (_, all))| [write(*all, data), read(*all)]).collect();
    let flags = [0, flag::NO_HOLE];
    let judged = flags
        .into_iter()
        .cycle()
        .zip(&around)
        .flat_map(|(flags, (place, all))| [zero(*place, flags), read(*all)])
        .collect();
    Ok(vec![CasePlan::new(script(claims, setup, judged))])
}

fn large(claims: &Claims) -> Planned {
    claims.zeroes()?;
    let all = claims.some(0, claims.most())?;
    let judged = vec![zero(all, 0), read(all)];
    let long =
        super::write::long(claims, |place, data| zero(place, if data % 2 == 0 { flag::NO_HOLE } else { 0 }));
    let setup = claims.range(0, claims.most().min(LONG)).map(|all| write(all, 2)).into_iter().collect();
    Ok(vec![
        CasePlan::new(script(claims, vec![write(all, 1)], judged)),
        CasePlan::new(script(claims, setup, long)),
    ])
}

fn then_write(claims: &Claims) -> Planned {
    claims.zeroes()?;
    let all = claims.some(0, 1 << 20)?;
    let parts: Vec<_> =
        claims.places().into_iter().filter(|(offset, count)| offset + u64::from(*count) <= 1 << 20).collect();
    let setup = vec![zero(all, 0), read(all)];
    let judged = (1..).zip(parts).flat_map(|(data, part)| [write(part, data), read(all)]).collect();
    Ok(vec![CasePlan::new(script(claims, setup, judged))])
}
