//! What a module makes of a system that has no memory for it, or does less than it was asked for.
//!
//! Nobody promises how often that happens: so these checks are for those who ask for all of them (`--level pedantic`), and they
//! warn. What is told to have succeeded and has not is no warning.

use layers_behaviour::{Failing, Refused};
use layers_trace::Operation;

use super::check::{CasePlan, Level, ModuleCheck, Planned, Play, Profile, Unfit};
use crate::rules::Party;
use crate::validate::script::claims::{Claims, fua, request};
use crate::validate::script::op::{DiskRequest, Op, Repeated};

pub(super) const CHECKS: &[ModuleCheck] = &[
    ModuleCheck {
        id: "refused.memory",
        level: Level::Pedantic,
        profile: Profile::Resources,
        party: Party::Module,
        statement: "Where malloc gives a module nothing, the request or the open fails, or is served rightly all the same; the server lives, and nothing is lost.",
        clause: "malloc(3); nbdkit-plugin(3), \"Error handling\"",
        broken_by: "a pointer from malloc that is used without a look at it; what was taken before and is not given back",
        fix: "look at what malloc, calloc, realloc and strdup return; give back what was taken, call nbdkit_error and return -1",
        play: Play::Stack(memory),
    },
    ModuleCheck {
        id: "refused.system",
        level: Level::Pedantic,
        profile: Profile::Resources,
        party: Party::Module,
        statement: "Where a system call of a module reads or writes a part only, or fails with EINTR, ENOSPC or EIO, the request fails, or is served rightly all the same; the server lives.",
        clause: "read(2), write(2), fsync(2); nbdkit-plugin(3), \"Error handling\"",
        broken_by: "a write(2) whose result is not looked at, or only for -1; an error of fsync that is dropped",
        fix: "go on with the rest after a short read or write, and again after EINTR; for any other error call nbdkit_error and return -1",
        play: Play::Stack(system),
    },
];

/// The first time that a module asks for something in a call, and the next ones.
const PLACES: u32 = 3;

/// A script has nothing of what its interpreter asks for.
fn asks_by_itself(claims: &Claims) -> Result<(), Unfit> {
    match claims.is_script {
        true => Err(Unfit::NotClaimed("it is the interpreter that asks, and not the script")),
        false => Ok(()),
    }
}

fn memory(claims: &Claims) -> Planned {
    asks_by_itself(claims)?;
    let refused = |place| Failing { what: Refused::Memory, place };
    let mut plans = Vec::new();
    for place in 1..=PLACES {
        plans.push(CasePlan::new(script(claims)?).failing(refused(place)));
    }
    // What was taken in a call before one more piece was refused is given back.
    let rounds = kinds(claims).into_iter().map(|(operation, flags)| {
        let what = DiskRequest { flags, ..request(operation, place(claims, operation)?) };
        Ok(Op::Rounds(REQUESTS, Repeated::Request(what), claims.export.clone()))
    });
    let rounds: Vec<Op> = rounds.collect::<Result<_, _>>()?;
    let steps: Vec<Op> = std::iter::once(Op::Judge).chain(rounds).collect();
    plans.push(CasePlan::new(steps).failing(refused(2)).with_malloc_counted());
    Ok(plans)
}

fn system(claims: &Claims) -> Planned {
    asks_by_itself(claims)?;
    let kinds = [Refused::Part, Refused::Interrupted, Refused::Space, Refused::Device];
    let failing = kinds.into_iter().flat_map(|what| (1..=2).map(move |place| Failing { what, place }));
    failing.map(|failing| Ok(CasePlan::new(script(claims)?).failing(failing))).collect()
}

/// Requests of one kind in a round.
const REQUESTS: u32 = 100;

fn place(claims: &Claims, operation: Operation) -> Result<(u64, u32), Unfit> {
    if operation == Operation::Flush { Ok((0, 0)) } else { claims.some(4096, 8192) }
}

/// The requests that the subject offers, with their flags: writes with FUA as well.
fn kinds(claims: &Claims) -> Vec<(Operation, u32)> {
    let forced = |operation| operation == Operation::Write && fua(claims) != 0;
    let with_forced = |(operation, flags)| {
        std::iter::once((operation, flags)).chain(forced(operation).then(|| (operation, fua(claims))))
    };
    claims.kinds().flat_map(with_forced).collect()
}

/// Bytes from one place to the next, and those that are read around one.
const APART: u64 = 1 << 18;
const AROUND: u64 = 20_000;

/// Clients that come and go, every other one of whom may be refused; then each kind of request several times, and what it has
/// left behind. Whatever a client is told is what is there.
fn script(claims: &Claims) -> Result<Vec<Op>, Unfit> {
    claims.holds(1)?;
    let visit = |client| Op::Visit(client, claims.export.clone());
    let mut steps =
        vec![Op::Judge, visit(2), visit(3), visit(4), visit(5), Op::Connect(1, claims.export.clone())];
    let mut data = 0;
    for (operation, flags) in kinds(claims) {
        for turn in 0..4 {
            data += 1;
            // Somewhere else each time: what was taken for one place need not be asked for again.
            let base = turn * APART % claims.end().saturating_sub(AROUND).max(1);
            let place = claims.some(base + 4096, 8192)?;
            if operation == Operation::Flush && claims.writes().is_ok() {
                // Of two writes one is served, and is there to be flushed.
                for data in [data + 500, data + 600] {
                    steps.push(Op::Perhaps(DiskRequest { data, ..request(Operation::Write, place) }));
                }
            }
            let of = if operation == Operation::Flush { (0, 0) } else { place };
            steps.push(Op::Perhaps(DiskRequest { flags, data, ..request(operation, of) }));
            steps.push(Op::Perhaps(request(Operation::Read, claims.some(base, AROUND)?)));
        }
    }
    steps.push(Op::Disconnect(1));
    steps.extend([visit(6), visit(7)]);
    Ok(steps)
}
