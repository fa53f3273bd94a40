//! The other ways in which the instrument gets into the server.

use super::super::super::Scenario;
use super::super::super::session::ask;
use super::{session, with};
use crate::server::haproxy::Load;
use crate::version::Version;

/// The first version with one Lua state for each thread.
const PER_THREAD: Version = Version(2, 4, 0);

pub(super) fn all() -> Vec<Scenario> {
    let one = |name: &str, load: Load| {
        let commands = ["layers own-memory;show stat;layers reserve", "show info"].map(ask).into();
        with(session(format!("load/{name}"), "the instrument as a Lua module", commands), |session| {
            session.load = load;
        })
    };
    vec![
        one("lua", Load::Lua),
        with(one("lua-per-thread", Load::LuaPerThread), |session| session.since = PER_THREAD),
    ]
}
