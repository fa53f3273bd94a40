//! The pieces that sessions are written with: configurations and steps.

use super::super::super::Scenario;
use super::super::super::session::{Session, SessionStep, Socket};
use crate::run::stack::Stack;
use crate::server::haproxy::Loading;
use crate::version::Version;

/// What most run.
pub(super) const PLAIN: &str = include_str!("../../../../../fixtures/haproxy/plain.cfg");

/// Much to show, in small pieces: a handler stops after the same few calls each time, when nobody reads.
pub(super) const SMALL: &str = include_str!("../../../../../fixtures/haproxy/small.cfg");

/// With the harness's own services, which only its instrument provides.
pub(super) const SERVICE: &str = include_str!("../../../../../fixtures/haproxy/service.cfg");

/// With a cache, and a server behind it.
pub(super) const CACHED: &str = include_str!("../../../../../fixtures/haproxy/cached.cfg");

/// The oldest server that sessions are for, and the first with contexts.
pub(super) const OLDEST: Version = Version(2, 2, 0);

pub(super) const CONTEXTS: Version = Version(2, 6, 0);

pub(super) fn session(name: impl Into<String>, about: &'static str, steps: Vec<SessionStep>) -> Scenario {
    let session = Session {
        configuration: PLAIN,
        buffers: "",
        arguments: &[],
        load: Loading::Preload,
        since: OLDEST,
        steps,
        dies: false,
    };
    Scenario { session: Some(session), ..Scenario::new(name, about, Stack::reference(0)) }
}

/// With something else than the plain session has.
pub(super) fn with(mut scenario: Scenario, change: impl FnOnce(&mut Session)) -> Scenario {
    if let Some(session) = &mut scenario.session {
        change(session);
    }
    scenario
}

pub(super) fn send(client: u32, text: &str) -> SessionStep {
    SessionStep::Send(client, text.to_owned())
}

/// A keyword of the harness's own that waits, and never looks at its client.
pub(super) fn waiting(command: &str) -> Vec<SessionStep> {
    vec![SessionStep::Connect(1, Socket::Cli), send(1, &format!("{command}\n")), SessionStep::Handled(1)]
}
