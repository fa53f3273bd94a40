//! What only filters do: they stand between the server and a plugin that can do much or little.
//!
//! Each filter is played alone, over our own plugin, whose data and errors are known.

use std::collections::BTreeSet;

use layers_behaviour::{Behaviour, Failure, Telling};
use layers_trace::{Callback, Operation};

use super::check::{CasePlan, Level, ModuleCheck, Planned, Play, Profile, Twist};
use super::script;
use crate::rules::Party;
use crate::scenario::flag;
use crate::validate::script::claims::{Claims, flagged, flush, read, request, write};
use crate::validate::script::op::Op;

pub(super) const CHECKS: &[ModuleCheck] = &[
    ModuleCheck {
        id: "filter.data-full",
        level: Level::Must,
        profile: Profile::Filter,
        party: Party::Filter,
        statement: "Over a plugin that can do everything, what was written is read, and what was zeroed is zero.",
        clause: "nbdkit-filter(3), \".pread\", \".pwrite\", \".zero\"",
        broken_by: "a filter that shifts the offset of reads and not of writes",
        fix: "change requests of all kinds alike",
        play: Play::Filter(|claims| Ok(vec![data(claims, claims.flushes().is_ok())?])),
    },
    ModuleCheck {
        id: "filter.data-bare",
        level: Level::Must,
        profile: Profile::Filter,
        party: Party::Filter,
        statement: "The same holds over a plugin that can only read and write.",
        clause: "nbdkit-filter(3), \"nbdkit_next\"",
        broken_by: "a filter that calls next->zero where next->can_zero says no",
        fix: "ask next->can_* before calling what may not be there, or answer .can_* like next",
        play: Play::Filter(|claims| Ok(vec![over(data(claims, false)?, bare())])),
    },
    ModuleCheck {
        id: "filter.over-filter",
        level: Level::Must,
        profile: Profile::Filter,
        party: Party::Filter,
        statement: "Over another filter, too, what was written is read, and what this filter opens below it ends rightly.",
        clause: "nbdkit-filter(3), \"nbdkit_next\", nbdkit_next_context_open, nbdkit_next_context_close",
        broken_by: "a filter that takes the layer below for a plugin",
        fix: "reach the layer below through next alone; prepare and finalize contexts of your own",
        play: Play::Filter(over_filter),
    },
    ModuleCheck {
        id: "filter.durable",
        level: Level::Must,
        profile: Profile::Filter,
        party: Party::Filter,
        statement: "When a flush succeeds, or a write, zero or trim with FUA, the plugin has made durable what the filter has written, zeroed and trimmed in it.",
        clause: "nbdkit-filter(3), \".flush\", \".can_fua\"; nbdkit-plugin(3), \".flush\", \".pwrite\"",
        broken_by: "a .flush that does not call next->flush, or drops its error; a .pwrite, .zero or .trim that takes the FUA flag off",
        fix: "pass the flush and the flag on, or flush below before answering; return -1 when next fails",
        play: Play::Filter(durable),
    },
    ModuleCheck {
        id: "filter.readonly",
        level: Level::Must,
        profile: Profile::Filter,
        party: Party::Filter,
        statement: "Over a plugin that cannot be written to, no write reaches it, and reads are right.",
        clause: "nbdkit-filter(3), \".can_write\"",
        broken_by: "a filter that answers .can_write with yes and passes writes on",
        fix: "answer .can_write like next, or keep what is written in the filter",
        play: Play::Filter(over_readonly),
    },
];

pub(super) fn over(plan: CasePlan, behaviour: Behaviour) -> CasePlan {
    plan.twist(Twist::Over(Box::new(behaviour)))
}

/// A plugin that reads and writes, and has nothing else that it could do without.
fn bare() -> Behaviour {
    use Callback::{
        BlockSize, Cache, CanCache, CanExtents, CanFastZero, CanFlush, CanFua, CanMultiConn, CanTrim,
        CanZero, Extents, Flush, Trim, Zero,
    };
    let absent = [
        BlockSize,
        Cache,
        CanCache,
        CanExtents,
        CanFastZero,
        CanFlush,
        CanFua,
        CanMultiConn,
        CanTrim,
        CanZero,
        Extents,
        Flush,
        Trim,
        Zero,
    ];
    Behaviour { absent: BTreeSet::from(absent), ..Behaviour::default() }
}

/// Reads, writes and zeroes in turn. Zeroes are asked for by writing them, so that it fits a plugin of any kind.
fn data(claims: &Claims, flushes: bool) -> Result<CasePlan, super::check::Unfit> {
    claims.writes()?;
    let steps = |(data, place): (u64, (u64, u32))| {
        let around = claims.around(place, 5000).unwrap_or(place);
        [write(around, data), read(around), write(place, data + 500), read(around)]
    };
    let steps = (1..).zip(claims.places()).flat_map(steps);
    let judged = steps.chain(flushes.then(flush)).collect();
    Ok(CasePlan::new(script(claims, Vec::new(), judged)))
}

/// The requests of the other cases, and a second client. What becomes of the filter's own contexts the rules say: a
/// filter shows all of it, and a plugin knows neither prepare nor finalize.
fn over_filter(claims: &Claims) -> Planned {
    claims.holds(1)?;
    let reads = || claims.places().into_iter().map(read);
    let mut steps: Vec<Op> = reads().collect();
    if claims.writes().is_ok() {
        steps.extend((1..).zip(claims.places()).flat_map(|(data, place)| [write(place, data), read(place)]));
    }
    steps.extend(claims.flushes().is_ok().then(flush));
    steps.extend([Op::Disconnect(1), Op::Connect(2, claims.export.clone()), Op::Disconnect(2)]);
    Ok(vec![CasePlan::new(script(claims, Vec::new(), steps)).twist(Twist::OverFilter)])
}

/// Zeroes and trims, with these flags, as far as they are offered.
fn cleared(claims: &Claims, flags: u32) -> Vec<Vec<Op>> {
    let (zeroes, trims) = (claims.zeroes().is_ok(), claims.trims().is_ok());
    let ways =
        [(zeroes, Operation::Zero, flag::NO_HOLE), (zeroes, Operation::Zero, 0), (trims, Operation::Trim, 0)];
    let all = |(operation, more): (Operation, u32)| {
        let one = |place| flagged(Op::Request(request(operation, place)), flags | more);
        claims.places().into_iter().map(one).collect()
    };
    ways.into_iter()
        .filter(|(offered, ..)| *offered)
        .map(|(_, operation, more)| all((operation, more)))
        .collect()
}

/// Writes, zeroes and trims, then what makes them durable, over plugins that can, that cannot, and that fail to.
fn durable(claims: &Claims) -> Planned {
    claims.writes()?;
    claims.flushes()?;
    let flushes = Op::Durable(request(Operation::Flush, (0, 0)));
    let places = claims.places();
    let wrote = || (1..).zip(places.clone()).map(|(data, place)| write(place, data));
    let mut flushed: Vec<Op> = wrote().flat_map(|op| [op, flushes.clone()]).collect();
    flushed.extend(wrote().chain([flushes.clone()]));
    // A flush after nothing but zeroes, or trims: where only writes count for a filter, it does nothing.
    let perhaps = |op| match op {
        Op::Request(request) => Op::Perhaps(request),
        other => other,
    };
    let behind = |ops: Vec<Op>| ops.into_iter().map(perhaps).chain([flushes.clone()]);
    let flushed_alone: Vec<Op> = cleared(claims, 0).into_iter().flat_map(behind).collect();
    let fail = vec![Failure {
        callback: Callback::Flush,
        nth: None,
        errno: libc::EIO,
        after_next: false,
        told: Telling::Both,
    }];
    let mut plans = vec![
        CasePlan::new(script(claims, Vec::new(), flushed)),
        over(
            CasePlan::new(script(claims, Vec::new(), wrote().chain([flushes]).collect())),
            Behaviour { fail, ..Behaviour::default() },
        ),
    ];
    if !flushed_alone.is_empty() {
        plans.push(CasePlan::new(script(claims, Vec::new(), flushed_alone)));
    }
    if claims.has_fua().is_ok() {
        let forced = |op| match flagged(op, flag::FUA) {
            Op::Request(request) => Op::Durable(request),
            other => other,
        };
        let cleared = cleared(claims, flag::FUA).concat();
        let forced: Vec<Op> = wrote().chain(cleared).map(forced).collect();
        plans.push(CasePlan::new(script(claims, Vec::new(), forced.clone())));
        let absent = BTreeSet::from([Callback::CanFua]);
        plans.push(over(
            CasePlan::new(script(claims, Vec::new(), forced)),
            Behaviour { absent, ..Behaviour::default() },
        ));
    }
    Ok(plans)
}

fn over_readonly(claims: &Claims) -> Planned {
    claims.holds(1)?;
    let answers = [(Callback::CanWrite, 0)].into();
    let reads = claims.places().into_iter().map(read);
    let plan = CasePlan::new(script(claims, Vec::new(), reads.collect()));
    Ok(vec![over(plan, Behaviour { answers, ..Behaviour::default() })])
}
