//! Lists of exports.

use super::check::{CasePlan, Level, ModuleCheck, Planned, Play, Profile};
use crate::rules::Party;
use crate::validate::script::claims::Claims;
use crate::validate::script::op::Op;

pub(super) const CHECKS: &[ModuleCheck] = &[
    ModuleCheck {
        id: "exports.list",
        level: Level::Must,
        profile: Profile::Exports,
        party: Party::Module,
        statement: "The exports can be listed; no name comes twice; names and descriptions are UTF-8 of at most 4096 bytes.",
        clause: "nbdkit-plugin(3), \".list_exports\"",
        broken_by: "a .list_exports that fails, or that adds an export twice",
        fix: "add each export once with nbdkit_add_export, and return 0",
        play: Play::Stack(|claims| listed(claims, vec![Op::Judge, Op::List])),
    },
    ModuleCheck {
        id: "exports.open",
        level: Level::Must,
        profile: Profile::Exports,
        party: Party::Module,
        statement: "Every export that is listed opens.",
        clause: "nbdkit-plugin(3), \".list_exports\", \".open\"",
        broken_by: "a .list_exports that lists what .open refuses",
        fix: "list what can be opened",
        play: Play::Stack(|claims| listed(claims, vec![Op::List, Op::Judge, Op::OpenListed])),
    },
    ModuleCheck {
        id: "exports.side-by-side",
        level: Level::Must,
        profile: Profile::Exports,
        party: Party::Module,
        statement: "Exports that are open at the same time are each read from its own start to its own end.",
        clause: "nbdkit-plugin(3), \".list_exports\", \".open\", \".get_size\"",
        broken_by: "a size, or a descriptor, that is kept for the whole plugin and not for the connection",
        fix: "keep in the handle what belongs to the export",
        play: Play::Stack(|claims| {
            claims.is_shared()?;
            listed(claims, vec![Op::List, Op::OpenListed, Op::Judge, Op::ReadListed])
        }),
    },
];

fn listed(claims: &Claims, script: Vec<Op>) -> Planned {
    claims.lists_exports()?;
    Ok(vec![CasePlan::new(script)])
}
