//! What the server and the processes that it has started hold: descriptors, threads, memory.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Rlimit, Signal, pidfd_open, pidfd_send_signal, prlimit};

use crate::deadline::Deadline;
use crate::server::descent::{family, kill_of_run, reap_many};
use crate::server::headroom::{Headroom, bytes};
use crate::server::nbdkit::Server;
use crate::server::process::Woken;
use crate::validate::script::op::Resource;

/// How often the memory of a server is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long what is given back may take to be gone: threads of connections end after their clients have left.
const SETTLE: Duration = Duration::from_millis(1500);
/// The key of anonymous resident bytes in /proc/PID/status.
const ANONYMOUS: &str = "RssAnon:";
/// Memory that may come from one look to the next for other reasons.
const SLACK: u64 = 512 << 10;

/// What the processes of a case hold at one moment: the server, which comes first, and those that it has started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::validate) struct Held(Vec<Holds>);

/// What one process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holds {
    pid: u32,
    descriptors: u64,
    threads: u64,
    /// Anonymous resident bytes.
    memory: u64,
}

impl Held {
    /// What those of these processes hold that were there at the other moment, too. One that has come since is for
    /// process.children to judge.
    fn amount(&self, resource: Resource, other: &Held) -> u64 {
        let both = self.0.iter().filter(|one| other.0.iter().any(|it| it.pid == one.pid));
        let each = both.map(|one| match resource {
            Resource::Descriptors => one.descriptors,
            Resource::Threads => one.threads,
            Resource::Memory => one.memory,
        });
        each.sum()
    }

    /// For a finding.
    pub(in crate::validate) fn text(&self, resource: Resource) -> String {
        let all = self.amount(resource, self);
        match resource {
            Resource::Memory => format!("{} KiB of memory", all / 1024),
            other => format!("{all} {}", other.word()),
        }
    }
}

/// Returns what a server and its processes hold now; `None` where that cannot be seen, or it has gone.
pub(in crate::validate) fn held(pid: u32, run_id: u64) -> Option<Held> {
    let mut all = Vec::new();
    for process in family(pid, run_id) {
        let process = process.as_raw_nonzero().get().cast_unsigned();
        match holds(process) {
            Some(holds) => all.push(holds),
            None if process == pid => return None,
            // It may have ended since it was found.
            None => {}
        }
    }
    Some(Held(all))
}

fn holds(pid: u32) -> Option<Holds> {
    let count = |what| Some(std::fs::read_dir(format!("/proc/{pid}/{what}")).ok()?.count() as u64);
    Some(Holds { pid, descriptors: count("fd")?, threads: count("task")?, memory: anonymous(pid)? })
}

fn anonymous(pid: u32) -> Option<u64> {
    bytes(&status(pid)?, ANONYMOUS)
}

fn status(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/status")).ok()
}

/// Waits until the server holds no more of this than it did; else says what it holds in the end.
///
/// Memory that is given back is not given to the system at once, and each thread's share of it grows for a while: what
/// does not grow from every look to the next is not lost.
pub(in crate::validate) fn settles(
    server: &mut Server,
    before: &[Held],
    resource: Resource,
) -> Option<String> {
    let slack = if resource == Resource::Memory { SLACK } else { 0 };
    let grows = |pair: &[Held]| match pair {
        [one, next] => next.amount(resource, one) > one.amount(resource, next) + slack,
        _ => false,
    };
    let last = before.last().filter(|_| before.windows(2).all(grows))?;
    let (pid, run_id) = (server.process.pid(), server.run_id());
    let is_back = || {
        held(pid, run_id).is_none_or(|now| now.amount(resource, last) <= last.amount(resource, &now) + slack)
    };
    match server.process.wait_until(Deadline::after(SETTLE), is_back) {
        Woken::Late => held(pid, run_id).map(|now| now.text(resource)),
        Woken::Happened | Woken::Dead => None,
    }
}

/// Bytes of writable memory beyond what a server may hold: stacks of threads count as a whole, used or not.
const STACKS: u64 = 1 << 30;

/// Has the kernel stop a server, and every child of it, that asks for very much more memory than it may hold before
/// anybody can look.
///
/// Only memory that is written to counts, not address space: a sparse disk of a tebibyte is none.
pub(in crate::validate) fn limit(pid: u32, most: u64) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    let data = most.saturating_add(most / 4).saturating_add(STACKS);
    let limit = Rlimit { current: Some(data), maximum: Some(data) };
    // A server that has gone already needs none.
    let _ = prlimit(Some(pid), rustix::process::Resource::Data, limit);
}

/// A thread that looks at a server's memory and kills it before the machine suffers.
#[derive(Debug)]
pub(in crate::validate) struct Usage {
    pid: u32,
    stop: Arc<(Mutex<bool>, Condvar)>,
    excess: Arc<(AtomicBool, AtomicU64)>,
    /// The memory could be seen.
    looked: Arc<AtomicBool>,
    headroom: Arc<Mutex<Headroom>>,
    thread: Option<JoinHandle<()>>,
}

/// What was seen.
#[derive(Clone, Debug)]
pub(in crate::validate) struct Peak {
    /// It was killed when it held so many bytes.
    pub(in crate::validate) excess: Option<u64>,
    /// Somebody has looked.
    pub(in crate::validate) was_seen: bool,
    /// What the system had too little of.
    pub(in crate::validate) shortage: Option<String>,
}

impl Usage {
    /// Watches this server and what it starts, which together may hold so many anonymous resident bytes.
    pub(in crate::validate) fn watch(server: &Server, most: u64) -> Usage {
        let (pid, run_id) = (server.process.pid(), server.run_id());
        let headroom = Headroom::new(server.socket().and_then(Path::parent));
        let headroom = Arc::new(Mutex::new(headroom));
        let narrowed = Arc::clone(&headroom);
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let excess = Arc::new((AtomicBool::new(false), AtomicU64::new(0)));
        let looked = Arc::new(AtomicBool::new(false));
        let (told, seen, has_looked) = (Arc::clone(&stop), Arc::clone(&excess), Arc::clone(&looked));
        let pidfd = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let thread = std::thread::Builder::new().name("memory".to_owned()).spawn(move || {
            let (flag, condition) = &*told;
            let mut over = flag.lock().unwrap_or_else(PoisonError::into_inner);
            while !*over {
                reap_many();
                let all =
                    family(pid, run_id).into_iter().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
                let statuses: Vec<String> = all.filter_map(status).collect();
                // The server comes first.
                let own = statuses.first().map_or("", String::as_str);
                narrowed.lock().unwrap_or_else(PoisonError::into_inner).look(own);
                let each: Vec<u64> = statuses.iter().filter_map(|status| bytes(status, ANONYMOUS)).collect();
                if !each.is_empty() {
                    has_looked.store(true, Ordering::Relaxed);
                }
                let bytes: u64 = each.into_iter().sum();
                if bytes > most {
                    seen.1.store(bytes, Ordering::Relaxed);
                    seen.0.store(true, Ordering::Release);
                    // Through the descriptor: by now the number may be somebody else's.
                    let _ = pidfd.as_ref().map(|pidfd| pidfd_send_signal(pidfd, Signal::KILL));
                    kill_of_run(run_id, pid);
                    return;
                }
                over = condition.wait_timeout(over, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            }
        });
        Usage { pid, stop, excess, looked, headroom, thread: thread.ok() }
    }

    /// Ends the watching.
    pub(in crate::validate) fn finish(mut self) -> Peak {
        self.end();
        let own = status(self.pid).unwrap_or_default();
        let mut headroom = self.headroom.lock().unwrap_or_else(PoisonError::into_inner);
        headroom.look(&own);
        let shortage = headroom.shortage();
        drop(headroom);
        let excess = self.excess.0.load(Ordering::Acquire).then(|| self.excess.1.load(Ordering::Relaxed));
        Peak { excess, was_seen: self.looked.load(Ordering::Relaxed), shortage }
    }

    fn end(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        self.end();
    }
}
