//! Trimming. What a trimmed range reads as is left open; what lies outside is not.

use layers_trace::Operation;

use super::check::{CasePlan, Level, ModuleCheck, Planned, Play, Profile};
use super::script;
use crate::rules::Party;
use crate::validate::script::claims::{Claims, fua, read, request, write};
use crate::validate::script::op::{DiskRequest, Op};

const CLAUSE: &str = "nbdkit-plugin(3), \".trim\"";

pub(super) const CHECKS: &[ModuleCheck] = &[
    ModuleCheck {
        id: "trim.succeeds",
        level: Level::Must,
        profile: Profile::Trim,
        party: Party::Module,
        statement: "Trims succeed where they are claimed, with FUA too where that is claimed.",
        clause: "nbdkit-plugin(3), \".can_trim\", \".trim\"",
        broken_by: "a .can_trim that says yes and a .trim that always fails",
        fix: "let .can_trim tell the truth; a trim that can do nothing may return 0",
        play: Play::Stack(succeeds),
    },
    ModuleCheck {
        id: "trim.neighbours",
        level: Level::Must,
        profile: Profile::Trim,
        party: Party::Module,
        statement: "Trimming a range leaves the bytes before and behind it as they were.",
        clause: CLAUSE,
        broken_by: "a .trim that rounds outwards to whole blocks",
        fix: "round inwards: trim the whole blocks inside the range, or nothing",
        play: Play::Stack(neighbours),
    },
    ModuleCheck {
        id: "trim.then-write",
        level: Level::Must,
        profile: Profile::Trim,
        party: Party::Module,
        statement: "What is written to a range after it was trimmed is read.",
        clause: CLAUSE,
        broken_by: "a .trim that marks a block as absent, and a .pwrite that does not bring it back",
        fix: "let .pwrite allocate what .trim has given back",
        play: Play::Stack(then_write),
    },
];

fn trim(place: (u64, u32), flags: u32) -> Op {
    Op::Request(DiskRequest { flags, ..request(Operation::Trim, place) })
}

fn succeeds(claims: &Claims) -> Planned {
    claims.trims()?;
    let judged =
        claims.places().into_iter().flat_map(|place| [trim(place, 0), trim(place, fua(claims))]).collect();
    Ok(vec![CasePlan::new(script(claims, Vec::new(), judged))])
}

fn neighbours(claims: &Claims) -> Planned {
    claims.trims()?;
    let around: Vec<_> =
        claims.places().into_iter().filter_map(|p| Some((p, claims.around(p, 5000)?))).collect();
    let setup = (1..).zip(&around).flat_map(|(data, (_, all))| [write(*all, data), read(*all)]).collect();
    let judged = around.iter().flat_map(|(place, all)| [trim(*place, 0), read(*all)]).collect();
    Ok(vec![CasePlan::new(script(claims, setup, judged))])
}

fn then_write(claims: &Claims) -> Planned {
    claims.trims()?;
    let all = claims.some(0, 1 << 20)?;
    let parts: Vec<_> =
        claims.places().into_iter().filter(|(offset, count)| offset + u64::from(*count) <= 1 << 20).collect();
    let setup = vec![write(all, 1), read(all), trim(all, 0)];
    let judged = (2..).zip(parts).flat_map(|(data, part)| [write(part, data), read(part)]).collect();
    Ok(vec![CasePlan::new(script(claims, setup, judged))])
}
