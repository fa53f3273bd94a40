//! A server that goes into the background: it forks after .get_ready, and its working directory is another one then.

use super::check::{CasePlan, Level, ModuleCheck, Planned, Play, Profile, ServerOutcome};
use crate::rules::Party;
use crate::run::Start;
use crate::validate::script::claims::{Claims, flush, read, write};
use crate::validate::script::op::Op;

pub(super) const CHECKS: &[ModuleCheck] = &[ModuleCheck {
    id: "start.background",
    level: Level::Must,
    profile: Profile::Core,
    party: Party::Module,
    statement: "In a server that goes into the background it serves as it does in the foreground.",
    clause: "nbdkit-plugin(3), \".get_ready\", \".after_fork\": background threads are invalidated by the fork; nbdkit_realpath",
    broken_by: "a thread that is started in .get_ready; a file that is opened by a relative path after the fork",
    fix: "start threads in .after_fork, not in .get_ready; make paths absolute with nbdkit_realpath in .config",
    play: Play::Stack(background),
}];

fn background(claims: &Claims) -> Planned {
    let mut steps = Vec::new();
    for (data, place) in (1..).zip(claims.places().into_iter().take(3)) {
        steps.push(read(place));
        if claims.writes().is_ok() {
            steps.extend([write(place, data), read(place)]);
        }
    }
    steps.extend((claims.writes().is_ok() && claims.flushes().is_ok()).then(flush));
    steps.extend([Op::Disconnect(1), Op::Connect(2, claims.export.clone()), Op::Disconnect(2)]);
    let first = [Op::Judge, Op::Connect(1, claims.export.clone())];
    Ok(vec![
        CasePlan::new(first.into_iter().chain(steps).collect()).start(Start::Daemon, ServerOutcome::Serves),
    ])
}
