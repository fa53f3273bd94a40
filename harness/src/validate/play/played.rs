//! What a case left behind, and how its server ended.

use layers_trace::Probe;

use super::evidence::Evidence;
use super::sanitizers::Reported;
use super::stop::Stop;
use crate::campaign::event_budget::Events;
use crate::campaign::halt::Halt;
use crate::history::End;
use crate::rules::{CallRef, Judgement};
use crate::server::nbdkit::Under;

/// What every case of a run has in common, and a file keeps with it.
#[derive(Clone, Copy, Debug)]
pub(in crate::validate) struct Terms {
    /// The number that written data begins from.
    pub(in crate::validate) seed: u64,
    /// Bytes of memory that the server may use.
    pub(in crate::validate) memory: u64,
    /// What looks at the server.
    pub(in crate::validate) under: Option<Under>,
}

/// What a case left behind.
#[derive(Debug)]
pub(in crate::validate) struct Played {
    /// Where and why the script stopped, if it did: index of the step.
    pub(in crate::validate) stop: Option<(usize, Stop)>,
    /// It stopped behind `judge`.
    pub(in crate::validate) judged: bool,
    /// What went wrong with the server as a process.
    pub(in crate::validate) trouble: Option<Trouble>,
    /// It started to serve.
    pub(in crate::validate) served: bool,
    /// How it ended.
    pub(in crate::validate) end: Option<End>,
    /// Why the recording does not tell the whole story, if it does not.
    pub(in crate::validate) incomplete: Option<String>,
    /// What the rules say.
    pub(in crate::validate) judgement: Judgement,
    /// The whole trace; of several servers one after another, that of the last.
    pub(in crate::validate) events: Events,
    /// The trace of the server that came before it, if one did.
    pub(in crate::validate) before: Events,
    /// If it hangs, the calls in flight when that was found out.
    pub(in crate::validate) in_flight: Vec<CallRef>,
    /// What the first connection was told.
    pub(in crate::validate) answers: Option<Answers>,
    /// What it listed.
    pub(in crate::validate) listed: Vec<String>,
    /// How much was judged.
    pub(in crate::validate) evidence: Evidence,
    /// Why it did not start, in its own words.
    pub(in crate::validate) complaint: String,
    /// What it wrote to standard error.
    pub(in crate::validate) stderr: String,
    /// Command lines of the processes that are left.
    pub(in crate::validate) children: Vec<String>,
    /// Code of the subject is never unmapped.
    pub(in crate::validate) stays_mapped: bool,
    /// It wrote more than there is room for.
    pub(in crate::validate) floods: bool,
    /// What was said of its memory and threads by whoever looked at them.
    pub(in crate::validate) reported: Option<Vec<Reported>>,
    /// What has ended the run before this case was over: nothing can be told from what did not come about in it.
    pub(in crate::validate) halt: Option<Halt>,
    /// Somebody has looked at its memory.
    pub(in crate::validate) memory_was_seen: bool,
}

/// What can go wrong with a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::validate) enum Trouble {
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
pub(in crate::validate) fn status(end: Option<End>) -> String {
    match end {
        Some(End::Exited(code)) => format!("it ends with status {code}"),
        Some(End::Killed(signal)) => format!("it is killed by signal {signal}"),
        None => "it does not end".to_owned(),
    }
}

/// Threads were left when the last layer had been unloaded.
pub(in crate::validate) fn outlived(played: &Played) -> bool {
    threads_left(played).is_some_and(|threads| threads > 1)
}

pub(in crate::validate) fn signal_name(signal: i32) -> String {
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
pub(in crate::validate) struct Answers {
    /// Bytes.
    pub(in crate::validate) size: u64,
    /// Transmission flags.
    pub(in crate::validate) flags: u64,
    /// Minimum, preferred, maximum.
    pub(in crate::validate) block: Option<[u32; 3]>,
    /// base:allocation can be asked for.
    pub(in crate::validate) block_status: bool,
}

/// How many threads the process had when the last layer had been unloaded; `None` where nobody looked. Where a layer is
/// never unmapped they may be its own, and do no harm.
pub(in crate::validate) fn threads_left(played: &Played) -> Option<u64> {
    let mut probes = played.events.iter().filter(|event| event.probe() == Some(Probe::ThreadsLeft));
    probes.next_back().map(|event| event.b).filter(|threads| *threads <= 1 || !played.stays_mapped)
}
