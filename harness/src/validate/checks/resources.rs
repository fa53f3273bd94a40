//! Descriptors, threads and memory of the server process: what connections take, they give back.

use crate::rules::Party;
use crate::validate::check::{Check, Level, Plan, Planned, Play, Profile};
use crate::validate::claims::Claims;
use crate::validate::op::{Op, Resource};

const CLAUSE: &str = "nbdkit-plugin(3), \".close\"";

pub(super) const CHECKS: &[Check] = &[
    Check {
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
    Check {
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
    Check {
        id: "resources.memory",
        level: Level::Should,
        profile: Profile::Resources,
        party: Party::Module,
        statement: "Connections that have come and gone do not make the server grow on and on, by more than 12 KiB each.",
        clause: CLAUSE,
        broken_by: "a malloc in .open without a free in .close",
        fix: "free in .close what .open has allocated",
        play: Play::Stack(memory),
    },
    Check {
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

/// The server grows for a while until every thread has memory of its own: only what grows in each round is lost.
fn memory(claims: &Claims) -> Planned {
    let round = || Op::Cycles(CYCLES, claims.export.clone());
    let first = [round(), Op::Measure, Op::Judge];
    let more = [round(), Op::Measure, round(), Op::Measure, round(), Op::Compare(Resource::Memory)];
    Ok(vec![Plan::new(first.into_iter().chain(more).collect())])
}

fn cycles(claims: &Claims, resource: Resource) -> Planned {
    let cycles = |times| Op::Cycles(times, claims.export.clone());
    let script = vec![cycles(10), Op::Measure, Op::Judge, cycles(CYCLES), Op::Compare(resource)];
    Ok(vec![Plan::new(script)])
}
