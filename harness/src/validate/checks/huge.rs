//! Requests of more bytes than fit into 31 bits, which carry no data and so have no other limit than the disk.

use layers_behaviour::Behaviour;
use layers_trace::{Callback, Operation};

use super::check::{CasePlan, Level, ModuleCheck, Planned, Play, Profile, Twist, Unfit};
use super::script;
use crate::rules::Party;
use crate::validate::script::claims::{Claims, request};
use crate::validate::script::op::{DiskRequest, Op};

/// A request of no bytes, which the server answers by itself.
const NONE: u32 = 0;
/// Byte counts: from the first that is negative in a signed number to the largest of all.
const COUNTS: [u32; 3] = [1 << 31, u32::MAX - 511, u32::MAX];
/// The disk of our own plugin: the largest request fits at an odd offset.
const LARGE: i64 = 8 << 30;

pub(super) const CHECKS: &[ModuleCheck] = &[ModuleCheck {
    id: "requests.huge",
    level: Level::Must,
    profile: Profile::Core,
    party: Party::Module,
    statement: "Block status, zero, trim and cache of up to 2^32-1 bytes are answered, or refused, as far as the disk has them.",
    clause: "nbdkit-plugin(3) and nbdkit-filter(3), \".extents\", \".zero\", \".trim\", \".cache\": count",
    broken_by: "a count that is rounded up, or added to, in 32 bits",
    fix: "calculate offsets and ends in 64 bits",
    play: Play::Both(on_stack, over_large),
}];

fn on_stack(claims: &Claims) -> Planned {
    claims.holds(1)?;
    Ok(vec![CasePlan::new(script(claims, Vec::new(), steps(claims)))])
}

fn over_large(claims: &Claims) -> Planned {
    claims.holds(1)?;
    let answers = [(Callback::GetSize, LARGE)].into();
    let behaviour = Behaviour { answers, ..Behaviour::default() };
    let large = Claims { size: LARGE.cast_unsigned(), ..claims.clone() };
    let plan = CasePlan::new(script(&large, Vec::new(), steps(&large)));
    Ok(vec![plan.twist(Twist::Over(Box::new(behaviour)))])
}

/// At the start, at an odd offset, and as far behind as the disk has room; as large as it allows.
fn steps(claims: &Claims) -> Vec<Op> {
    let kinds: [(Result<(), Unfit>, Operation); 4] = [
        (claims.tells_extents(), Operation::BlockStatus),
        (claims.zeroes(), Operation::Zero),
        (claims.trims(), Operation::Trim),
        (own_cache(claims), Operation::Cache),
    ];
    let (end, unit) = (claims.end(), claims.unit());
    let mut steps = Vec::new();
    for operation in kinds.into_iter().filter(|(offered, _)| offered.is_ok()).map(|(_, operation)| operation)
    {
        let mut ranges = Vec::new();
        for count in COUNTS.map(u64::from) {
            let count = count.min(end) / unit * unit;
            ranges
                .extend([0, 65_537 / unit * unit, (end - count) / unit * unit].map(|offset| (offset, count)));
        }
        ranges.retain(|(offset, count)| *count > 0 && offset + count <= end);
        ranges.dedup();
        let grow = |(offset, count): (u64, u64)| {
            Some(Op::Grow(request(operation, (offset, u32::try_from(count).ok()?))))
        };
        steps.extend(ranges.into_iter().filter_map(grow));
    }
    let nothing =
        |operation, offset| Op::Try(DiskRequest { count: NONE, ..request(operation, (offset, NONE)) });
    steps.extend([nothing(Operation::Read, 0), nothing(Operation::Read, end)]);
    let last = claims.range(end.saturating_sub(1), 1);
    steps.extend(last.map(|last| Op::Try(request(Operation::Read, last))));
    steps
}

/// A .cache of its own: the server would read everything instead.
fn own_cache(claims: &Claims) -> Result<(), Unfit> {
    claims.caches()?;
    match claims.has(Callback::Cache) {
        true => Ok(()),
        false => Err(Unfit::NotClaimed("it has no .cache")),
    }
}
