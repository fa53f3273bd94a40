//! What a case left behind, and how its server ended.

use layers_trace::Probe;

use super::evidence::Evidence;
use super::reports::Reported;
use super::stop::Stop;
use crate::campaign::event_budget::Events;
use crate::campaign::halt::Halt;
use crate::history::End;
use crate::rules::{CallRef, Judgement};
use crate::server::nbdkit::Under;

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
    pub(super) answers: Option<Answers>,
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
    /// What is around it has made it go wrong: the system had no more for it, or its files have changed. Says what.
    Environment(String),
}

/// How a server has ended.
pub(super) fn status(end: Option<End>) -> String {
    match end {
        Some(End::Exited(code)) => format!("it ends with status {code}"),
        Some(End::Killed(signal)) => format!("it is killed by signal {signal}"),
        None => "it does not end".to_owned(),
    }
}

/// Threads were left when the last layer had been unloaded.
pub(super) fn outlived(played: &Played) -> bool {
    threads_left(played).is_some_and(|threads| threads > 1)
}

pub(super) fn signal_name(signal: i32) -> String {
    match signal {
        libc::SIGABRT => "SIGABRT: abort() or a failed assertion".to_owned(),
        libc::SIGSEGV => "SIGSEGV: an address that is not there".to_owned(),
        libc::SIGBUS => "SIGBUS: an address behind the end of a file".to_owned(),
        libc::SIGFPE => "SIGFPE: a division by zero".to_owned(),
        libc::SIGILL => "SIGILL: no such instruction".to_owned(),
        libc::SIGPIPE => "SIGPIPE: a write to nobody".to_owned(),
        other => format!("number {other}"),
    }
}

/// What a client is told when it opens the export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answers {
    /// Bytes.
    pub(super) size: u64,
    /// Transmission flags.
    pub(super) flags: u64,
    /// Minimum, preferred, maximum.
    pub(super) block: Option<[u32; 3]>,
    /// base:allocation can be asked for.
    pub(super) block_status: bool,
}

/// How many threads the process had when the last layer had been unloaded; `None` where nobody looked. Where a layer is
/// never unmapped they may be its own, and do no harm.
pub(super) fn threads_left(played: &Played) -> Option<u64> {
    let mut probes = played.events.iter().filter(|event| event.probe() == Some(Probe::ThreadsLeft));
    probes.next_back().map(|event| event.b).filter(|threads| *threads <= 1 || !played.stays_mapped)
}
