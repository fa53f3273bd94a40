//! Playing a session on a real HAProxy.

mod acting;
mod again;
mod meanwhile;
mod sweep;
mod trials;
mod tried;
mod whole;

use std::sync::Arc;

use layers_trace::Writer;
use rustix::process::Signal;

use super::Scenario;
use super::mishap::Mishap;
use super::player::{Recording, Running, SessionPlayer};
use super::session::SessionStep;
use crate::deadline::Deadline;
use crate::history::End;
use crate::rules::Trouble;
use crate::server::haproxy::{HaproxyError, HaproxyServer, ServeHaproxy};
use crate::server::process::Process;
use acting::{Acting, BUFFERS};

/// Records of a session's trace: 8 MiB of address space, touched as it fills.
const CAPACITY: u64 = 1 << 17;
/// The same of one in which something is tried of every command.
const CAPACITY_OF_TRIALS: u64 = 1 << 20;

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

/// Keywords without an answer, each of which ends a server, after which no more are looked for.
const MOST_SILENT: usize = 4;

impl SessionPlayer<'_> {
    /// Plays it once. A keyword that ends a step for every keyword is named, and the step is played again without it, in a new
    /// server: those behind it are called, too.
    pub fn play(&self, scenario: &Scenario) -> Result<Recording, HaproxyError> {
        let mut silent = Vec::new();
        let (mut all, mut stuck) = self.play_without(scenario, &silent)?;
        while let Some(words) = stuck.filter(|_| silent.len() < MOST_SILENT) {
            silent.push(words);
            let (next, again) = self.play_without(scenario, &silent)?;
            stuck = again;
            all.add(next);
        }
        Ok(all)
    }

    /// Plays it once without these keywords. Returns the one that has had no answer, too.
    fn play_without(
        &self,
        scenario: &Scenario,
        silent: &[String],
    ) -> Result<(Recording, Option<String>), HaproxyError> {
        let Some(session) = &scenario.session else {
            return Err(std::io::Error::other(format!("`{}` is a scenario of nbdkit", scenario.name)).into());
        };
        let tries = session.steps.iter().any(|step| matches!(step, SessionStep::Try(..)));
        let configuration = session.configuration.replace(BUFFERS, session.buffers);
        let serve = ServeHaproxy {
            scenario: &scenario.name,
            configuration: &configuration,
            users: None,
            modules: &[],
            arguments: session.arguments,
            start: scenario.start,
            load: session.load,
            capacity: self.room.unwrap_or(if tries { CAPACITY_OF_TRIALS } else { CAPACITY }),
            keep: self.keep,
        };
        let mut server = self.server.start(&serve)?;
        let mut acting = Acting::new(&mut server, (self.server, session), self.timeout, silent);
        let played = acting.perform(scenario, session);
        let deadline = acting.deadline;
        let stuck = acting.take_stuck().filter(|_| !deadline.passed());
        let departed = played.is_err().then(|| acting.depart()).flatten();
        let recording = self.finish(&mut server, played, departed, deadline);
        server.save_trace()?;
        Ok((recording, stuck))
    }
}

impl Recording {
    /// Takes in what the rest of it has shown in another server: what is broken there, and what kept it from going as planned.
    fn add(&mut self, other: Recording) {
        for result in other.judgement.results {
            let mut own = self.judgement.results.iter_mut().filter(|own| own.rule.id == result.rule.id);
            if let Some(own) = own.next().filter(|_| result.broken > 0) {
                own.exercised += result.exercised;
                own.broken += result.broken;
                own.findings.extend(result.findings);
            }
        }
        let is_crash =
            |trouble: &Trouble| matches!(trouble, Trouble::Killed(signal) if *signal != libc::SIGKILL);
        self.judgement.troubles.extend(other.judgement.troubles.into_iter().filter(is_crash));
        for mishap in other.mishaps {
            match (self.mishaps.first_mut(), mishap) {
                (Some(Mishap::Hang { doing }), Mishap::Hang { doing: also }) => {
                    doing.push_str(&format!("; in a new server without it: {also}"));
                }
                (_, mishap) => self.mishaps.push(mishap),
            }
        }
    }
}
