//! Playing one case: a server of its own, a script step by step, every answer held against the model of the disk.

use std::path::Path;
use std::time::{Duration, Instant};

use layers_trace::{Event, Probe, Reader};
use rustix::process::Signal;

use super::clients::Clients;
use super::evidence::Evidence;
use super::in_flight::{in_flight, running};
use super::played::{Played, Terms, Trouble};
use super::resource_usage::{self, Usage};
use super::sanitizers;
use super::stop::{Stop, Symptom, Wrong};
use crate::campaign::event_budget::Events;
use crate::campaign::halt::{Halt, Limit};
use crate::conform::is_cut;
use crate::deadline::Deadline;
use crate::history::End;
use crate::rules::{CallRef, Trouble as RecordingTrouble, judge};
use crate::run::Start;
use crate::run::stack::Stack;
use crate::server::copies::Copies;
use crate::server::nbdkit::{Conditions, Nbdkit, Serve, Server, ServerError};
use crate::server::process::Woken;
use crate::server::shortage::{few_threads, no_room, shortage};
use crate::validate::checks::check::CasePlan;
use crate::validate::script::op::Op;
use crate::validate::subject::module_file;
use crate::validate::subject::same_files::Files;

/// Records of a case's trace: 256 MiB of address space, touched as it fills. A filter that makes many small requests of
/// a large one fills a quarter of it.
pub(in crate::validate) const CAPACITY: u64 = 1 << 22;
/// How long a server may take to die when its case has gone astray.
const GRACE: Duration = Duration::from_secs(2);

/// How long a server that has closed a connection may take to be gone, if it is about to go.
const LEAVING: Duration = Duration::from_millis(200);

/// How long a server may take to end while a request is tried again and again.
const AWAKE: Duration = Duration::from_secs(4);

/// A case that has taken longer is slow.
const QUICK: Duration = Duration::from_millis(300);

/// Plays cases.
#[derive(Clone, Copy, Debug)]
pub(in crate::validate) struct Bench<'a> {
    /// The server.
    pub(in crate::validate) nbdkit: &'a Nbdkit,
    /// The files of the subject, as they were when the run began.
    pub(in crate::validate) files: &'a Files,
    /// For one step of a case.
    pub(in crate::validate) timeout: Duration,
    /// For all cases together.
    pub(in crate::validate) limit: Limit,
    /// Records for which the trace of a case has room.
    pub(in crate::validate) room: u64,
    /// What is part of a case.
    pub(in crate::validate) terms: Terms,
}

impl Bench<'_> {
    /// Plays one case.
    pub(in crate::validate) fn play(
        &self,
        name: &str,
        stack: &Stack,
        plan: &CasePlan,
    ) -> Result<Played, ServerError> {
        let copies = Copies::of(stack, plan.start == Start::Daemon)?;
        let stack = copies.as_ref().map_or(stack, |(copied, _)| copied);
        let deadline = Deadline::after(self.limit.of(self.timeout));
        let start = || -> Result<Server, ServerError> {
            let server = self.nbdkit.start(&Serve {
                stack,
                run: self.nbdkit.describe(name, stack, plan.start, true),
                capacity: self.room,
                keep: None,
                cpu: None,
                command: None,
                conditions: Conditions {
                    pauses: plan.conditions.pauses.map(|number| number ^ self.terms.seed << 32),
                    ..plan.conditions.under(self.terms.under)
                },
            })?;
            // What looks at memory asks for much of its own.
            if self.terms.under.is_none() {
                resource_usage::limit(server.process.pid(), self.terms.memory);
            }
            Ok(server)
        };
        let mut server = start()?;
        let usage = Usage::watch(&server, self.terms.memory);
        let mut run = Run {
            plan,
            timeout: self.timeout,
            limit: self.limit,
            deadline,
            stop: None,
            judged: false,
            trouble: None,
            served: false,
            in_flight: Vec::new(),
            start: &start,
            before: Events::from([]),
        };
        let clients = run.go(&mut server, self.terms.seed)?;
        let (answers, listed, evidence) = clients
            .map_or((None, Vec::new(), Evidence::default()), |clients| {
                (clients.first, clients.listed, clients.evidence)
            });
        let evidence = Evidence { cases: 1, ..evidence };
        let end = run.finish(&mut server);
        let peak = usage.finish();
        if let Some(bytes) = peak.excess {
            run.trouble = Some(Trouble::Memory(bytes));
        }
        let children = server.left_behind(Deadline::after(Duration::from_millis(300)));
        let floods = server.process.floods();
        server.kill();
        let Run { mut stop, judged, mut trouble, served, in_flight, before, .. } = run;
        let (judgement, events): (_, Events) = match server.trace() {
            Some(trace) => {
                let reader = Reader::of(&trace);
                (judge(&reader, crate::validate::module_rules()), reader.events().flatten().collect())
            }
            None => return Err(std::io::Error::other("the trace is gone").into()),
        };
        // Of a server that is stuck there is no end to record, which is no fault of the recording.
        let stuck = trouble.is_some();
        let incomplete = judgement
            .troubles
            .iter()
            .find(|found| found.is_of_recording() && !(stuck && matches!(found, RecordingTrouble::NoEnd)));
        let incomplete = incomplete.map(ToString::to_string);
        if let (None, true, Some(End::Exited(code)), None) = (&trouble, served, end, &incomplete)
            && !running(&events).is_empty()
        {
            // Told to end, it would have come back from every call first.
            trouble = Some(Trouble::Exit(code));
        }
        let reached = || self.limit.reached();
        let halt = self.files.changed().or_else(reached).filter(|halt| match halt {
            Halt::Signal(_) | Halt::Refused(_) | Halt::Changed => true,
            Halt::Time(_) => matches!(trouble, Some(Trouble::Hang(_))),
            // It came to its own end.
            Halt::Found => false,
        });
        let (stderr, complaint) = (stable(&server.process.stderr()), stable(&server.complaint()));
        let modules = self.nbdkit.modules(stack);
        let reported = self.terms.under.map(|_| sanitizers::of(&server.reports(), &stderr, &modules));
        if matches!(trouble, Some(Trouble::Hang(_))) && is_cut(&judgement.troubles) {
            // What it did after the last record is not told: it may have been at work all the time.
            trouble = None;
        }
        let did_not_start = !served && plan.start.serves();
        if trouble.is_some() || stop.is_some() || did_not_start {
            let run = server.socket().and_then(Path::parent);
            let unheard = || few_threads().filter(|_| plan.start == Start::Daemon);
            let of_limit = shortage(&stderr).map(|line| format!("{line} (see ulimit)"));
            let heard = || no_room(&stderr, run?).map(str::to_owned);
            // What is on a disk is right or wrong however little there is.
            let is_of_bytes = matches!(&stop, Some((_, Stop::Wrong(wrong))) if wrong.symptom.is_of_bytes());
            let seen = || peak.shortage.clone().filter(|_| !is_of_bytes);
            let short = of_limit.or_else(heard).or_else(unheard).or_else(seen);
            let no_more = |what| format!("the system had no more for the server: {what}");
            trouble = short.map(no_more).map(Trouble::Environment).or(trouble);
        }
        if trouble == Some(Trouble::Exit(0)) && unloaded(&events) {
            trouble = None;
            stop = stop.map(|(index, stop)| match stop {
                Stop::Wrong(_) => (index, stop),
                _ => (index, Stop::Ended),
            });
        }
        Ok(Played {
            stop,
            judged,
            trouble,
            served,
            end,
            incomplete,
            judgement,
            events,
            before,
            in_flight,
            answers,
            listed,
            evidence,
            complaint,
            stderr,
            children,
            stays_mapped: self.nbdkit.targets(stack).iter().any(|(_, file)| module_file::stays_mapped(file)),
            floods,
            reported,
            halt,
            memory_was_seen: peak.was_seen,
        })
    }
}

/// What a server says, the same in every run: the directory in which the sh and eval plugins keep their scripts has another
/// name each time.
fn stable(said: &str) -> String {
    const MADE: &str = "/tmp/nbdkit";
    let mut parts = said.split(MADE);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let random = part.get(..6).filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let rest = random.and_then(|_| part.get(6..)).filter(|rest| rest.starts_with('/'));
        text += MADE;
        match rest {
            Some(rest) => text.extend(["XXXXXX", rest]),
            None => text += part,
        }
    }
    text
}

/// The server has unloaded its modules, as it does after nbdkit_shutdown and does not in the middle of exit(3).
fn unloaded(events: &[Event]) -> bool {
    events.iter().any(|event| event.probe() == Some(Probe::ThreadsLeft))
}

/// A case in progress.
struct Run<'a> {
    plan: &'a CasePlan,
    /// For each step, and for the end.
    timeout: Duration,
    limit: Limit,
    deadline: Deadline,
    stop: Option<(usize, Stop)>,
    judged: bool,
    trouble: Option<Trouble>,
    served: bool,
    in_flight: Vec<CallRef>,
    /// Starts the same server once more.
    start: &'a dyn Fn() -> Result<Server, ServerError>,
    /// The trace of the server that was started before this one.
    before: Events,
}

impl Run<'_> {
    /// From the first wait to the last client's goodbye.
    fn go(&mut self, server: &mut Server, seed: u64) -> Result<Option<Clients>, ServerError> {
        if !self.plan.start.serves() || !self.gets_ready(server) {
            return Ok(None);
        }
        let mut clients = Clients::new(self.timeout, self.limit, seed);
        let begun = Instant::now();
        for (index, op) in self.plan.script.iter().enumerate() {
            if *op == Op::IfQuick && begun.elapsed() > QUICK {
                break;
            }
            self.judged |= *op == Op::Judge;
            clients.begin_step();
            let step = match op {
                Op::Kill | Op::Restart => self.restart(server, &mut clients, op)?,
                // Something is refused in every other open.
                Op::Connect(..) if self.plan.conditions.fails.is_some() => {
                    clients.step(server, op).or_else(|_| clients.step(server, op))
                }
                _ => clients.step(server, op).map_err(|stop| self.of_what_was_left(stop)),
            };
            if let Err(stop) = step {
                self.stop = Some((index, stop));
                break;
            }
        }
        if let Some((_, Stop::NoAnswer(what))) = &self.stop {
            self.trouble = Some(Trouble::Hang(format!("no answer to `{what}`")));
        } else if let Some((_, Stop::Slow(_))) = &self.stop {
            clients.hang_up();
        } else {
            clients.begin_step();
            clients.leave(server);
        }
        // However long the script took, the end has its own time.
        self.deadline = Deadline::after(self.limit.of(self.timeout));
        Ok(Some(clients))
    }

    /// Waits until it serves.
    fn gets_ready(&mut self, server: &mut Server) -> bool {
        let woken = server.wait_ready(self.deadline);
        self.served = woken == Woken::Happened;
        if woken == Woken::Late {
            self.trouble = Some(Trouble::Hang("it does not get ready to serve".to_owned()));
        }
        self.served
    }

    /// Ends the server, in one way or the other, and starts the next one on what it has left behind.
    fn restart(
        &mut self,
        server: &mut Server,
        clients: &mut Clients,
        op: &Op,
    ) -> Result<Result<(), Stop>, ServerError> {
        clients.remember();
        if *op == Op::Kill {
            // Nobody of the run is left who could write anything.
            server.kill_others();
            server.process.kill();
            clients.hang_up();
        } else {
            clients.leave(server);
            let deadline = Deadline::after(self.limit.of(self.timeout));
            let has_closed = server.wait_until(deadline, |seen| seen.open() == 0) == Woken::Happened;
            if !has_closed || server.signal(Signal::TERM).is_err() || server.wait_for_end(deadline).is_none()
            {
                return Ok(Err(Stop::NoAnswer(op.to_string())));
            }
        }
        if let Some(trace) = server.trace() {
            self.before = Reader::of(&trace).events().flatten().collect();
        }
        *server = (self.start)()?;
        self.deadline = Deadline::after(self.limit.of(self.timeout));
        Ok(if self.gets_ready(server) { Ok(()) } else { Err(Stop::Gone(op.to_string())) })
    }

    /// Bytes that are wrong in a server that was started again were not kept: nothing else follows from that.
    fn of_what_was_left(&self, stop: Stop) -> Stop {
        match stop {
            Stop::Wrong(wrong)
                if !self.before.is_empty() && matches!(wrong.symptom, Symptom::Data { .. }) =>
            {
                let expected = wrong.expected + ", as the server before this one has promised";
                Stop::Wrong(Wrong { expected, symptom: Symptom::Other, ..wrong })
            }
            other => other,
        }
    }

    /// Ends the server, and says how that went.
    fn finish(&mut self, server: &mut Server) -> Option<End> {
        if self.trouble.is_some() {
            if let Some(trace) = server.trace() {
                let events: Vec<Event> = Reader::of(&trace).events().flatten().collect();
                self.in_flight = in_flight(&events);
            }
            server.say_where();
            // A server that only waits for a script comes to its end without it, and takes its files with it.
            server.kill_others();
            let _ = server.signal(Signal::TERM);
            return server.wait_for_end(Deadline::after(GRACE.min(self.deadline.left().max(GRACE))));
        }
        let mut asked = false;
        let slow = match &self.stop {
            Some((_, Stop::Slow(what))) => Some(what.clone()),
            _ => None,
        };
        if self.served && slow.is_some() {
            asked = server.process.end().is_none() && server.signal(Signal::TERM).is_ok();
        } else if self.served {
            let closed = server.wait_until(self.deadline, |seen| seen.open() == 0);
            if closed == Woken::Late {
                self.trouble =
                    Some(Trouble::Hang("handles stay open after their clients have gone".to_owned()));
            }
            if matches!(self.stop, Some((_, Stop::Gone(_)))) {
                let _ = server.wait_for_end(Deadline::after(LEAVING));
            }
            asked = server.process.end().is_none() && server.signal(Signal::TERM).is_ok();
        }
        // Whoever sleeps between two tries is woken up by the end.
        let patience = if slow.is_some() { self.timeout.min(AWAKE) } else { self.deadline.left() };
        let end = server.wait_for_end(Deadline::after(patience));
        let before = self.trouble.take();
        self.trouble = match end {
            None if server.process.end().is_some() => before,
            None => before.or_else(|| {
                let behind = slow.map(|what| format!(", and there is no answer to `{what}`"));
                Some(Trouble::Hang("it does not come to its end".to_owned() + &behind.unwrap_or_default()))
            }),
            Some(End::Killed(libc::SIGKILL)) => Some(Trouble::Lost),
            Some(End::Killed(signal)) if signal != libc::SIGTERM => Some(Trouble::Crash(signal)),
            Some(End::Exited(code)) if self.served && !asked => Some(Trouble::Exit(code)),
            Some(End::Exited(code)) if self.served && code != 0 => Some(Trouble::Exit(code)),
            Some(_) => before,
        };
        end
    }
}

#[cfg(test)]
mod tests {
    use super::stable;

    #[test]
    fn what_a_server_says_is_the_same_in_every_run() {
        assert_eq!(
            stable("error: /tmp/nbdkit3t5ZqW/trim: no trim"),
            "error: /tmp/nbdkitXXXXXX/trim: no trim"
        );
        assert_eq!(stable("/tmp/nbdkitab/x /tmp/nbdkit"), "/tmp/nbdkitab/x /tmp/nbdkit");
    }
}
