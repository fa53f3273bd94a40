//! Flushing.

use super::check::{CasePlan, Level, ModuleCheck, Planned, Play, Profile};
use super::script;
use crate::rules::Party;
use crate::validate::script::claims::{Claims, flush, read, write};

const CLAUSE: &str = "nbdkit-plugin(3), \".flush\"";

pub(super) const CHECKS: &[ModuleCheck] = &[
    ModuleCheck {
        id: "flush.succeeds",
        level: Level::Must,
        profile: Profile::Flush,
        party: Party::Module,
        statement: "A flush succeeds where it is claimed, also when nothing was written.",
        clause: "nbdkit-plugin(3), \".can_flush\", \".flush\"",
        broken_by: "a .can_flush that says yes and a .flush that always fails",
        fix: "let .can_flush tell the truth",
        play: Play::Stack(|claims| {
            claims.flushes()?;
            Ok(vec![CasePlan::new(script(claims, Vec::new(), vec![flush(), flush()]))])
        }),
    },
    ModuleCheck {
        id: "flush.keeps-data",
        level: Level::Must,
        profile: Profile::Flush,
        party: Party::Module,
        statement: "What was written before a flush is read after it.",
        clause: CLAUSE,
        broken_by: "a .flush that drops a cache without writing it back",
        fix: "write back first, and forget only what is stored",
        play: Play::Stack(keeps_data),
    },
    ModuleCheck {
        id: "flush.syncs",
        level: Level::Should,
        profile: Profile::Flush,
        party: Party::Module,
        statement: "When a flush succeeds, or a write, zero or trim with FUA, fdatasync or the like was called for each file that the module has written to since the last one.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), \".flush\", \".can_fua\"",
        broken_by: "a .flush that does nothing, where .pwrite calls pwrite(2); one that drops the error of fdatasync",
        fix: "call fdatasync in .flush, and in the other callbacks where NBDKIT_FLAG_FUA is given; fail where it fails",
        play: Play::Always,
    },
];

fn keeps_data(claims: &Claims) -> Planned {
    claims.flushes()?;
    claims.writes()?;
    let places = claims.places();
    let setup = (1..).zip(&places).flat_map(|(data, place)| [write(*place, data), read(*place)]).collect();
    let reads = || places.iter().copied().map(read);
    let judged = [flush()].into_iter().chain(reads()).chain([flush()]).chain(reads()).collect();
    Ok(vec![CasePlan::new(script(claims, setup, judged))])
}
