//! Playing a session on a real HAProxy.

mod acting;
mod sweep;

use std::path::Path;
use std::time::Duration;

use layers_trace::Reader;
use rustix::process::Signal;

use super::Scenario;
use super::play::{Mishap, Recording};
use crate::deadline::Deadline;
use crate::rules::{Rule, judge};
use crate::server::haproxy::{Haproxy, HaproxyError, Serve, Server};
use acting::Acting;

/// Records of a session's trace: 8 MiB of address space, touched as it fills.
const CAPACITY: u64 = 1 << 17;
/// How long a server may take to die when its session has gone astray.
const GRACE: Duration = Duration::from_secs(2);

/// Plays sessions on one server.
#[derive(Clone, Debug)]
pub struct SessionPlayer<'a> {
    /// The server.
    pub server: &'a Haproxy,
    /// Judged by these.
    pub rules: Vec<&'static Rule>,
    /// For a whole run.
    pub timeout: Duration,
    /// Hand out all events, too.
    pub keep_events: bool,
    /// Keep the trace in this file.
    pub keep: Option<&'a Path>,
}

impl<'a> SessionPlayer<'a> {
    /// Judges by every rule of HAProxy's; a run may take ten seconds.
    pub fn new(server: &'a Haproxy) -> SessionPlayer<'a> {
        let rules = crate::rules::of(crate::server::Which::Haproxy).collect();
        SessionPlayer { server, rules, timeout: Duration::from_secs(10), keep_events: false, keep: None }
    }

    /// Plays it once.
    pub fn play(&self, scenario: &Scenario) -> Result<Recording, HaproxyError> {
        let Some(session) = &scenario.session else {
            return Err(std::io::Error::other(format!("`{}` is a scenario of nbdkit", scenario.name)).into());
        };
        let deadline = Deadline::after(self.timeout);
        let serve = Serve {
            scenario: &scenario.name,
            configuration: session.configuration,
            arguments: session.arguments,
            start: scenario.start,
            load: session.load,
            capacity: CAPACITY,
            keep: self.keep,
        };
        let mut server = self.server.start(&serve)?;
        let mut mishaps = Vec::new();
        let mut acting = Acting::new(&mut server, deadline);
        if let Err(mishap) = acting.perform(scenario, session) {
            mishaps.push(mishap);
        }
        let end = if mishaps.is_empty() {
            let end = server.wait_for_end(deadline);
            let hangs = end.is_none() && server.process.end().is_none();
            mishaps.extend(hangs.then(|| Mishap::Hang { doing: "it does not come to its end".to_owned() }));
            end
        } else {
            // It may have crashed, which is for the trace to tell; if not, it is no longer needed.
            let _ = server.signal(Signal::TERM);
            server.wait_for_end(Deadline::after(GRACE))
        };
        server.process.kill();
        Ok(self.recorded(&server, end, mishaps))
    }

    fn recorded(&self, server: &Server, end: Option<crate::history::End>, mishaps: Vec<Mishap>) -> Recording {
        let (stdout, stderr) = (server.process.stdout(), server.process.stderr());
        let (judgement, events) = match server.trace() {
            Some(trace) => {
                let reader = Reader::of(&trace);
                let events = if self.keep_events { reader.events().flatten().collect() } else { Vec::new() };
                (judge(&reader, self.rules.iter().copied()), events)
            }
            None => (super::play::judge_nothing(), Vec::new()),
        };
        Recording { judgement, mishaps, end, events, stdout, stderr }
    }
}
