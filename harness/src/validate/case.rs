//! Playing one case: a server of its own, a script step by step, every answer held against the model of the disk.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use layers_trace::{Event, Operation, Probe, Reader};
use rustix::process::Signal;

use super::check::{Outcome, Plan};
use super::clients::Clients;
use super::evidence::Evidence;
use super::image;
use super::op::Op;
use super::origin::Origin;
use super::processes;
use super::reports::{self, Reported};
use super::usage::{self, Usage};
use crate::conform::is_cut;
use crate::deadline::Deadline;
use crate::halt::{Halt, Limit};
use crate::history::End;
use crate::kept::Events;
use crate::rules::{CallRef, Judgement, Trouble as RecordingTrouble, judge};
use crate::run::Start;
use crate::server::copies::Copies;
use crate::server::nbdkit::{Conditions, Nbdkit, Serve, Server, ServerError, Under};
use crate::server::process::Woken;
use crate::server::shortage::{few_threads, no_room, shortage};
use crate::stack::Stack;
use crate::visible::visible;

/// Records of a case's trace: 256 MiB of address space, touched as it fills. A filter that makes many small requests of
/// a large one fills a quarter of it.
pub(super) const CAPACITY: u64 = 1 << 22;
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
pub(super) struct Bench<'a> {
    /// The server.
    pub(super) nbdkit: &'a Nbdkit,
    /// For one step of a case.
    pub(super) timeout: Duration,
    /// For all cases together.
    pub(super) limit: Limit,
    /// Records for which the trace of a case has room.
    pub(super) room: u64,
    /// What is part of a case.
    pub(super) terms: Terms,
}

/// What every case of a run has in common, and a file keeps with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// The number that written data begins from.
    pub(super) seed: u64,
    /// Bytes of memory that the server may use.
    pub(super) memory: u64,
    /// What looks at the server.
    pub(super) under: Option<Under>,
}

/// Why a script went no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// An answer is wrong.
    Wrong(Wrong),
    /// A request, or opening the export, was refused.
    Refused(Refusal),
    /// What a step asks for is nothing that this connection was told it may ask for, although the first one was; or what it
    /// has found is another check's business.
    Changed(String),
    /// The server has ended in good order, as a module may ask it to.
    Ended,
    /// No answer came before the deadline, to this.
    NoAnswer(String),
    /// No answer came soon, to this, which may take long.
    Slow(String),
    /// The server closed the connection, in the middle of this.
    Gone(String),
    /// What the server holds cannot be seen.
    Unmeasured,
    /// The system had no more threads or descriptors for the clients, at this.
    Short(String),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Wrong(wrong) => f.write_str(&wrong.actual),
            Stop::Refused(refusal) => f.write_str(&refusal.how),
            Stop::Changed(how) => f.write_str(how),
            Stop::Ended => f.write_str(ENDED),
            Stop::Unmeasured => f.write_str(UNMEASURED),
            Stop::Short(what) => write!(f, "the system had no more for the client (see ulimit): {what}"),
            Stop::NoAnswer(what) => write!(f, "no answer to `{what}`"),
            Stop::Slow(what) => write!(f, "no answer to `{what}` so soon"),
            Stop::Gone(what) => write!(f, "the connection ended at `{what}`"),
        }
    }
}

/// What is said where /proc does not show what a server holds.
const UNMEASURED: &str = "what the server holds cannot be seen in /proc";
/// What is said of a script that a module has cut short with nbdkit_shutdown.
const ENDED: &str = "the server has ended in good order, on a module's request";

/// What was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Which kind of thing.
    pub(super) asked: Asked,
    /// What exactly, and with which error.
    pub(super) how: String,
}

/// What a client may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To connect, or to open an export.
    Open,
    /// The list of exports.
    List,
    /// A request.
    Request(Operation),
    /// Anything else: a string that the protocol has no room for.
    Other,
}

/// What was expected of the last step, and what came instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// By the model.
    pub expected: String,
    /// By the subject.
    pub actual: String,
    /// Bytes of the disk that it is about.
    pub range: Option<(u64, u64)>,
    /// How it shows.
    pub(super) symptom: Symptom,
    /// Where wrong bytes come from.
    pub(super) origin: Option<Origin>,
}

/// How something wrong shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symptom {
    /// A byte reads wrongly; it was only read before, and nobody knows what it must be.
    Data {
        /// Nobody has written it.
        learnt: bool,
    },
    /// An extent says that it is zero, and a byte in it is not.
    ToldZero,
    /// A byte reads wrongly among many requests at once, and also where there is only one at a time.
    Alone,
    /// A client is refused.
    Refused(Asked),
    /// Otherwise.
    Other,
}

impl Wrong {
    /// About no bytes in particular.
    pub(super) fn new(expected: impl Into<String>, actual: impl Into<String>) -> Wrong {
        let (expected, actual) = (expected.into(), actual.into());
        Wrong {
            expected: visible(&expected).into_owned(),
            actual: visible(&actual).into_owned(),
            range: None,
            symptom: Symptom::Other,
            origin: None,
        }
    }
}

/// What a case left behind.
#[derive(Debug)]
pub(super) struct Played {
    /// Where and why the script stopped, if it did: index of the step.
    pub(super) stop: Option<(usize, Stop)>,
    /// It stopped behind `judge`.
    pub(super) judged: bool,
    /// What went wrong with the server as a process.
    pub(super) trouble: Option<Trouble>,
    /// It started to serve.
    pub(super) served: bool,
    /// How it ended.
    pub(super) end: Option<End>,
    /// Why the recording does not tell the whole story, if it does not.
    pub(super) incomplete: Option<String>,
    /// What the rules say.
    pub(super) judgement: Judgement,
    /// The whole trace; of several servers one after another, that of the last.
    pub(super) events: Events,
    /// The trace of the server that came before it, if one did.
    pub(super) before: Events,
    /// If it hangs, the calls in flight when that was found out.
    pub(super) in_flight: Vec<CallRef>,
    /// What the first connection was told.
    pub(super) answers: Option<super::clients::Answers>,
    /// What it listed.
    pub(super) listed: Vec<String>,
    /// How much was judged.
    pub(super) evidence: Evidence,
    /// Why it did not start, in its own words.
    pub(super) complaint: String,
    /// What it wrote to standard error.
    pub(super) stderr: String,
    /// Command lines of the processes that are left.
    pub(super) children: Vec<String>,
    /// Code of the subject is never unmapped.
    pub(super) stays_mapped: bool,
    /// It wrote more than there is room for.
    pub(super) floods: bool,
    /// What was said of its memory and threads by whoever looked at them.
    pub(super) reported: Option<Vec<Reported>>,
    /// What has ended the run before this case was over: nothing can be told from what did not come about in it.
    pub(super) halt: Option<Halt>,
    /// Somebody has looked at its memory.
    pub(super) memory_was_seen: bool,
}

/// What can go wrong with a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Killed by this signal, which nobody has sent.
    Crash(i32),
    /// It did not do this before the deadline.
    Hang(String),
    /// It ended by itself, with this status.
    Exit(i32),
    /// It used more memory than it may: so many bytes.
    Memory(u64),
    /// Somebody else killed it.
    Lost,
    /// The system had no more processes, threads or memory for it; this is how it told so.
    Shortage(String),
}

impl Bench<'_> {
    /// Plays one case.
    pub(super) fn play(&self, name: &str, stack: &Stack, plan: &Plan) -> Result<Played, ServerError> {
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
                usage::limit(server.process.pid(), self.terms.memory);
            }
            Ok(server)
        };
        let mut server = start()?;
        let usage = Usage::watch(server.process.pid(), server.run_id(), self.terms.memory);
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
                (judge(&reader, super::module_rules()), reader.events().flatten().collect())
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
            && !processes::running(&events).is_empty()
        {
            // Told to end, it would have come back from every call first.
            trouble = Some(Trouble::Exit(code));
        }
        let halt = self.limit.reached().filter(|halt| match halt {
            Halt::Signal(_) | Halt::Refused(_) => true,
            Halt::Time(_) => matches!(trouble, Some(Trouble::Hang(_))),
        });
        let (stderr, complaint) = (stable(&server.process.stderr()), stable(&server.complaint()));
        let modules = self.nbdkit.modules(stack);
        let reported = self.terms.under.map(|_| reports::of(&server.reports(), &stderr, &modules));
        if matches!(trouble, Some(Trouble::Hang(_))) && is_cut(&judgement.troubles) {
            // What it did after the last record is not told: it may have been at work all the time.
            trouble = None;
        }
        let did_not_start = !served && plan.start.serves();
        if trouble.is_some() || stop.is_some() || did_not_start {
            let run = server.socket().and_then(Path::parent);
            let unheard = || few_threads().filter(|_| plan.start == Start::Daemon);
            let heard = shortage(&stderr).or_else(|| no_room(&stderr, run?));
            trouble = heard.map(str::to_owned).or_else(unheard).map(Trouble::Shortage).or(trouble);
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
            stays_mapped: self.nbdkit.targets(stack).iter().any(|(_, file)| image::stays_mapped(file)),
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
    plan: &'a Plan,
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
                self.in_flight = processes::in_flight(&events);
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

/// How a server has ended.
pub(super) fn status(end: Option<End>) -> String {
    match end {
        Some(End::Exited(code)) => format!("it ends with status {code}"),
        Some(End::Killed(signal)) => format!("it is killed by signal {signal}"),
        None => "it does not end".to_owned(),
    }
}

/// What the plan's outcome says about how the server started and ended; only for cases without trouble.
pub(super) fn judge_outcome(plan: &Plan, played: &Played) -> Result<(), Wrong> {
    let said = || match played.stderr.lines().last() {
        Some(line) => format!(": {line}"),
        None => ", without a word".to_owned(),
    };
    let status = status(played.end);
    match plan.outcome {
        Outcome::Succeeds if played.end != Some(End::Exited(0)) => {
            Err(Wrong::new("it ends with status 0", status + &said()))
        }
        Outcome::Refuses if played.served => {
            Err(Wrong::new("the server refuses to start", "it starts, and serves"))
        }
        Outcome::Serves if !played.served => Err(Wrong::new("the server starts", status + &said())),
        _ => Ok(()),
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
