//! The checks: a file a profile, each a table of rows and the functions that write their scripts.
//!
//! A script is a pure function of what the subject claims. Its first part, up to `judge`, sets the case up: what goes
//! wrong there is another check's business.

mod background;
mod blocks;
mod buffers;
mod cache;
pub mod check;
mod connections;
mod core;
mod durability;
mod exports;
mod extents;
mod failing;
mod failing_system;
mod filter;
mod flush;
mod huge;
pub(super) mod module_rules;
mod process;
mod read;
mod resources;
mod script_beginning;
mod threads;
mod trim;
mod write;
mod zero;

use check::ModuleCheck;
use script_beginning::script;

/// Every check, in the order in which they are played.
pub fn all() -> impl Iterator<Item = &'static ModuleCheck> {
    [
        process::CHECKS,
        core::CHECKS,
        read::CHECKS,
        write::CHECKS,
        zero::CHECKS,
        trim::CHECKS,
        flush::CHECKS,
        durability::CHECKS,
        extents::CHECKS,
        cache::CHECKS,
        connections::CHECKS,
        blocks::CHECKS,
        exports::CHECKS,
        huge::CHECKS,
        threads::CHECKS,
        resources::CHECKS,
        buffers::CHECKS,
        background::CHECKS,
        filter::CHECKS,
        failing::CHECKS,
        failing_system::CHECKS,
    ]
    .into_iter()
    .flatten()
}

/// The check with this id.
pub fn find(id: &str) -> Option<&'static ModuleCheck> {
    all().find(|check| check.id == id)
}

/// A list as docs/checks.md has it.
pub fn markdown<'a>(checks: impl Iterator<Item = &'a ModuleCheck>) -> String {
    let row = |check: &ModuleCheck| {
        let ModuleCheck { id, level, profile, statement, clause, broken_by, .. } = check;
        let level = level.word();
        format!("| `{id}` | {level} | {profile} | {statement} | {broken_by} | {clause} |\n")
    };
    let head = "| id | level | profile | what holds | broken by | clause |\n|---|---|---|---|---|---|\n";
    head.to_owned() + &checks.map(row).collect::<String>()
}

#[cfg(test)]
mod tests {
    use crate::validate::script::claims::Claims;
    use crate::validate::script::op::Op;

    /// A subject that offers everything.
    fn claims(size: u64, block: Option<[u32; 3]>) -> Claims {
        Claims {
            size,
            flags: !(1 << 1),
            block,
            block_status: true,
            can_extents: true,
            callbacks: u64::MAX,
            thread_model: 3,
            ..Claims::default()
        }
    }

    /// All requests of all checks on this disk.
    fn requests(claims: &Claims) -> Vec<(&'static str, crate::validate::script::op::DiskRequest)> {
        let mut all = Vec::new();
        for check in super::all() {
            let both = check.play.on_stack().into_iter().chain(check.play.on_filters());
            for op in both.flat_map(|plans| plans(claims)).flatten().flat_map(|plan| plan.script) {
                if let Op::Request(request) = op {
                    all.push((check.id, request));
                }
            }
        }
        all
    }

    #[test]
    fn ids_are_unique_and_in_families() {
        let mut ids: Vec<&str> = super::all().map(|check| check.id).collect();
        assert!(ids.iter().all(|id| id.split('.').count() == 2));
        ids.sort_unstable();
        let before = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), before);
    }

    #[test]
    fn no_request_leaves_the_disk_or_breaks_the_block_sizes() {
        let blocks = [None, Some([1, 4096, 65536]), Some([512, 4096, 1 << 20]), Some([65536, 65536, 65536])];
        for size in [0, 1, 511, 512, 4096, 65535, 1 << 20, (64 << 20) + 1, 5 << 30, i64::MAX as u64] {
            for block in blocks {
                let claims = claims(size, block);
                for (id, request) in requests(&claims) {
                    let (offset, count) = (request.offset, u64::from(request.count));
                    assert!(offset + count <= size, "{id}: {request} on {size} bytes");
                    let unit = claims.unit();
                    assert!(offset % unit == 0 && count % unit == 0, "{id}: {request} in units of {unit}");
                    assert!(count <= claims.most(), "{id}: {request} is larger than {}", claims.most());
                }
            }
        }
    }

    #[test]
    fn every_script_reads_back_as_written() {
        for (id, request) in requests(&claims(64 << 20, None)) {
            let op = Op::Request(request);
            assert_eq!(op.to_string().parse(), Ok(op), "{id}");
        }
    }
}
