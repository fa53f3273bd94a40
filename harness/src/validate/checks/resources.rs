//! Descriptors, threads and memory of the server process: what connections take, they give back.

use layers_trace::Operation;

use super::check::{CasePlan, Level, ModuleCheck, Planned, Play, Profile};
use crate::rules::Party;
use crate::validate::script::claims::{Claims, request};
use crate::validate::script::op::{DiskRequest, Op, Repeated, Resource};

const CLAUSE: &str = "nbdkit-plugin(3), \".close\"";

pub(super) const CHECKS: &[ModuleCheck] = &[
    ModuleCheck {
        id: "resources.descriptors",
        level: Level::Must,
        profile: Profile::Resources,
        party: Party::Module,
        statement: "Connections that have come and gone leave no file descriptor open.",
        clause: CLAUSE,
        broken_by: "an open() in .open without a close() in .close",
        fix: "close in .close what .open has opened",
        play: Play::Stack(|claims| cycles(claims, Resource::Descriptors)),
    },
    ModuleCheck {
        id: "resources.threads",
        level: Level::Must,
        profile: Profile::Resources,
        party: Party::Module,
        statement: "Connections that have come and gone leave no thread running.",
        clause: CLAUSE,
        broken_by: "a pthread_create in .open without a pthread_join in .close",
        fix: "end and join in .close what .open has started",
        play: Play::Stack(|claims| cycles(claims, Resource::Threads)),
    },
    ModuleCheck {
        id: "resources.memory",
        level: Level::Should,
        profile: Profile::Resources,
        party: Party::Module,
        statement: "Connections that have come and gone, clients that were refused and lists of exports do not make the server grow on and on: neither by anything from malloc that is not given back, nor by more than 12 KiB for each connection.",
        clause: "nbdkit-plugin(3), \".open\", \".close\", \".list_exports\"",
        broken_by: "a malloc in .open without a free in .close, or without one where .open fails",
        fix: "free in .close what .open has allocated, and in .open itself before it returns NULL",
        play: Play::Stack(memory),
    },
    ModuleCheck {
        id: "resources.requests",
        level: Level::Should,
        profile: Profile::Resources,
        party: Party::Module,
        statement: "Requests of each kind give back what they have from malloc: no more is in use after many of them than after a few.",
        clause: "nbdkit-plugin(3), \".pread\", \".pwrite\", \".flush\", \".trim\", \".zero\", \".extents\", \".cache\"",
        broken_by: "a malloc in .extents without a free",
        fix: "free what a request has allocated before its callback returns, where it fails, too",
        play: Play::Stack(requests),
    },
    ModuleCheck {
        id: "resources.after-unload",
        level: Level::Must,
        profile: Profile::Resources,
        party: Party::Module,
        statement: "When everything has been unloaded only the main thread is left.",
        clause: "nbdkit-plugin(3), \".cleanup\", \".unload\"",
        broken_by: "a background thread that nobody ends in .cleanup or .unload: its code is unmapped under it",
        fix: "tell the thread to end, and join it, in .cleanup",
        play: Play::Always,
    },
];

/// Connections between two looks.
const CYCLES: u32 = 40;
/// Clients between two looks that ask for what is not there.
const REFUSALS: u32 = 20;
/// Clients of one round, and requests.
const CLIENTS: u32 = 16;
const REQUESTS: u32 = 100;

/// The same request each time: what a cache takes for it the first one has taken.
fn requests(claims: &Claims) -> Planned {
    claims.holds(1)?;
    claims.gives_back_at_once()?;
    let Some(place) = claims.range(4096, 4096).or_else(|| claims.range(0, 1)) else { return Ok(Vec::new()) };
    let rounds = |(operation, flags): (Operation, u32)| {
        let place = if operation == Operation::Flush { (0, 0) } else { place };
        let what = Repeated::Request(DiskRequest { flags, ..request(operation, place) });
        Op::Rounds(REQUESTS, what, claims.export.clone())
    };
    let all = claims.kinds().map(rounds);
    Ok(vec![CasePlan::new(std::iter::once(Op::Judge).chain(all).collect()).with_malloc_counted()])
}

/// The server grows for a while until every thread has memory of its own: only what grows in each round is lost.
fn memory(claims: &Claims) -> Planned {
    let round = || Op::Cycles(CYCLES, claims.export.clone());
    let first = [round(), Op::Measure, Op::Judge];
    let more = [round(), Op::Measure, round(), Op::Measure, round(), Op::Compare(Resource::Memory)];
    let rounds = |what| Op::Rounds(CLIENTS, what, claims.export.clone());
    let counted = [Repeated::Connections, Repeated::Refusals, Repeated::Listings].map(rounds);
    let counted = CasePlan::new(std::iter::once(Op::Judge).chain(counted).collect()).with_malloc_counted();
    let seen = CasePlan::new(first.into_iter().chain(more).collect());
    let counted = claims.gives_back_at_once().is_ok().then_some(counted);
    Ok(std::iter::once(seen).chain(counted).collect())
}

fn cycles(claims: &Claims, resource: Resource) -> Planned {
    let cycles = |times| Op::Cycles(times, claims.export.clone());
    let set_up = [cycles(10), Op::Refusals(4), Op::Measure, Op::Judge];
    let judged = [cycles(CYCLES), Op::Compare(resource), Op::Refusals(REFUSALS), Op::Compare(resource)];
    Ok(vec![CasePlan::new(set_up.into_iter().chain(judged).collect())])
}
