//! The thread model that is claimed, under parallel load.

use crate::rules::Party;
use crate::validate::check::{Check, Level, Plan, Planned, Play, Profile, Unfit};
use crate::validate::claims::Claims;
use crate::validate::op::{Load, Op};

const CLAUSE: &str = "nbdkit-plugin(3), \"Threads\"";
const FIX: &str = "hold a lock round what requests share, or claim a stricter thread model";

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "threads.requests",
        level: Level::Must,
        profile: Profile::Threads,
        party: Party::Module,
        statement: "With many requests in flight on one connection, every one is answered, and rightly.",
        clause: CLAUSE,
        broken_by: "NBDKIT_THREAD_MODEL_PARALLEL, and a lseek followed by a read on one descriptor",
        fix: FIX,
        play: Play::Stack(|claims| loaded(claims, 1)),
    },
    Check {
        id: "threads.connections",
        level: Level::Must,
        profile: Profile::Threads,
        party: Party::Module,
        statement: "With several connections at work at once, every request is answered, and rightly.",
        clause: CLAUSE,
        broken_by: "a global buffer that requests of several connections share without a lock",
        fix: FIX,
        play: Play::Stack(|claims| {
            claims.is_shared()?;
            loaded(claims, 4)
        }),
    },
];

/// Requests in flight for each client.
const DEPTH: u32 = 16;

fn loaded(claims: &Claims, clients: u32) -> Planned {
    claims.holds(1)?;
    let share = claims.end() / u64::from(clients * DEPTH);
    let count = share.min(4096) / claims.unit() * claims.unit();
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    if count == 0 {
        return Err(Unfit::Reason(format!("the disk has {} bytes", claims.size)));
    }
    let judged = [1, 2, 3, 4, 5, 6]
        .map(|data| Op::Load(Load { clients, depth: DEPTH, count, data, export: claims.export.clone() }));
    Ok(vec![Plan::new([vec![Op::Judge], judged.to_vec()].concat())])
}
