//! What playing a scenario has in common on either server: by which rules it is judged, how long it may take, how it comes
//! to its end, and what is kept of it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use layers_trace::{Event, Reader, Writer};
use rustix::process::Signal;

use super::mishap::Mishap;
use super::patience::{DEPARTURE, Patience};
use crate::deadline::Deadline;
use crate::history::End;
use crate::rules::{Judge, Judgement, Rule, judge, of};
use crate::server::haproxy::Haproxy;
use crate::server::nbdkit::Nbdkit;
use crate::server::process::Process;
use crate::version::Version;
use crate::version::Which;

/// How long a server may take for its closes, and then to die, when its scenario has gone astray.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// What is waited for when everybody has left.
const THE_END: &str = "it does not come to its end";

/// What a run left behind.
#[derive(Debug)]
pub struct Recording {
    /// What the rules say of it.
    pub judgement: Judgement,
    /// What kept it from going as planned.
    pub mishaps: Vec<Mishap>,
    /// The position in the trace at which that happened; `None` where what is missing is owed when everybody has left,
    /// which is for the rules to name.
    pub departed: Option<u32>,
    /// How the server ended.
    pub end: Option<End>,
    /// All events, where they were asked for.
    pub events: Vec<Event>,
    /// What the server wrote.
    pub stdout: String,
    /// What the server wrote.
    pub stderr: String,
}

/// A server that scenarios are played on.
pub trait Stage {
    /// Which it is: its rules judge.
    const WHICH: Which;
}

impl Stage for Nbdkit {
    const WHICH: Which = Which::Nbdkit;
}

impl Stage for Haproxy {
    const WHICH: Which = Which::Haproxy;
}

/// Plays scenarios on one server.
#[derive(Clone, Debug)]
pub struct Player<'a, S = Nbdkit> {
    /// The server.
    pub server: &'a S,
    /// Judged by these.
    pub rules: Vec<&'static Rule>,
    /// For a whole run.
    pub timeout: Duration,
    /// Hand out all events, too.
    pub keep_events: bool,
    /// Keep the trace in this file.
    pub keep: Option<&'a Path>,
    /// What need not be waited for in full, because it was in vain before.
    pub patience: Option<&'a Patience>,
    /// Records for which its trace has room, where it is not as many as usual.
    pub room: Option<u64>,
}

/// Plays sessions.
pub type SessionPlayer<'a> = Player<'a, Haproxy>;

/// A server in a run.
pub(super) trait Running {
    fn process(&mut self) -> &mut Process;
    fn trace(&self) -> Option<Arc<Writer>>;
    fn signal(&self, signal: Signal) -> io::Result<()>;
    fn wait_for_end(&mut self, deadline: Deadline) -> Option<End>;
}

impl<'a, S: Stage> Player<'a, S> {
    /// Judges by every rule of this server's; a run may take ten seconds.
    pub fn new(server: &'a S) -> Player<'a, S> {
        let rules = of(S::WHICH).collect();
        Player {
            server,
            rules,
            timeout: Duration::from_secs(10),
            keep_events: false,
            keep: None,
            patience: None,
            room: None,
        }
    }

    /// Waits for the end of a server that has played, or ends it if it went astray.
    pub(super) fn finish(
        &self,
        server: &mut impl Running,
        played: Result<(), Mishap>,
        departed: Option<u32>,
        deadline: Deadline,
    ) -> Recording {
        let mut mishaps: Vec<Mishap> = played.err().into_iter().collect();
        let end = if mishaps.is_empty() {
            let end = server.wait_for_end(self.until(THE_END, deadline));
            let hangs = end.is_none() && server.process().end().is_none();
            mishaps.extend(hangs.then(|| Mishap::Hang { doing: THE_END.to_owned() }));
            end
        } else {
            // It may have crashed, which is for the trace to tell; if not, it is no longer needed.
            let _ = server.signal(Signal::TERM);
            let end = server.wait_for_end(self.until(DEPARTURE, Deadline::after(GRACE)));
            if end.is_none() {
                self.lose(DEPARTURE);
            }
            end
        };
        server.process().kill();
        let (judgement, events) = match server.trace() {
            Some(trace) => self.judged(&trace),
            None => (Judge::new([], Version(0, 0, 0)).finish(), Vec::new()),
        };
        let (stdout, stderr) = (server.process().stdout(), server.process().stderr());
        Recording { judgement, mishaps, departed, end, events, stdout, stderr }
    }

    /// When a wait for this ends that would else end at `deadline`.
    pub(super) fn until(&self, wait: &str, deadline: Deadline) -> Deadline {
        self.patience.map_or(deadline, |patience| patience.until(wait, deadline))
    }

    /// A wait for this was in vain.
    pub(super) fn lose(&self, wait: &str) {
        if let Some(patience) = self.patience {
            patience.lose(wait);
        }
    }

    fn judged(&self, trace: &Arc<Writer>) -> (Judgement, Vec<Event>) {
        let reader = Reader::of(trace);
        let events = if self.keep_events { reader.events().flatten().collect() } else { Vec::new() };
        (judge(&reader, self.rules.iter().copied()), events)
    }
}
