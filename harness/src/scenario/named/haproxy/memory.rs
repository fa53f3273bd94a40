//! Sessions under the checks that the server has for its own memory, and with allocations that fail.

use super::super::super::Scenario;
use super::super::super::session::{SessionStep, Socket, ask};
use super::{CONTEXTS, SMALL, session, with};
use crate::version::Version;

/// With allocations that fail.
const FAILING: &str = include_str!("../../../../../fixtures/haproxy/failing.cfg");
/// The first version whose packages can tell memory that is used after it was freed.
const USE_AFTER_FREE: Version = Version(2, 8, 0);

pub(super) fn all() -> Vec<Scenario> {
    let checked = |name: &str, option: &'static [&'static str], since: Version| {
        let about = "every keyword, and clients that leave, under the server's checks of its memory";
        let steps = vec![
            ask("layers own-memory;layers dirty;show stat"),
            SessionStep::LeaveAtEveryCall(Socket::Cli, "show stat;layers reserve".to_owned()),
            SessionStep::LeaveAtEveryCall(Socket::Cli, "show table shop".to_owned()),
            SessionStep::EveryKeyword { complete: true },
        ];
        with(session(format!("memory/{name}"), about, steps), |session| {
            session.arguments = option;
            session.configuration = SMALL;
            session.since = since;
        })
        .unordered()
    };
    let perhaps = |command: &str| SessionStep::Attempt(Socket::Cli, command.to_owned());
    let commands =
        ["layers own-memory", "show stat", "show info;layers reserve", "show table shop", "show sess all"];
    let steps = (0..8).flat_map(|_| commands).map(perhaps).collect();
    let failing =
        session("memory/fail", "allocations that fail now and then: what has begun is released", steps);
    vec![
        // Whatever is allocated reads as this byte: svcctx and the storage area must have been cleared.
        checked("poison", &["-dM80"], super::OLDEST),
        checked("integrity", &["-dMno-merge,cold-first,integrity"], CONTEXTS),
        checked("use-after-free", &["-dMuaf"], USE_AFTER_FREE),
        with(failing, |session| {
            session.configuration = FAILING;
            session.arguments = &["-dMfail"];
            session.since = CONTEXTS;
        })
        .unordered(),
    ]
}
