//! Whose a process is: everything that a server or a client has started belongs to its run, whatever it has done since.
//!
//! A process can leave its group, its session and its parent, and can begin its program with an environment of its own.
//! What it cannot shed without meaning to are its limits, which every child inherits: the harness marks each server and each
//! client by a hard limit for core files that no other run has. (The soft limit is 0: a crash is told, and a core would be
//! left wherever the user is.) The name of the run in the environment tells the rest: processes for which the limit could
//! not be set, and those that have set their limits anew.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, dumpable_behavior, getrlimit,
    kill_process, setrlimit, waitid,
};

use crate::foreign::visible::visible_line;
use crate::random::random;

/// How often processes that start others while they are killed are gone after.
const MOST_ROUNDS: usize = 1000;
/// The field of /proc/PID/stat, counted from that of the state, in which the address of the bottom of the stack stands.
const STACK: usize = 25;
/// In how many looks others may have died since the look before, until something is taken to start them.
const MOST_DEATHS: usize = 5;
/// After how many looks in turn that find nothing new there is nothing.
const QUIET_LOOKS: usize = 3;
/// How often processes are listed in one look, while each list has some that the one before had not.
const MOST_LISTS: usize = 100;

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

    fn takes(self, whose: Whose) -> bool {
        match whose {
            Whose::Run(run_id) => self.includes(run_id),
            Whose::SomeRun => true,
            Whose::Nobody => false,
        }
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
    marked(pid) == Some(run_id)
}

/// Whose a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// This run's.
    Run(u64),
    /// Some run's of this session: an orphan that has come to this process and carries no mark any more, neither limit nor
    /// environment. Whatever this process starts by itself has one before it begins its program.
    SomeRun,
    /// It is none of ours.
    Nobody,
}

/// A process, as it was seen.
#[derive(Clone, Copy, Debug)]
struct Found {
    pid: Pid,
    whose: Whose,
    is_dead: bool,
    /// It is a child of this process.
    is_child: bool,
}

impl Found {
    /// Looks at a process whose parent is of this kind; `None` for a child of this process.
    fn below(parent: Option<Whose>, pid: Pid) -> Found {
        // In this order: what is seen to have begun its program has had its mark before.
        let began = has_begun(pid);
        let unmarked = match parent {
            Some(whose) => whose,
            None if began && ORPHANS_ARE_OURS.load(Ordering::Relaxed) => Whose::SomeRun,
            None => Whose::Nobody,
        };
        let whose = marked(pid).map_or(unmarked, Whose::Run);
        Found { pid, whose, is_dead: is_dead(pid), is_child: parent.is_none() }
    }

    /// Looks at a process of which nothing but its number is known.
    fn alone(pid: Pid) -> Found {
        let whose = marked(pid).map_or(Whose::Nobody, Whose::Run);
        Found { pid, whose, is_dead: is_dead(pid), is_child: false }
    }
}

/// Where processes are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Among {
    /// The descendants of this process: all that is of a run, where orphans come here.
    Descendants,
    /// All that /proc shows.
    All,
}

impl Among {
    /// As this process can.
    fn ours() -> Among {
        if ORPHANS_COME_HERE.load(Ordering::Relaxed) { Among::Descendants } else { Among::All }
    }

    /// Looks at every process that there is, and again at those that have come meanwhile, until none has: what replaces
    /// itself again and again is seen as well. What has died meanwhile counts as it was seen first.
    fn look(self) -> impl Iterator<Item = Found> {
        let mut known = BTreeMap::new();
        for _ in 0..MOST_LISTS {
            let before = known.len();
            match self {
                Among::Descendants => descendants(&mut known),
                Among::All => all().for_each(|pid| {
                    known.entry(number(pid)).or_insert_with(|| Found::alone(pid));
                }),
            }
            if known.len() == before {
                break;
            }
        }
        known.into_values()
    }
}

fn number(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}

/// Takes in the descendants of this process. A child is its parent's, unless it is marked as another one's.
fn descendants(known: &mut BTreeMap<i32, Found>) {
    let (mut seen, mut next) = (BTreeSet::new(), vec![None]);
    while let Some(parent) = next.pop() {
        let of = parent.map(|parent: Found| parent.whose);
        for pid in children(parent.map(|parent| parent.pid)) {
            let found = *known.entry(number(pid)).or_insert_with(|| Found::below(of, pid));
            if seen.insert(number(pid)) && !found.is_dead {
                next.push(Some(found));
            }
        }
    }
}

/// The run of this session whose mark a process carries.
fn marked(pid: Pid) -> Option<u64> {
    let read = |name| std::fs::read(format!("/proc/{}/{name}", pid.as_raw_nonzero())).unwrap_or_default();
    let ours = |run_id: &u64| Of::Session(session()).includes(*run_id);
    limit(&read("limits")).filter(ours).or_else(|| named(&read("environ")).filter(ours))
}

/// The live processes of this run, apart from this one; with those that nobody can be asked about.
pub(super) fn of_run(run_id: u64, apart: u32) -> impl Iterator<Item = Pid> {
    let is_of_run = move |found: &Found| Of::Run(run_id).takes(found.whose);
    let live = Among::ours().look().filter(move |found| !found.is_dead && is_of_run(found));
    live.map(|found| found.pid).filter(move |pid| number(*pid).cast_unsigned() != apart)
}

/// Returns the command lines of the live processes of this run, apart from this one.
///
/// What replaces itself by a child again and again may be dead whenever it is looked at. Its dead tell of it: where look after
/// look finds nobody alive, and somebody dead who was not there before, the last of them is named.
pub(super) fn left_of_run(run_id: u64, apart: u32) -> Vec<String> {
    let is_of_run = |found: &Found| {
        Of::Run(run_id).takes(found.whose) || (found.whose == Whose::Nobody && is_orphan(found.pid))
    };
    let (mut known, mut deaths, mut quiet) = (BTreeSet::new(), 0, 0);
    // The kernel's lists of children may lack some while others end: one that is empty proves nothing.
    while quiet < QUIET_LOOKS {
        let found = Among::ours().look().filter(|found| number(found.pid).cast_unsigned() != apart);
        let (dead, live): (Vec<Found>, Vec<Found>) = found.filter(is_of_run).partition(|found| found.is_dead);
        if !live.is_empty() {
            return live.into_iter().map(|found| command_line(found.pid)).collect();
        }
        let is_new = |found: &&Found| found.is_child && known.insert(number(found.pid));
        match dead.iter().filter(is_new).last() {
            Some(died) if deaths == MOST_DEATHS => return vec![command_line(died.pid)],
            Some(_) => (deaths, quiet) = (deaths + 1, 0),
            None => quiet += 1,
        }
    }
    Vec::new()
}

/// Returns the dead that have come here as orphans of some run, and carry no mark.
fn dead_orphans(found: impl Iterator<Item = Found>) -> Vec<Pid> {
    let unmarked = found.filter(|found| found.is_dead && found.is_child && found.whose == Whose::Nobody);
    unmarked.map(|found| found.pid).filter(|pid| is_orphan(*pid)).collect()
}

/// Reaps a child that is dead.
fn reap(child: Pid) {
    let _ = waitid(WaitId::Pid(child), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
}

/// Dead orphans that may wait to be reaped until the end of their run: they tell of what has started them.
const MOST_DEAD: usize = 1000;
/// How often they are counted.
const COUNT: Duration = Duration::from_millis(20);
/// When they were counted last.
static COUNTED: Mutex<Option<Instant>> = Mutex::new(None);

/// Reaps dead orphans where they have become many, while their run goes on: a process that replaces itself again and again would
/// use up all the numbers that a machine has for processes.
pub(crate) fn reap_many() {
    if !ORPHANS_ARE_OURS.load(Ordering::Relaxed) {
        return;
    }
    // Whoever comes while somebody counts need not.
    let Ok(mut counted) = COUNTED.try_lock() else { return };
    if counted.is_some_and(|last| last.elapsed() < COUNT) {
        return;
    }
    let children = children(None);
    if children.len() > MOST_DEAD {
        let dead = children.into_iter().filter(|pid| is_dead(*pid) && is_orphan(*pid)).skip(MOST_DEAD / 10);
        dead.for_each(reap);
    }
    *counted = Some(Instant::now());
}

/// All processes that /proc shows.
fn all() -> impl Iterator<Item = Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(Pid::from_raw)
}

/// A process that has ended, and that nobody has reaped yet.
fn is_dead(pid: Pid) -> bool {
    let state = stat(pid).and_then(|fields| fields.trim_start().chars().next());
    matches!(state, None | Some('Z' | 'X'))
}

/// What /proc/PID/stat says after the name of the program: the state, the parent, the group and more.
fn stat(pid: Pid) -> Option<String> {
    let stat = std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name stands in parentheses, and can have any byte in it.
    let rest = stat.rsplit(|byte| *byte == b')').next()?;
    Some(String::from_utf8_lossy(rest).into_owned())
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
/// descendants, and what else of this run is below this process.
pub(crate) fn family(pid: u32, run_id: u64) -> Vec<Pid> {
    let Some(first) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Vec::new() };
    let mut family = vec![first];
    if Among::ours() == Among::Descendants {
        family.extend(of_run(run_id, pid));
        return family;
    }
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
        kill_and_reap(Of::Session(session()));
    }
}

/// Kills all processes of this session's runs, whoever is their parent; to be called by the guard.
pub(super) fn kill_of_session(session: u32) {
    let is_left = |found: &Found| !found.is_dead && Of::Session(session).takes(found.whose);
    until_gone(|| Among::All.look().filter(is_left).map(|found| found.pid).collect());
}

/// Kills what there is and may be killed, again and again: while some are killed, others of them may start more.
fn until_gone(find: impl Fn() -> Vec<Pid>) {
    for _ in 0..MOST_ROUNDS {
        let mut found = find();
        // All of them first: they may look after each other. What has become another user's cannot be killed.
        found.retain(|pid| kill_process(*pid, Signal::KILL) != Err(Errno::PERM));
        if found.is_empty() {
            return;
        }
        for pid in found {
            // Those that are ours are reaped, or they would be found again.
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
        }
    }
}

/// The same for what is of this run or session and below this process, which has to reap the dead among its children.
fn kill_and_reap(of: Of) {
    until_gone(|| {
        let found: Vec<Found> = Among::Descendants.look().collect();
        dead_orphans(found.iter().copied()).into_iter().for_each(reap);
        let found = found.into_iter().filter(|found| !found.is_dead || found.is_child);
        found.filter(|found| of.takes(found.whose)).map(|found| found.pid).collect()
    });
}

/// A dead child without a mark has come here as an orphan of some run. What this process starts by itself is in this
/// process's group until it leads one of its own.
fn is_orphan(pid: Pid) -> bool {
    let own = group(rustix::process::getpid());
    ORPHANS_ARE_OURS.load(Ordering::Relaxed)
        && group(pid).is_some_and(|group| group != number(pid) && Some(group) != own)
}

/// Returns the process group, which is 0 where it has come from outside of this namespace of processes: getpgrp(2) of rustix
/// takes that for impossible.
fn group(pid: Pid) -> Option<i32> {
    stat(pid)?.split_ascii_whitespace().nth(2)?.parse().ok()
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
    let are_ours = !children(None).into_iter().any(has_begun);
    // What this process may not look at it cannot tell from what others have begun: a program that its user may not read.
    let is_seen = dumpable_behavior() == Ok(DumpableBehavior::Dumpable);
    let command = STARTS_ONLY_RUNS.load(Ordering::Relaxed);
    ORPHANS_ARE_OURS.store(command && are_ours && is_seen, Ordering::Relaxed);
    // Not every kernel lists children.
    let are_listed = std::path::Path::new("/proc/thread-self/children").exists();
    ORPHANS_COME_HERE.store(are_listed, Ordering::Relaxed);
}

/// Kills and reaps what has left the process group of this run, which is dead by now: its orphans are children of this
/// process, where it is a subreaper, and somewhere among all processes where it is not.
pub(super) fn kill_escaped(run_id: u64) {
    match Among::ours() {
        Among::Descendants => kill_and_reap(Of::Run(run_id)),
        Among::All => kill_of_run(run_id, std::process::id()),
    }
}

/// A live child of this process has begun a program of its own. The guard has not, nor has what has been forked and is about to:
/// their stacks began where that of this process did, which is another place for each program that begins.
///
/// A process that hides from its own user hides nothing that this process has forked.
fn has_begun(child: Pid) -> bool {
    let stack = |fields: String| fields.split_ascii_whitespace().nth(STACK).map(str::to_owned);
    let own = stat(rustix::process::getpid()).and_then(stack);
    !is_dead(child) && stat(child).and_then(stack) != own
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
