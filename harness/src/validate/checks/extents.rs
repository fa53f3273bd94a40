//! Extents, by a callback of its own: that they are told, and that they are true.

use layers_trace::Operation;

use super::check::{CasePlan, Level, ModuleCheck, Planned, Play, Profile};
use super::script;
use crate::rules::Party;
use crate::scenario::flag;
use crate::validate::script::claims::{Claims, read, request, write};
use crate::validate::script::op::{DiskRequest, Op};

const CLAUSE: &str = "nbdkit-plugin(3), \".extents\"";

pub(super) const CHECKS: &[ModuleCheck] = &[
    ModuleCheck {
        id: "extents.succeed",
        level: Level::Must,
        profile: Profile::Extents,
        party: Party::Module,
        statement: "The extents of every range are told: contiguous, ascending, from its first byte, at least one.",
        clause: CLAUSE,
        broken_by: "an .extents that adds none, adds one of length 0, or leaves a gap before the first byte",
        fix: "the first extent begins at or before offset, and each next one where the one before ends",
        play: Play::Stack(|claims| told(claims, 0)),
    },
    ModuleCheck {
        id: "extents.one",
        level: Level::Must,
        profile: Profile::Extents,
        party: Party::Module,
        statement: "With NBDKIT_FLAG_REQ_ONE the extent at the first byte is told.",
        clause: CLAUSE,
        broken_by: "an .extents that takes the flag for an error or for leave to add nothing",
        fix: "add at least the extent that covers offset",
        play: Play::Stack(|claims| told(claims, flag::REQ_ONE)),
    },
    ModuleCheck {
        id: "extents.true",
        level: Level::Must,
        profile: Profile::Extents,
        party: Party::Module,
        statement: "What an extent says is zero reads as zeroes.",
        clause: "nbdkit-plugin(3), \".extents\": NBDKIT_EXTENT_ZERO",
        broken_by: "an .extents that calls the whole disk a hole",
        fix: "set NBDKIT_EXTENT_ZERO only where every byte is zero; a hole alone need not be zero",
        play: Play::Stack(true_everywhere),
    },
    ModuleCheck {
        id: "extents.after-write",
        level: Level::Must,
        profile: Profile::Extents,
        party: Party::Module,
        statement: "What was written is no longer told to be zero.",
        clause: CLAUSE,
        broken_by: "an .extents that answers from a map made at .open",
        fix: "update the map in .pwrite",
        play: Play::Stack(after_write),
    },
];

fn extents(place: (u64, u32), flags: u32) -> Op {
    Op::Request(DiskRequest { flags, ..request(Operation::BlockStatus, place) })
}

/// The places, the whole of a small disk, both ends of a large one, and what lies across powers of two.
fn ranges(claims: &Claims) -> Vec<(u64, u32)> {
    let whole = [0, claims.end().saturating_sub(claims.most())];
    let whole = whole.into_iter().filter_map(|at| claims.range(at, claims.most()));
    claims.places().into_iter().chain(whole).chain(claims.borders()).collect()
}

fn told(claims: &Claims, flags: u32) -> Planned {
    claims.tells_extents()?;
    let judged = ranges(claims).into_iter().map(|place| extents(place, flags)).collect();
    Ok(vec![CasePlan::new(script(claims, Vec::new(), judged))])
}

fn true_everywhere(claims: &Claims) -> Planned {
    claims.tells_extents()?;
    let learn = |place| Op::Learn(request(Operation::Read, place));
    let read = |(offset, count): (u64, u32)| match claims.last() {
        Some(last) if offset > 0 && count > last.1 => last,
        _ => (offset, count),
    };
    let judged =
        ranges(claims).into_iter().flat_map(|place| [learn(read(place)), extents(place, 0)]).collect();
    Ok(vec![CasePlan::new(script(claims, Vec::new(), judged))])
}

fn after_write(claims: &Claims) -> Planned {
    claims.tells_extents()?;
    claims.writes()?;
    let places = claims.places();
    let around = |place| claims.around(place, 100_000).unwrap_or(place);
    let before = places.iter().map(|place| extents(around(*place), 0));
    let written = (1..).zip(&places).flat_map(|(data, place)| [write(*place, data), read(*place)]);
    let setup = before.chain(written).collect();
    let judged = places
        .iter()
        .flat_map(|place| [extents(around(*place), 0), extents(*place, flag::REQ_ONE)])
        .collect();
    Ok(vec![CasePlan::new(script(claims, setup, judged))])
}
