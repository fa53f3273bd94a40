//! The thread model that is claimed, under parallel load.

use super::check::{CasePlan, Level, ModuleCheck, Planned, Play, Profile, Twist, Unfit};
use super::script;
use crate::rules::Party;
use crate::validate::script::claims::Claims;
use crate::validate::script::op::{Load, Op};

const CLAUSE: &str = "nbdkit-plugin(3), \"Threads\"";
const FIX: &str = "hold a lock round what requests share, or claim a stricter thread model";

pub(super) const CHECKS: &[ModuleCheck] = &[
    ModuleCheck {
        id: "threads.requests",
        level: Level::Must,
        profile: Profile::Threads,
        party: Party::Module,
        statement: "With many requests in flight on one connection, also for neighbours within one block, every one is answered, and rightly.",
        clause: CLAUSE,
        broken_by: "NBDKIT_THREAD_MODEL_PARALLEL, and a lseek followed by a read on one descriptor, or a block that is read, changed and written back without a lock",
        fix: FIX,
        play: Play::Stack(|claims| loaded(claims, 1)),
    },
    ModuleCheck {
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
    ModuleCheck {
        id: "threads.crowd",
        level: Level::Must,
        profile: Profile::Threads,
        party: Party::Module,
        statement: "Clients that come and go at the same time are served, each rightly.",
        clause: CLAUSE,
        broken_by: "a table of handles that .open and .close change without a lock",
        fix: "hold a lock round what .open and .close share, or claim a stricter thread model",
        play: Play::Stack(crowded),
    },
];

/// Requests in flight for each client.
const DEPTH: u32 = 16;
/// Bytes of a request: whole blocks, and what shares a block with others; each with the milliseconds that it is given.
const COUNTS: [(u64, u32); 4] = [(4096, 20), (512, 40), (1000, 20), (20_000, 20)];
/// Clients that come and go, and the milliseconds in which they do.
const CROWD: (u32, u32) = (6, 120);

fn loaded(claims: &Claims, clients: u32) -> Planned {
    claims.holds(1)?;
    let share = claims.end() / u64::from(clients * DEPTH);
    let zeroes = claims.zeroes().is_ok() || claims.has_emulated_zeroes().is_ok();
    let mut judged = vec![Op::Judge];
    for (data, (count, again)) in (1..).zip(COUNTS) {
        let count =
            share.min(count).next_multiple_of(claims.unit()).min(share) / claims.unit() * claims.unit();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if count == 0 {
            return Err(Unfit::Reason(format!("the disk has {} bytes", claims.size)));
        }
        let zeroes = zeroes && data % 2 == 0;
        let export = claims.export.clone();
        if data == 3 {
            judged.push(Op::IfQuick);
        }
        judged.push(Op::Load(Load { clients, depth: DEPTH, count, data, zeroes, again, export }));
    }
    Ok(vec![CasePlan::new(judged).pausing(u64::from(clients))])
}

fn crowded(claims: &Claims) -> Planned {
    claims.is_shared()?;
    let (clients, time) = CROWD;
    let crowd = Op::Crowd(clients, time, claims.export.clone());
    Ok(vec![CasePlan::new(script(claims, Vec::new(), vec![crowd])).twist(Twist::OneThread).pausing(1)])
}
