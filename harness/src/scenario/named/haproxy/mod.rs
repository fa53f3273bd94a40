//! Sessions with HAProxy: a family is a file; each function there makes one scenario or the members of one.

mod commands;
mod ending;
mod http;
mod leaving;
mod loading;
mod masters;
mod memory;
mod own;

use super::super::Scenario;
use super::super::session::{Session, SessionStep, Socket};
use crate::server::haproxy::Load;
use crate::stack::Stack;
use crate::version::Version;

pub use leaving::{DUMPS, NOT_SWEPT};

/// What most run.
const PLAIN: &str = include_str!("../../../../../fixtures/haproxy/plain.cfg");
/// Much to show, in small pieces: a handler stops after the same few calls each time, when nobody reads.
const SMALL: &str = include_str!("../../../../../fixtures/haproxy/small.cfg");

/// With the harness's own services, which only its instrument provides.
const SERVICE: &str = include_str!("../../../../../fixtures/haproxy/service.cfg");
/// With a cache, and a server behind it.
const CACHED: &str = include_str!("../../../../../fixtures/haproxy/cached.cfg");

/// The oldest server that sessions are for, and the first with contexts.
const OLDEST: Version = Version(2, 2, 0);
const CONTEXTS: Version = Version(2, 6, 0);

fn session(name: impl Into<String>, about: &'static str, steps: Vec<SessionStep>) -> Scenario {
    let session = Session {
        configuration: PLAIN,
        arguments: &[],
        load: Load::Preload,
        since: OLDEST,
        steps,
        dies: false,
    };
    Scenario { session: Some(session), ..Scenario::new(name, about, Stack::reference(0)) }
}

/// With something else than the plain session has.
fn with(mut scenario: Scenario, change: impl FnOnce(&mut Session)) -> Scenario {
    if let Some(session) = &mut scenario.session {
        change(session);
    }
    scenario
}

fn send(client: u32, text: &str) -> SessionStep {
    SessionStep::Send(client, text.to_owned())
}

pub(super) fn all() -> Vec<Scenario> {
    [
        commands::all(),
        leaving::all(),
        own::all(),
        loading::all(),
        masters::all(),
        http::all(),
        ending::all(),
        memory::all(),
    ]
    .concat()
}

/// A keyword of the harness's own that waits, and never looks at its client.
fn waiting(command: &str) -> Vec<SessionStep> {
    vec![SessionStep::Connect(1, Socket::Cli), send(1, &format!("{command}\n")), SessionStep::Handled(1)]
}
