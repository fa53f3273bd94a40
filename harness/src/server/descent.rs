//! Whose a process is: everything that a server or a client has started belongs to its run, whatever it has done since.
//!
//! A process can leave its group, its session and its parent, and can begin its program with an environment of its own.
//! What it cannot shed without meaning to are its limits, which every child inherits: the harness marks each server and each
//! client by a hard limit for core files that no other run has. (The soft limit is 0: a crash is told, and a core would be
//! left wherever the user is.) The name of the run in the environment tells the rest: processes for which the limit could
//! not be set, and those that have set their limits anew.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getrlimit, kill_process, setrlimit, waitid,
};

use super::tracing::random;
use crate::visible::visible_line;

/// How often processes that start others while they are killed are gone after.
const MOST_ROUNDS: usize = 1000;

/// Tells this process and its runs from every other one that uses this library.
pub(super) fn session() -> u32 {
    static SESSION: OnceLock<u32> = OnceLock::new();
    // Without its highest bit, so that the number of a run is a limit below that of the kernel's "no limit".
    *SESSION.get_or_init(|| (random() as u32 & (u32::MAX >> 1)).max(1))
}

/// Returns a number for a new run, which no other run of this machine has but by a chance of one in two thousand millions.
pub(super) fn new_run_id() -> u64 {
    static RUNS: AtomicU32 = AtomicU32::new(1);
    of_session(session()) | u64::from(RUNS.fetch_add(1, Ordering::Relaxed))
}

fn of_session(session: u32) -> u64 {
    u64::from(session) << 32
}

/// Marks this process as one of this run; to be called between fork and exec.
pub(super) fn mark(run_id: Option<u64>) -> io::Result<()> {
    let core = |maximum| Rlimit { current: Some(0), maximum };
    let own = getrlimit(Resource::Core).maximum;
    if run_id.is_some() && setrlimit(Resource::Core, core(run_id)).is_ok() {
        return Ok(());
    }
    // A limit that is lower already cannot be raised: then the environment alone tells whose the process is.
    Ok(setrlimit(Resource::Core, core(own))?)
}

/// Which runs a process is asked about.
#[derive(Clone, Copy, Debug)]
enum Of {
    /// This one.
    Run(u64),
    /// Any of this session.
    Session(u32),
}

impl Of {
    fn includes(self, run_id: u64) -> bool {
        match self {
            Of::Run(one) => one == run_id,
            Of::Session(session) => run_id >> 32 == u64::from(session) && run_id as u32 > 0,
        }
    }

    fn has(self, pid: Pid) -> bool {
        let read = |name| std::fs::read(format!("/proc/{}/{name}", pid.as_raw_nonzero())).unwrap_or_default();
        limit(&read("limits")).is_some_and(|run_id| self.includes(run_id))
            || named(&read("environ")).is_some_and(|run_id| self.includes(run_id))
    }
}

/// The hard limit for core files in this copy of /proc/PID/limits.
fn limit(limits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(limits).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max core file size"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The run that this copy of /proc/PID/environ names.
fn named(environment: &[u8]) -> Option<u64> {
    let name = layers_behaviour::RUN_VARIABLE.as_bytes();
    let value = |entry: &[u8]| -> Option<u64> {
        let value = entry.strip_prefix(name)?.strip_prefix(b"=")?;
        u64::from_str_radix(std::str::from_utf8(value).ok()?, 16).ok()
    };
    environment.split(|byte| *byte == 0).find_map(value)
}

/// The process belongs to this run.
pub(super) fn belongs_to(pid: Pid, run_id: u64) -> bool {
    Of::Run(run_id).has(pid)
}

/// The processes of this run, apart from this one; with those that nobody can be asked about (see [`strays`]).
pub(super) fn of_run(run_id: u64, apart: u32) -> impl Iterator<Item = Pid> {
    let all = all(Of::Run(run_id)).chain(strays());
    all.filter(move |pid| pid.as_raw_nonzero().get().cast_unsigned() != apart)
}

/// Orphans that have come to this process and carry no mark any more: neither limit nor environment. Whatever this process
/// starts by itself has one before it begins its program, so that they are what some run of this session has left, or a
/// child of one of them.
fn strays() -> Vec<Pid> {
    if !ORPHANS_ARE_OURS.load(Ordering::Relaxed) {
        return Vec::new();
    }
    let program = |pid: Pid| std::fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero())).ok();
    let own = std::fs::read_link("/proc/self/exe").ok();
    // The guard, and what has been forked and has not begun its program yet, have this program.
    let is_other = |pid: Pid| program(pid).is_some_and(|it| Some(it) != own);
    // In this order: what is seen in a program of its own has had its mark before it began that.
    let is_stray = |pid: &Pid| !is_dead(*pid) && is_other(*pid) && !Of::Session(session()).has(*pid);
    let mut strays: Vec<Pid> = children(None).into_iter().filter(is_stray).collect();
    let mut next = 0;
    while let Some(pid) = strays.get(next).copied() {
        strays.extend(children(Some(pid)));
        next += 1;
    }
    strays
}

fn all(of: Of) -> impl Iterator<Item = Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Pid::from_raw).filter(move |pid| of.has(*pid) && !is_dead(*pid))
}

/// A process that has ended, and that nobody has reaped yet.
fn is_dead(pid: Pid) -> bool {
    let stat = std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    // The name of the program stands in parentheses, and can have any byte in it.
    let state = stat.rsplit(|byte| *byte == b')').next().and_then(|rest| rest.get(1)).copied();
    matches!(state, None | Some(b'Z' | b'X'))
}

/// The command line of a process, for people; its name in brackets where it has none.
pub(super) fn command_line(pid: Pid) -> String {
    let read = |name| std::fs::read(format!("/proc/{}/{name}", pid.as_raw_nonzero())).unwrap_or_default();
    let line = read("cmdline");
    let words = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
    match words.is_empty() {
        false => visible_line(&words),
        true => format!("[{}]", visible_line(String::from_utf8_lossy(&read("comm")).trim_end())),
    }
}

/// The process with this number and what it has started, as far as that is seen without looking at every process: its
/// descendants, and the orphans of this run that have come to this process.
pub(crate) fn family(pid: u32, run_id: u64) -> Vec<Pid> {
    let Some(first) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Vec::new() };
    let mut family = vec![first];
    let orphans = children(None).into_iter().filter(|pid| *pid != first && belongs_to(*pid, run_id));
    family.extend(orphans.chain(strays()));
    let mut next = 0;
    while let Some(pid) = family.get(next).copied() {
        let more: Vec<Pid> = children(Some(pid)).into_iter().filter(|pid| !family.contains(pid)).collect();
        family.extend(more);
        next += 1;
    }
    family
}

/// Kills the processes of this run, apart from this one.
pub(crate) fn kill_of_run(run_id: u64, apart: u32) {
    until_gone(|| of_run(run_id, apart).collect());
}

/// Kills what is left of this session's runs when the harness ends in good order.
pub(crate) fn kill_what_is_left() {
    if ORPHANS_COME_HERE.load(Ordering::Relaxed) {
        let is_own = |pid: &Pid| Of::Session(session()).has(*pid);
        until_gone(|| children(None).into_iter().filter(is_own).chain(strays()).collect());
    }
}

/// Kills all processes of this session's runs, whoever is their parent.
pub(super) fn kill_of_session(session: u32) {
    until_gone(|| all(Of::Session(session)).collect());
}

/// Kills what there is, again and again: while some are killed, others of them may start more.
fn until_gone(find: impl Fn() -> Vec<Pid>) {
    for _ in 0..MOST_ROUNDS {
        let found = find();
        if found.is_empty() {
            return;
        }
        for pid in found {
            let _ = kill_process(pid, Signal::KILL);
            // Those that are ours are reaped, or they would be found again.
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
        }
    }
}

/// This process is the `layers` command, which starts nothing but runs. In somebody's tests, which use this library, another
/// thread may have started whatever it likes.
static STARTS_ONLY_RUNS: AtomicBool = AtomicBool::new(false);

/// From now on every child of this process that has a program of its own is of a run.
pub(crate) fn only_runs_are_started() {
    STARTS_ONLY_RUNS.store(true, Ordering::Relaxed);
}

static ORPHANS_COME_HERE: AtomicBool = AtomicBool::new(false);
/// All of them are of this session's runs: this process is the command, and had no child before it had runs.
static ORPHANS_ARE_OURS: AtomicBool = AtomicBool::new(false);

/// From now on the orphans among the processes of a run are children of this process.
pub(super) fn orphans_come_here() {
    // A shell that has begun this program with `exec` may have left children of its own.
    let program = |pid: &Pid| std::fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero())).ok();
    let own = std::fs::read_link("/proc/self/exe").ok();
    let are_ours = children(None).iter().all(|pid| program(pid) == own);
    let command = STARTS_ONLY_RUNS.load(Ordering::Relaxed);
    ORPHANS_ARE_OURS.store(command && are_ours && own.is_some(), Ordering::Relaxed);
    ORPHANS_COME_HERE.store(true, Ordering::Relaxed);
}

/// Kills and reaps what has left the process group of this run, which is dead by now: its orphans are children of this
/// process, where it is a subreaper, and somewhere among all processes where it is not.
pub(super) fn kill_escaped(run_id: u64) {
    match ORPHANS_COME_HERE.load(Ordering::Relaxed) {
        true => until_gone(|| {
            let own = children(None).into_iter().filter(|pid| belongs_to(*pid, run_id));
            own.chain(strays()).collect()
        }),
        false => kill_of_run(run_id, std::process::id()),
    }
}

/// The children of a process, or of this one.
fn children(of: Option<Pid>) -> Vec<Pid> {
    let of = of.map_or("self".to_owned(), |pid| pid.as_raw_nonzero().to_string());
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{of}/task")) else { return Vec::new() };
    let lists = tasks.flatten().map(|task| std::fs::read_to_string(task.path().join("children")));
    let pids = |list: String| -> Vec<i32> {
        list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    };
    lists.flatten().flat_map(pids).filter_map(Pid::from_raw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_read_from_limits_and_environment() {
        let limits = b"Limit                     Soft Limit           Hard Limit           Units     \n\
            Max stack size            8388608              unlimited            bytes     \n\
            Max core file size        0                    1234605616436508552  bytes     \n";
        assert_eq!(limit(limits), Some(1_234_605_616_436_508_552));
        assert_eq!(
            limit(b"Max core file size        0                    unlimited            bytes\n"),
            None
        );
        assert_eq!(limit(b""), None);
        assert_eq!(named(b"A=1\0LAYERS_RUN=1122334400000007\0"), Some(0x1122_3344_0000_0007));
        assert_eq!(named(b"LAYERS_RUN=\0XLAYERS_RUN=1\0"), None);
    }

    #[test]
    fn a_run_belongs_to_one_session() {
        let run_id = 0x1122_3344_0000_0007;
        assert!(Of::Run(run_id).includes(run_id) && Of::Session(0x1122_3344).includes(run_id));
        assert!(!Of::Session(0x1122_3345).includes(run_id));
        let (one, other) = (new_run_id(), new_run_id());
        assert!(
            one != other && Of::Session(session()).includes(one) && Of::Session(session()).includes(other)
        );
        assert!(i64::try_from(one).is_ok(), "a limit below that of the kernel's infinity");
    }
}
