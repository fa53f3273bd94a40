//! Leaving nothing behind when this process is told to stop (Ctrl-C, a CI job's time-out).
//!
//! Servers are in process groups of their own, so the terminal's signal does not reach them. The `layers` command
//! therefore keeps a list of what is alive and, before it dies of the signal, kills and removes all of it.

use std::io::{self, stdout};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

use super::descent::{kill_escaped, kill_of_run};
use super::directory::{self, Names, RunDirectory};
use super::script_directories;

/// What would be left behind.
#[derive(Debug)]
struct Live {
    run_id: u64,
    /// Of its server or client, once that is started.
    group: Option<Pid>,
    directory: Option<PathBuf>,
}

/// What is to be done before this process ends by a signal, for a run.
struct Last {
    run_id: u64,
    run: Box<dyn FnOnce() + Send>,
}

static LAST: Mutex<Vec<Last>> = Mutex::new(Vec::new());

/// Does this before a signal ends the process, once all of the run has been killed.
pub(super) fn before_the_end(run_id: u64, run: impl FnOnce() + Send + 'static) {
    LAST.lock().unwrap_or_else(PoisonError::into_inner).push(Last { run_id, run: Box::new(run) });
}

static LIVE: Mutex<Vec<Live>> = Mutex::new(Vec::new());

fn live() -> MutexGuard<'static, Vec<Live>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The verb says what it has found when it is told to stop, and then ends by itself.
static REPORTS: AtomicBool = AtomicBool::new(false);
/// The signal that told it so; 0 for none.
static TOLD: AtomicI32 = AtomicI32::new(0);

/// From now on the first SIGINT or SIGTERM does not end this process: it ends the servers that are alive, keeps others from
/// being started, and is to be seen by [`told_to_stop`]. One that comes more than two seconds later ends the process.
pub fn report_on_signals() {
    REPORTS.store(true, Ordering::SeqCst);
}

/// Ctrl-C is for another process of the terminal's, which does with it what it likes.
static LEFT: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT does nothing to this process.
pub fn leave_interrupts_to_others() {
    LEFT.store(true, Ordering::SeqCst);
}

/// Where signals go on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Onward {
    /// Nowhere: this process is told to stop by them.
    Nowhere,
    /// A child that is being started: they wait until it is known.
    Soon,
    /// This child. It is not reaped before they go nowhere again.
    Child(Pid),
}

static ONWARD: Mutex<Onward> = Mutex::new(Onward::Nowhere);
static ONWARD_IS_KNOWN: Condvar = Condvar::new();

/// From now on this process hands on the signals that it is sent, and goes on. What the terminal sends, the child gets by itself.
pub(super) fn hand_on(onward: Onward) {
    *ONWARD.lock().unwrap_or_else(PoisonError::into_inner) = onward;
    ONWARD_IS_KNOWN.notify_all();
}

/// Hands on this signal, but one of the kernel's, which the child gets by itself. Returns false where it goes nowhere.
fn goes_on(signal: i32, info: &libc::siginfo_t) -> bool {
    let onward = ONWARD.lock().unwrap_or_else(PoisonError::into_inner);
    let known = ONWARD_IS_KNOWN.wait_while(onward, |onward| *onward == Onward::Soon);
    let known = known.unwrap_or_else(PoisonError::into_inner);
    let Onward::Child(child) = *known else { return false };
    if info.si_code != libc::SI_KERNEL {
        // SAFETY: no pointers. The child is not reaped as long as this lock is held.
        unsafe { libc::kill(child.as_raw_nonzero().get(), signal) };
    }
    true
}

/// Waits for a signal. `None` where none can be waited for.
fn next_signal(set: &libc::sigset_t) -> Option<i32> {
    loop {
        let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: the set is initialised and its signals are blocked in every thread; zeroes are a siginfo.
        let (signal, info) = unsafe { (libc::sigwaitinfo(set, info.as_mut_ptr()), info.assume_init()) };
        match signal {
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            -1 => return None,
            signal if goes_on(signal, &info) => {}
            signal => return Some(signal),
        }
    }
}

/// The signal by which this process was told to stop.
pub fn told_to_stop() -> Option<i32> {
    Some(TOLD.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
}

/// Makes the private directory of this run. Once the process has been told to stop there is no other.
pub(super) fn directory(run_id: u64, names: Names) -> io::Result<RunDirectory> {
    let mut live = live();
    if told_to_stop().is_some() {
        return Err(io::Error::from(io::ErrorKind::Interrupted));
    }
    let directory = RunDirectory::make(names)?;
    live.push(Live { run_id, group: None, directory: Some(directory.path().to_owned()) });
    Ok(directory)
}

/// A server or client of this run is alive, in this process group.
pub(super) fn began(run_id: u64, group: Pid) {
    let mut live = live();
    if told_to_stop().is_some() {
        let _ = kill_process_group(group, Signal::KILL);
    }
    live.push(Live { run_id, group: Some(group), directory: None });
}

/// Waits for the end of this process where a signal is about to end it: what became of its servers by that is nothing to
/// speak of.
pub(crate) fn wait_for_the_end() {
    drop(live());
}

/// All of this run are gone.
pub(super) fn ended(run_id: u64) {
    live().retain(|live| live.run_id != run_id);
    LAST.lock().unwrap_or_else(PoisonError::into_inner).retain(|last| last.run_id != run_id);
}

/// What comes so soon after a signal means the same.
const ONE_AND_THE_SAME: Duration = Duration::from_secs(2);

/// The last two end a process that does nothing about them, and tell HAProxy to stop or to reload, whose command `watch` hands
/// them on to.
const SIGNALS: [i32; 7] =
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGXCPU, libc::SIGUSR1, libc::SIGUSR2];

/// From now on the signals by which a process is told to end clean up before they end this one. To be called before any
/// thread is started; children get the signals unblocked, see `unblock`. One that whoever started this process has made it
/// ignore (nohup, `&` in a script) is still ignored.
///
/// Where the system has no thread for that they end this process at once, and the guard cleans up.
pub fn clean_up_on_signals() {
    let set = set_of(|signal| !is_ignored(signal));
    // SAFETY: the set is initialised; threads started from here on inherit the mask.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
    // A file that may grow no larger is an error of whoever writes it, and no end of this process.
    // SAFETY: no handler is set.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let listen = move || {
        let mut signal = 0;
        while signal == 0 || (signal == libc::SIGINT && LEFT.load(Ordering::SeqCst)) {
            let Some(next) = next_signal(&set) else { return };
            signal = next;
        }
        if REPORTS.load(Ordering::SeqCst) && matches!(signal, libc::SIGINT | libc::SIGTERM) {
            let told = Instant::now();
            end_servers(signal);
            loop {
                // SAFETY: as above.
                if unsafe { libc::sigwait(&set, &mut signal) } != 0 {
                    return;
                }
                // timeout(1) sends its signal to the process and then to the group, and impatient people send several.
                if told.elapsed() > ONE_AND_THE_SAME {
                    break;
                }
            }
        }
        // Held to the end: whoever finds its server gone waits here before it says something about that.
        let mut all = live();
        note_scripts(&all);
        for live in all.iter() {
            let _ = live.group.map(|group| kill_process_group(group, Signal::KILL));
            kill_escaped(live.run_id);
        }
        for last in LAST.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            (last.run)();
        }
        // Last of all: a server that is still alive could write to its directory.
        for directory in all.drain(..).filter_map(|live| live.directory) {
            directory::remove(&directory);
        }
        unblock();
        // SAFETY: the default action of each ends the process, as whoever sent the signal expects; where the signal is
        // ignored, the process still has nothing left to do.
        unsafe {
            libc::raise(signal);
            libc::_exit(128 + signal);
        }
    };
    if std::thread::Builder::new().name("signals".to_owned()).spawn(listen).is_err() {
        unblock();
    }
}

/// Notes for each server what it leaves behind when it is killed.
fn note_scripts(all: &[Live]) {
    for (group, run_id) in all.iter().filter_map(|live| Some((live.group?, live.run_id))) {
        let of_run = |live: &&Live| live.run_id == run_id;
        let directory = all.iter().filter(of_run).find_map(|live| live.directory.as_deref());
        if let Some(directory) = directory {
            script_directories::note(group.as_raw_nonzero().get().cast_unsigned(), directory);
        }
    }
}

/// Ends every server and client that is alive; those who wait for them clean up.
fn end_servers(signal: i32) {
    let all = live();
    TOLD.store(signal, Ordering::SeqCst);
    note_scripts(&all);
    for live in all.iter() {
        let _ = live.group.map(|group| kill_process_group(group, Signal::KILL));
        kill_of_run(live.run_id, std::process::id());
    }
}

/// Standard output is a pipe that nobody reads any more.
pub fn output_is_unread() -> bool {
    let output = stdout();
    let mut polled = [PollFd::new(&output, PollFlags::empty())];
    let looked = poll(&mut polled, Some(&Timespec::default()));
    looked.is_ok() && polled.iter().any(|polled| polled.revents().contains(PollFlags::ERR))
}

/// Ends this process as one that writes where nobody reads: by SIGPIPE, which Rust's programs begin with ignoring.
pub fn end_unread() -> ! {
    // SAFETY: the default action of the signal ends the process.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::raise(libc::SIGPIPE);
        libc::_exit(128 + libc::SIGPIPE);
    }
}

/// Undoes the blocking: for a child between fork and exec, which must not inherit it.
pub(super) fn unblock() {
    let set = set_of(|_| true);
    // SAFETY: the set is initialised; the call is async-signal-safe.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut()) };
}

/// This process has begun with ignoring the signal.
pub(super) fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: sigaction writes what the signal does now, and changes nothing; zeroes are an action.
    unsafe {
        let asked = libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
        asked == 0 && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Those of the signals for which `is_wanted` is true.
fn set_of(is_wanted: impl Fn(i32) -> bool) -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set before anything reads it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in SIGNALS.into_iter().filter(|signal| is_wanted(*signal)) {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}
