//! Memory, where it hurts at once: buffers next to pages that cannot be touched, and the checks of malloc.

use layers_trace::Operation;

use super::check::{CasePlan, Level, ModuleCheck, Play, Profile, Unfit};
use super::script;
use crate::rules::Party;
use crate::scenario::flag;
use crate::validate::script::claims::{Claims, flagged, flush, request, write};
use crate::validate::script::op::Op;

pub(super) const CHECKS: &[ModuleCheck] = &[
    ModuleCheck {
        id: "buffers.fenced",
        level: Level::Must,
        profile: Profile::Core,
        party: Party::Module,
        statement: "Requests are served from buffers next to pages that cannot be touched: nothing outside is read or written.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), \".pread\", \".pwrite\": count",
        broken_by: "a .pwrite that reads whole sectors from a buffer that ends before; one byte too many in a .pread",
        fix: "touch no more than count bytes: the crash is in the call that touches more",
        play: Play::Stack(|claims| Ok(vec![CasePlan::new(requests(claims)?).fenced()])),
    },
    ModuleCheck {
        id: "buffers.malloc",
        level: Level::Must,
        profile: Profile::Core,
        party: Party::Module,
        statement: "Requests are served with the checks of malloc on (libc_malloc_debug.so.0, glibc.malloc.check, perturb): no memory is freed twice, used after it was freed, or written to beyond its end.",
        clause: "nbdkit-plugin(3), \"Error handling\"",
        broken_by: "a free of what was freed; a byte written behind what malloc gave; a pointer read from memory that was freed",
        fix: "the C library ends the server in the call that finds it: run the case below valgrind for the one that did it",
        play: Play::Stack(|claims| Ok(vec![CasePlan::new(requests(claims)?).with_malloc_checked()])),
    },
];

/// One of every kind of request at every place, twice: what the first one has broken, the second one finds. What is answered
/// is other checks' business.
fn requests(claims: &Claims) -> Result<Vec<Op>, Unfit> {
    claims.holds(1)?;
    let whatever = |op| match op {
        Op::Request(request) => Op::Try(request),
        other => other,
    };
    let mut steps = Vec::new();
    for data in 1..=2 {
        for place in claims.places() {
            let of = |operation| Op::Request(request(operation, place));
            steps.push(of(Operation::Read));
            if claims.writes().is_ok() {
                steps.push(write(place, data));
            }
            if claims.zeroes().is_ok() {
                steps.push(flagged(of(Operation::Zero), flag::NO_HOLE));
            }
            steps.extend(claims.trims().is_ok().then(|| of(Operation::Trim)));
            steps.extend(claims.tells_extents().is_ok().then(|| of(Operation::BlockStatus)));
            steps.extend(claims.caches().is_ok().then(|| of(Operation::Cache)));
        }
        steps.extend(claims.flushes().is_ok().then(flush));
    }
    let again = [Op::Disconnect(1), Op::Connect(2, claims.export.clone()), Op::Disconnect(2)];
    Ok(script(claims, Vec::new(), steps.into_iter().map(whatever).chain(again).collect()))
}
