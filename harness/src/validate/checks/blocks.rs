//! Block size constraints: requests that keep to them are served, also by a filter over a plugin that has some.

use layers_behaviour::Behaviour;
use layers_trace::Operation;

use super::check::{CasePlan, Level, ModuleCheck, Planned, Play, Profile, Twist, Unfit};
use super::script;
use crate::rules::Party;
use crate::validate::script::claims::{Claims, read, request, write};
use crate::validate::script::fact::BlockSize;
use crate::validate::script::op::{DiskRequest, Op};

const CLAUSE: &str = "nbdkit-plugin(3), \".block_size\"";

pub(super) const CHECKS: &[ModuleCheck] = &[
    ModuleCheck {
        id: "block-size.minimum",
        level: Level::Must,
        profile: Profile::BlockSize,
        party: Party::Module,
        statement: "Reads of the minimum block size, at multiples of it, are served.",
        clause: CLAUSE,
        broken_by: "a minimum of 512 on a backing store that needs 4096",
        fix: "tell the block size of the backing store as the minimum",
        play: Play::Both(
            |claims| sized(claims, |[minimum, ..]| minimum),
            |claims| over_sized(claims, BlockSize::Minimum),
        ),
    },
    ModuleCheck {
        id: "block-size.preferred",
        level: Level::Must,
        profile: Profile::BlockSize,
        party: Party::Module,
        statement: "Reads of the preferred block size, at multiples of it, are served.",
        clause: CLAUSE,
        broken_by: "a preferred size that .pread does not serve as a whole",
        fix: "serve requests of any size between the minimum and the maximum",
        play: Play::Both(
            |claims| sized(claims, |[_, preferred, _]| preferred),
            |claims| over_sized(claims, BlockSize::Preferred),
        ),
    },
    ModuleCheck {
        id: "block-size.maximum",
        level: Level::Must,
        profile: Profile::BlockSize,
        party: Party::Module,
        statement: "Reads of the maximum block size are served (of 32 MiB, if it is more).",
        clause: CLAUSE,
        broken_by: "a maximum larger than the buffer that .pread copies through",
        fix: "tell as the maximum what is served in one request",
        play: Play::Both(
            |claims| sized(claims, |[_, _, maximum]| maximum),
            |claims| over_sized(claims, BlockSize::Maximum),
        ),
    },
    ModuleCheck {
        id: "block-size.smaller",
        level: Level::Must,
        profile: Profile::BlockSize,
        party: Party::Module,
        statement: "A request that does not keep to the minimum block size is refused, or does what it says.",
        clause: "nbdkit-plugin(3), \".pread\", \".pwrite\" and \".block_size\": the server does not enforce block sizes",
        broken_by: "a .pread that returns 0 for what is not aligned, and reads nothing",
        fix: "refuse what cannot be served, with an error and EINVAL; or serve it",
        play: Play::Stack(smaller),
    },
];

/// Requests of parts of the first two blocks. What they may change is read before and after, in whole blocks.
fn smaller(claims: &Claims) -> Planned {
    claims.tells_block_size()?;
    let unit = claims.unit();
    if unit < 2 {
        return Err(Unfit::NotClaimed("its minimum block size is 1"));
    }
    claims.holds(2 * unit)?;
    let part = u32::try_from(unit / 2).unwrap_or(u32::MAX);
    let whole = claims.some(0, 2 * unit)?;
    let parts = [(0, part), (u64::from(part), part), (1, u32::try_from(unit).unwrap_or(u32::MAX))];
    let reads = parts.map(|place| Op::Perhaps(request(Operation::Read, place))).to_vec();
    let mut plans = vec![CasePlan::new(script(claims, vec![read(whole)], reads)).compares()];
    if claims.writes().is_ok() {
        let writes = (7..).zip(parts).flat_map(|(data, place)| {
            [
                Op::Perhaps(DiskRequest { data, ..request(Operation::Write, place) }),
                Op::Request(request(Operation::Read, whole)),
            ]
        });
        plans.push(CasePlan::new(script(claims, vec![write(whole, 6)], writes.collect())));
    }
    Ok(plans)
}

/// What a plugin below tells: block sizes that differ from those that a filter has, and from none.
const BELOW: [[u32; 3]; 2] = [[1, 512, 1 << 20], [512, 4096, 32 << 20]];

/// Over our own plugin, with block sizes: what the filter makes of them is what it serves.
fn over_sized(claims: &Claims, size: BlockSize) -> Planned {
    claims.holds(1)?;
    let over = |block_size| {
        let behaviour = Behaviour { block_size: Some(block_size), ..Behaviour::default() };
        CasePlan::new(script(claims, Vec::new(), vec![Op::Sized(1, size)]))
            .twist(Twist::Over(Box::new(behaviour)))
    };
    Ok(BELOW.map(over).to_vec())
}

fn sized(claims: &Claims, choose: impl Fn([u32; 3]) -> u32) -> Planned {
    claims.tells_block_size()?;
    let size = u64::from(choose(claims.block.unwrap_or_default())).min(claims.most());
    if claims.end() < size {
        return Err(Unfit::Reason(format!("the disk is smaller than {size} bytes")));
    }
    let last = (claims.end() - size) / size.max(1) * size;
    let mut places: Vec<_> = [0, size, last].into_iter().filter(|at| at + size <= claims.end()).collect();
    places.dedup();
    let places = places.into_iter().map(|at| (at, u32::try_from(size).unwrap_or(u32::MAX)));
    let judged = places.map(read).collect();
    Ok(vec![CasePlan::new(script(claims, Vec::new(), judged))])
}
