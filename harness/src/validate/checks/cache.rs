//! Caching.

use layers_trace::Operation;

use super::check::{CasePlan, Level, ModuleCheck, Planned, Play, Profile};
use super::script;
use crate::rules::Party;
use crate::validate::script::claims::{Claims, read, request, write};
use crate::validate::script::op::Op;

const CLAUSE: &str = "nbdkit-plugin(3), \".can_cache\", \".cache\"";

pub(super) const CHECKS: &[ModuleCheck] = &[
    ModuleCheck {
        id: "cache.succeeds",
        level: Level::Must,
        profile: Profile::Cache,
        party: Party::Module,
        statement: "A cache request succeeds where it is claimed.",
        clause: CLAUSE,
        broken_by: "a .can_cache that says NBDKIT_CACHE_NATIVE and a .cache that always fails",
        fix: "let .can_cache tell the truth",
        play: Play::Stack(|claims| {
            claims.caches()?;
            let judged = claims.places().into_iter().map(cache).collect();
            Ok(vec![CasePlan::new(script(claims, Vec::new(), judged))])
        }),
    },
    ModuleCheck {
        id: "cache.keeps-data",
        level: Level::Must,
        profile: Profile::Cache,
        party: Party::Module,
        statement: "Caching a range changes no byte of it.",
        clause: CLAUSE,
        broken_by: "a .cache that reads old blocks over new ones",
        fix: "leave what was written since alone",
        play: Play::Stack(keeps_data),
    },
];

fn cache(place: (u64, u32)) -> Op {
    Op::Request(request(Operation::Cache, place))
}

fn keeps_data(claims: &Claims) -> Planned {
    claims.caches()?;
    let places = claims.places();
    let writable = claims.writes().is_ok();
    let setup = (1..)
        .zip(&places)
        .flat_map(|(data, place)| writable.then(|| write(*place, data)).into_iter().chain([read(*place)]))
        .collect();
    let judged = places.iter().flat_map(|place| [cache(*place), read(*place)]).collect();
    Ok(vec![CasePlan::new(script(claims, setup, judged))])
}
