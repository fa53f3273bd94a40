//! The other ways in which the instrument gets into the server.

use super::super::super::Scenario;
use super::super::super::session::ask;
use super::{session, with};
use crate::server::haproxy::Loading;
use crate::version::Version;

/// The first version with one Lua state for each thread.
const PER_THREAD: Version = Version(2, 4, 0);

pub(super) fn all() -> Vec<Scenario> {
    let one = |name: &str, load: Loading| {
        let commands = ["layers own-memory;show stat;layers reserve", "show info"].map(ask).into();
        with(session(format!("load/{name}"), "the instrument as a Lua module", commands), |session| {
            session.load = load;
        })
    };
    vec![
        one("lua", Loading::Lua),
        with(one("lua-per-thread", Loading::LuaPerThread), |session| session.since = PER_THREAD),
    ]
}
