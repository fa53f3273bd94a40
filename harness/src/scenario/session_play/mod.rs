//! Playing a session on a real HAProxy.

mod acting;
mod sweep;

use std::sync::Arc;

use layers_trace::Writer;
use rustix::process::Signal;

use super::Scenario;
use super::player::{Recording, Running, SessionPlayer};
use crate::deadline::Deadline;
use crate::history::End;
use crate::server::haproxy::{HaproxyError, HaproxyServer, ServeHaproxy};
use crate::server::process::Process;
use acting::Acting;
#[cfg(feature = "fuzzing")]
pub(crate) use acting::reloads;

/// Records of a session's trace: 8 MiB of address space, touched as it fills.
const CAPACITY: u64 = 1 << 17;

impl Running for HaproxyServer {
    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn trace(&self) -> Option<Arc<Writer>> {
        HaproxyServer::trace(self)
    }

    fn signal(&self, signal: Signal) -> std::io::Result<()> {
        HaproxyServer::signal(self, signal)
    }

    fn wait_for_end(&mut self, deadline: Deadline) -> Option<End> {
        HaproxyServer::wait_for_end(self, deadline)
    }
}

impl SessionPlayer<'_> {
    /// Plays it once.
    pub fn play(&self, scenario: &Scenario) -> Result<Recording, HaproxyError> {
        let Some(session) = &scenario.session else {
            return Err(std::io::Error::other(format!("`{}` is a scenario of nbdkit", scenario.name)).into());
        };
        let deadline = Deadline::after(self.timeout);
        let serve = ServeHaproxy {
            scenario: &scenario.name,
            configuration: session.configuration,
            users: None,
            modules: &[],
            arguments: session.arguments,
            start: scenario.start,
            load: session.load,
            capacity: self.room.unwrap_or(CAPACITY),
            keep: self.keep,
        };
        let mut server = self.server.start(&serve)?;
        let mut acting = Acting::new(&mut server, deadline);
        let played = acting.perform(scenario, session);
        let departed = played.is_err().then(|| acting.depart()).flatten();
        let recording = self.finish(&mut server, played, departed, deadline);
        server.save_trace()?;
        Ok(recording)
    }
}
