//! What the server process holds: descriptors, threads, memory.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Rlimit, Signal, pidfd_open, pidfd_send_signal, prlimit};

use super::op::Resource;
use crate::deadline::Deadline;
use crate::server::process::{Process, Woken};

/// How often the memory of a server is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long what is given back may take to be gone: threads of connections end after their clients have left.
const SETTLE: Duration = Duration::from_millis(1500);
/// Memory that may come from one look to the next for other reasons.
const SLACK: u64 = 512 << 10;

/// What a process holds at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    descriptors: u64,
    threads: u64,
    /// Anonymous resident bytes.
    memory: u64,
}

impl Held {
    fn amount(&self, resource: Resource) -> u64 {
        match resource {
            Resource::Descriptors => self.descriptors,
            Resource::Threads => self.threads,
            Resource::Memory => self.memory,
        }
    }

    /// For a finding.
    pub(super) fn text(&self, resource: Resource) -> String {
        match resource {
            Resource::Memory => format!("{} KiB of memory", self.memory / 1024),
            other => format!("{} {}", self.amount(other), other.word()),
        }
    }
}

/// What this process holds now; `None` when it has gone.
pub(super) fn held(pid: u32) -> Option<Held> {
    let count = |what| Some(std::fs::read_dir(format!("/proc/{pid}/{what}")).ok()?.count() as u64);
    Some(Held { descriptors: count("fd")?, threads: count("task")?, memory: anonymous(pid)? })
}

fn anonymous(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// Waits until the process holds no more of this than it did; else says what it holds in the end.
///
/// Memory that is given back is not given to the system at once, and each thread's share of it grows for a while: what
/// does not grow from every look to the next is not lost.
pub(super) fn settles(process: &mut Process, before: &[Held], resource: Resource) -> Option<String> {
    let slack = if resource == Resource::Memory { SLACK } else { 0 };
    let grows = |pair: &[Held]| match pair {
        [one, next] => next.amount(resource) > one.amount(resource) + slack,
        _ => false,
    };
    let last = before.last().filter(|_| before.windows(2).all(grows))?;
    let most = last.amount(resource) + slack;
    let pid = process.pid();
    let is_back = || held(pid).is_none_or(|now| now.amount(resource) <= most);
    match process.wait_until(Deadline::after(SETTLE), is_back) {
        Woken::Late => held(pid).map(|now| now.text(resource)),
        Woken::Happened | Woken::Dead => None,
    }
}

/// Bytes of writable memory beyond what a server may hold: stacks of threads count as a whole, used or not.
const STACKS: u64 = 1 << 30;

/// Has the kernel stop a server, and every child of it, that asks for very much more memory than it may hold before
/// anybody can look.
///
/// Only memory that is written to counts, not address space: a sparse disk of a tebibyte is none.
pub(super) fn limit(pid: u32, most: u64) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    let data = most.saturating_add(most / 4).saturating_add(STACKS);
    let limit = Rlimit { current: Some(data), maximum: Some(data) };
    // A server that has gone already needs none.
    let _ = prlimit(Some(pid), rustix::process::Resource::Data, limit);
}

/// A thread that looks at a server's memory and kills it before the machine suffers.
#[derive(Debug)]
pub(super) struct Usage {
    stop: Arc<(Mutex<bool>, Condvar)>,
    excess: Arc<(AtomicBool, AtomicU64)>,
    thread: Option<JoinHandle<()>>,
}

/// What was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peak {
    /// It was killed when it held so many bytes.
    pub(super) excess: Option<u64>,
}

impl Usage {
    /// Watches this process, which may hold so many anonymous resident bytes.
    pub(super) fn watch(pid: u32, most: u64) -> Usage {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let excess = Arc::new((AtomicBool::new(false), AtomicU64::new(0)));
        let (told, seen) = (Arc::clone(&stop), Arc::clone(&excess));
        let pidfd = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let thread = std::thread::Builder::new().name("memory".to_owned()).spawn(move || {
            let (flag, condition) = &*told;
            let mut over = flag.lock().unwrap_or_else(PoisonError::into_inner);
            while !*over {
                if let Some(bytes) = anonymous(pid).filter(|bytes| *bytes > most) {
                    seen.1.store(bytes, Ordering::Relaxed);
                    seen.0.store(true, Ordering::Release);
                    // Through the descriptor: by now the number may be somebody else's.
                    let _ = pidfd.as_ref().map(|pidfd| pidfd_send_signal(pidfd, Signal::KILL));
                    return;
                }
                over = condition.wait_timeout(over, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            }
        });
        Usage { stop, excess, thread: thread.ok() }
    }

    /// Ends the watching.
    pub(super) fn finish(mut self) -> Peak {
        self.end();
        let excess = self.excess.0.load(Ordering::Acquire).then(|| self.excess.1.load(Ordering::Relaxed));
        Peak { excess }
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
