//! What a filter makes of a layer below that fails, or that has become another one when it is opened again.
//!
//! Each filter is played alone, over our own plugin, whose data and errors are known.

use layers_behaviour::{Behaviour, Failure, Telling};
use layers_trace::{Callback, Operation};

use super::check::{CasePlan, Level, ModuleCheck, Planned, Play, Profile, ServerOutcome};
use super::filter::over;
use super::script;
use crate::rules::Party;
use crate::run::Start;
use crate::scenario::flag;
use crate::validate::script::claims::{Claims, flush, read, request, write};
use crate::validate::script::op::{DiskRequest, Op};

pub(super) const CHECKS: &[ModuleCheck] = &[
    ModuleCheck {
        id: "filter.failing-requests",
        level: Level::Must,
        profile: Profile::Filter,
        party: Party::Filter,
        statement: "When a request of the layer below fails, the server lives; where the client is told that it has succeeded, it has; and later requests are answered rightly.",
        clause: "nbdkit-filter(3), \"ERROR HANDLING\"",
        broken_by: "a filter that keeps a lock, or takes a half-filled block for good, when next fails; one that drops the error",
        fix: "release what was taken, drop what was cached, set *err and return -1",
        play: Play::Filter(failing_requests),
    },
    ModuleCheck {
        id: "filter.failing-answers",
        level: Level::Must,
        profile: Profile::Filter,
        party: Party::Filter,
        statement: "When the layer below fails to open or to answer a question, the server lives and serves the next client.",
        clause: "nbdkit-filter(3), \".open\", \".get_size\", \".can_write\"",
        broken_by: "a filter that goes on with a size of -1, frees its handle twice, or takes the failure for good",
        fix: "look at what next returns; undo what was done; return NULL or -1",
        play: Play::Filter(failing_answers),
    },
    ModuleCheck {
        id: "filter.failing-for-good",
        level: Level::Must,
        profile: Profile::Filter,
        party: Party::Filter,
        statement: "When requests of the layer below fail for good, those of one range or all from some time on, each is answered, or the server ends when it is told to; and what does not fail is right.",
        clause: "nbdkit-filter(3), \"ERROR HANDLING\"",
        broken_by: "a filter that goes round its loop again when next fails, without getting on",
        fix: "set *err and return -1; let whoever tries again give up after some time, and sleep by nbdkit_nanosleep, which ends with the server",
        play: Play::Filter(for_good),
    },
    ModuleCheck {
        id: "filter.below-changes",
        level: Level::Must,
        profile: Profile::Filter,
        party: Party::Filter,
        statement: "When a request of the layer below fails, and the layer is another one after the next open (smaller, larger, read-only, or without what it could do), the server lives.",
        clause: "nbdkit-plugin(3), \"Callback lifecycle\": answers may differ from one .open to the next; nbdkit-filter(3), nbdkit_next_context_open",
        broken_by: "a filter that opens the layer below anew and sends the request again, although it is behind the end now",
        fix: "ask next->get_size and next->can_* again after each open, and fail what is not possible any more",
        play: Play::Filter(below_changes),
    },
];

/// The requests that the subject offers, each with the callback that serves it.
fn offered(claims: &Claims) -> Vec<(Callback, Operation)> {
    let writable = claims.writes().is_ok();
    let all = [
        (true, Callback::Pread, Operation::Read),
        (writable, Callback::Pwrite, Operation::Write),
        (claims.zeroes().is_ok(), Callback::Zero, Operation::Zero),
        (claims.trims().is_ok(), Callback::Trim, Operation::Trim),
        (writable && claims.flushes().is_ok(), Callback::Flush, Operation::Flush),
        (claims.tells_extents().is_ok(), Callback::Extents, Operation::BlockStatus),
        (claims.caches().is_ok(), Callback::Cache, Operation::Cache),
    ];
    all.into_iter()
        .filter(|(offered, ..)| *offered)
        .map(|(_, callback, operation)| (callback, operation))
        .collect()
}

/// A request of this kind; zeroes are to be there afterwards.
fn one(operation: Operation, place: (u64, u32), data: u64) -> DiskRequest {
    let place = if operation == Operation::Flush { (0, 0) } else { place };
    let flags = if operation == Operation::Zero { flag::NO_HOLE } else { 0 };
    DiskRequest { flags, data, ..request(operation, place) }
}

fn failing(callback: Callback, nth: u32) -> Failure {
    Failure { callback, nth: Some(nth), errno: libc::EIO, after_next: false, told: Telling::Both }
}

/// Each request fails once below, at its second call. Whatever the client is told is what is there afterwards, and what
/// follows is right.
fn failing_requests(claims: &Claims) -> Planned {
    claims.holds(1 << 16)?;
    let writable = claims.writes().is_ok();
    let place = claims.some(4096, 8192)?;
    let plans = offered(claims).into_iter().map(|(callback, operation)| {
        let mut steps = Vec::new();
        // One by one, as nobody knows which of a filter's own calls is the second one. What was there before is another
        // pattern each time, so that one that was kept shows.
        for data in 1..=4 {
            if writable && operation != Operation::Write {
                steps.push(Op::Perhaps(DiskRequest { data, ..request(Operation::Write, place) }));
            }
            steps.push(Op::Perhaps(one(operation, place, 10 + data)));
            steps.push(Op::Perhaps(request(Operation::Read, place)));
        }
        if writable {
            steps.extend([write(place, 1), read(place), write(place, 2)]);
            steps.extend(claims.flushes().is_ok().then(flush));
        }
        steps.extend([
            read(place),
            Op::Disconnect(1),
            Op::Connect(2, claims.export.clone()),
            Op::Disconnect(2),
        ]);
        let fail = vec![failing(callback, 2)];
        over(CasePlan::new(script(claims, Vec::new(), steps)), Behaviour { fail, ..Behaviour::default() })
    });
    Ok(plans.collect())
}

/// All of them from the beginning, all of them after a few, and those of a few bytes.
fn for_good(claims: &Claims) -> Planned {
    claims.holds(1 << 16)?;
    let offered = offered(claims);
    let place = claims.some(4096, 8192)?;
    let some = [place, claims.some(0, 1)?, claims.some(20_000, 300)?];
    let all = |place| offered.iter().map(move |(_, operation)| Op::Patient(one(*operation, place, 1)));
    let steps: Vec<Op> = some.into_iter().flat_map(all).collect();
    let from = |nth: u32| {
        let fails_from = offered.iter().map(|(callback, _)| (*callback, nth)).collect();
        over(
            CasePlan::new(script(claims, Vec::new(), steps.clone())),
            Behaviour { fails_from, ..Behaviour::default() },
        )
    };
    let bad = [8192, 8192 + 4096];
    let around = [claims.some(0, 1 << 16)?, claims.some(8192, 1)?, claims.some(8192 + 4095, 2)?];
    let mut steps: Vec<Op> = around.into_iter().flat_map(all).collect();
    // A block of up to a mebibyte may have the bad bytes in it.
    if let Some(far) = claims.range(4 << 20, 8192).filter(|_| claims.end() > 8 << 20) {
        steps.extend(claims.writes().is_ok().then(|| write(far, 7)));
        steps.push(read(far));
    }
    let of_range = CasePlan::new(script(claims, Vec::new(), steps));
    Ok(vec![from(1), from(3), over(of_range, Behaviour { bad: Some(bad), ..Behaviour::default() })])
}

/// The first call of each kind fails, whereupon a filter may open the layer below again: every other time that is another
/// one.
fn below_changes(claims: &Claims) -> Planned {
    claims.holds(1 << 16)?;
    let offered = offered(claims);
    let (size, place) = (claims.size.cast_signed(), claims.some(1 << 15, 8192)?);
    let changes: [Vec<(Callback, i64)>; 4] = [
        vec![(Callback::GetSize, 4096)],
        vec![(Callback::GetSize, size.saturating_mul(2))],
        vec![(Callback::CanWrite, 0)],
        [
            Callback::CanFua,
            Callback::CanFlush,
            Callback::CanFastZero,
            Callback::CanZero,
            Callback::CanTrim,
            Callback::CanExtents,
            Callback::CanCache,
        ]
        .map(|callback| (callback, 0))
        .to_vec(),
    ];
    let plans = changes.into_iter().map(|changed| {
        let fail = offered.iter().map(|(callback, _)| failing(*callback, 1)).collect();
        let every_other = changed.into_iter().collect();
        let steps = offered.iter().map(|(_, operation)| Op::Patient(one(*operation, place, 1))).collect();
        let behaviour = Behaviour { fail, every_other, ..Behaviour::default() };
        over(CasePlan::new(script(claims, Vec::new(), steps)), behaviour)
    });
    Ok(plans.collect())
}

/// Each question fails once below. A filter may ask it for the first client, or keep its own answer for that one; the
/// third one is served.
fn failing_answers(claims: &Claims) -> Planned {
    use Callback::{
        CanCache, CanExtents, CanFastZero, CanFlush, CanFua, CanMultiConn, CanTrim, CanWrite, CanZero,
        GetSize, IsRotational, Open,
    };
    let questions = [
        Open,
        GetSize,
        CanWrite,
        CanFlush,
        IsRotational,
        CanTrim,
        CanZero,
        CanFastZero,
        CanExtents,
        CanFua,
        CanMultiConn,
        CanCache,
    ];
    let place = claims.range(0, 512);
    let plans = questions.into_iter().map(|callback| {
        let fail = vec![failing(callback, 1)];
        let visit = |client| Op::Visit(client, claims.export.clone());
        let mut steps = vec![Op::Judge, visit(1), visit(2), Op::Connect(3, claims.export.clone())];
        steps.extend(
            place.map(|place| Op::Request(DiskRequest { client: 3, ..request(Operation::Read, place) })),
        );
        let plan = CasePlan::new(steps).start(Start::Foreground, ServerOutcome::Serves);
        over(plan, Behaviour { fail, ..Behaviour::default() })
    });
    Ok(plans.collect())
}
