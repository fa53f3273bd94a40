//! What was promised to be durable is there when the server was killed and is started again on the same file.
//!
//! Each case has a copy of the file. What the kernel has is there after a SIGKILL; what the module has kept for later is not.

use super::script;
use layers_trace::Operation;

use super::check::{CasePlan, Level, ModuleCheck, Planned, Play, Profile};
use crate::rules::Party;
use crate::scenario::flag;
use crate::validate::script::claims::{Claims, flagged, flush, read, request, write};
use crate::validate::script::op::Op;

pub(super) const CHECKS: &[ModuleCheck] = &[
    ModuleCheck {
        id: "flush.survives",
        level: Level::Must,
        profile: Profile::Flush,
        party: Party::Module,
        statement: "What was written or zeroed before a flush that succeeded is there when the server was killed by SIGKILL and is started again on the same file.",
        clause: "nbdkit-plugin(3), \".flush\"; nbdkit-filter(3), \".flush\"",
        broken_by: "a .flush that leaves bytes in memory which only .close writes to the file",
        fix: "write to the file in .flush all that was kept for later, and then call fdatasync",
        play: Play::Stack(flushed),
    },
    ModuleCheck {
        id: "fua.survives",
        level: Level::Must,
        profile: Profile::Fua,
        party: Party::Module,
        statement: "What was written or zeroed with FUA, and what lies around a trim with FUA, is there when the server was killed by SIGKILL and is started again on the same file.",
        clause: "nbdkit-plugin(3), \".can_fua\", \".pwrite\", \".zero\", \".trim\"",
        broken_by: "a .pwrite or a .zero that keeps bytes in memory although it was given NBDKIT_FLAG_FUA",
        fix: "where the flag is given, write to the file and call fdatasync before returning; or answer .can_fua with NBDKIT_FUA_EMULATE",
        play: Play::Stack(forced),
    },
];

/// Client 1 does this, the server is killed, and another client 1 reads these places.
fn killed(claims: &Claims, done: Vec<Op>, places: &[(u64, u32)]) -> CasePlan {
    let again = [Op::Kill, Op::Connect(1, claims.export.clone())];
    let reads = places.iter().copied().map(read);
    CasePlan::new(script(claims, Vec::new(), done.into_iter().chain(again).chain(reads).collect()))
}

/// Writes, as long as they are no longer than this.
const LONGEST: u32 = 1 << 20;

/// A flush after writes, and one after nothing but zeroes: where only writes count, it does nothing.
fn flushed(claims: &Claims) -> Planned {
    claims.flushes()?;
    claims.outlives_its_server()?;
    let places = places(claims);
    let wrote: Vec<Op> = (1..).zip(&places).map(|(data, place)| write(*place, data)).collect();
    let mut plans = vec![killed(claims, wrote.iter().cloned().chain([flush()]).collect(), &places)];
    if claims.zeroes().is_ok() {
        let zeroed = places.iter().enumerate().map(|(nth, place)| zero(*place, nth));
        let done = wrote.into_iter().chain([flush()]).chain(zeroed).chain([flush()]);
        plans.push(killed(claims, done.collect(), &places));
    }
    Ok(plans)
}

/// The same kinds with FUA, and no flush.
fn forced(claims: &Claims) -> Planned {
    claims.has_fua()?;
    claims.outlives_its_server()?;
    let places = places(claims);
    let force = |op| flagged(op, flag::FUA);
    let wrote: Vec<Op> = (1..).zip(&places).map(|(data, place)| force(write(*place, data))).collect();
    let mut plans = vec![killed(claims, wrote.clone(), &places)];
    let mut cleared = Vec::new();
    if claims.zeroes().is_ok() {
        cleared.extend(places.iter().enumerate().map(|(nth, place)| force(zero(*place, nth))));
    }
    if claims.trims().is_ok() {
        // What is in the trimmed part itself is open; what lies around it is not.
        let middle =
            |(offset, count): &(u64, u32)| claims.range(offset + u64::from(count / 3), u64::from(count / 3));
        let inner = places.iter().filter(|(_, count)| *count > 8192).filter_map(middle);
        cleared.extend(inner.map(|place| force(Op::Request(request(Operation::Trim, place)))));
    }
    if !cleared.is_empty() {
        plans.push(killed(claims, wrote.into_iter().chain(cleared).collect(), &places));
    }
    Ok(plans)
}

/// Half of them without leave to punch a hole.
fn zero(place: (u64, u32), nth: usize) -> Op {
    let flags = if nth.is_multiple_of(2) { flag::NO_HOLE } else { 0 };
    flagged(Op::Request(request(Operation::Zero, place)), flags)
}

/// Places that have no byte in common: what the last one of two has made durable says nothing of the first one.
fn places(claims: &Claims) -> Vec<(u64, u32)> {
    let mut apart: Vec<(u64, u32)> = Vec::new();
    let end = |(offset, count): (u64, u32)| offset + u64::from(count);
    for place in claims.places().into_iter().filter(|(_, count)| *count <= LONGEST) {
        if apart.iter().all(|other| end(*other) <= place.0 || end(place) <= other.0) {
            apart.push(place);
        }
    }
    apart
}
