//! How close a server has come to the ends of memory and of disks: what goes wrong there is nobody's fault.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::statvfs;
use rustix::process::{Resource, getrlimit};

/// Memory that a server may want at once: the buffers of the largest requests, and stacks and arenas of some threads.
const MEMORY: u64 = 512 << 20;
/// Room on a disk that a server may want at once: the largest request, twice.
const ROOM: u64 = 64 << 20;
/// Files that a server may want to make at once.
const FILES: u64 = 16;

/// Whoever looks every few milliseconds, and then not for so long, was stopped, or had no processor.
const PAUSE: Duration = Duration::from_secs(1);

/// The least headroom that was seen while a server ran.
#[derive(Clone, Debug)]
pub(crate) struct Headroom {
    /// What a process may have, of this kind, and what the server had at most.
    memory: Vec<(&'static Limit, u64, u64)>,
    places: Vec<Place>,
    /// When it was looked last, and the longest time between two looks.
    last: Instant,
    longest: Duration,
}

/// A limit on the memory of a process.
#[derive(Debug)]
struct Limit {
    resource: Resource,
    /// In /proc/PID/status, proc_pid_status(5).
    key: &'static str,
    /// What the shell calls it.
    option: &'static str,
}

const LIMITS: [Limit; 2] = [
    Limit { resource: Resource::As, key: "VmPeak:", option: "ulimit -v" },
    Limit { resource: Resource::Data, key: "VmData:", option: "ulimit -d" },
];

/// Address space that this command needs by itself, and for each case that it plays: a trace, buffers of the largest requests.
const OWN: u64 = 1 << 30;
const EACH: u64 = 512 << 20;

/// Makes sure that this command has address space enough for so many cases at a time: what it cannot have would end it in the
/// middle.
pub(crate) fn look_at_own(jobs: usize) -> io::Result<()> {
    let wanted = EACH.saturating_mul(jobs as u64).saturating_add(OWN);
    match getrlimit(Resource::As).current.filter(|most| *most < wanted) {
        Some(most) => Err(io::Error::new(
            ErrorKind::OutOfMemory,
            format!(
                "a process may have {most} bytes of memory (`ulimit -v`), and {jobs} cases at a time (--jobs) want {wanted}"
            ),
        )),
        None => Ok(()),
    }
}

/// A directory in which a server makes files.
#[derive(Clone, Debug)]
struct Place {
    path: PathBuf,
    /// Bytes and files that were free when the fewest were.
    least: Option<(u64, u64)>,
}

impl Headroom {
    /// Begins to look, for a server that makes its files in the directory of its run, and its plugins' in that of temporary
    /// files.
    pub(crate) fn new(run: Option<&Path>) -> Headroom {
        let limits = LIMITS.iter().filter_map(|limit| Some((limit, getrlimit(limit.resource).current?, 0)));
        let temporary = std::env::var_os("TMPDIR").map_or(PathBuf::from("/var/tmp"), PathBuf::from);
        let paths = run.map(Path::to_owned).into_iter().chain([temporary]);
        let places = paths.map(|path| Place { path, least: None }).collect();
        Headroom { memory: limits.collect(), places, last: Instant::now(), longest: Duration::ZERO }
    }

    /// Looks: at what the server has by this `/proc/PID/status`, and at what is free.
    pub(crate) fn look(&mut self, status: &str) {
        self.longest = self.longest.max(self.last.elapsed());
        self.last = Instant::now();
        for (limit, _, peak) in &mut self.memory {
            *peak = bytes(status, limit.key).unwrap_or_default().max(*peak);
        }
        for place in &mut self.places {
            place.look();
        }
    }

    /// Says what there was too little of, if anything, and what gives more.
    pub(crate) fn shortage(&self) -> Option<String> {
        let memory = self.memory.iter().find(|(_, most, peak)| most.saturating_sub(*peak) < MEMORY);
        let memory = memory.map(|(limit, most, peak)| {
            let peak = peak >> 20;
            format!("a process may have {most} bytes of memory (`{}`), and it had {peak} MiB", limit.option)
        });
        let room = || self.places.iter().find_map(Place::shortage);
        memory.or_else(room).or_else(|| {
            let paused = self.longest > PAUSE;
            paused
                .then(|| format!("nothing ran for {:.1} s, this command neither", self.longest.as_secs_f64()))
        })
    }
}

impl Place {
    fn look(&mut self) {
        let Ok(found) = statvfs(&self.path) else { return };
        let bytes = found.f_bavail.saturating_mul(found.f_frsize);
        // Some file systems do not count files.
        let files = if found.f_files == 0 { u64::MAX } else { found.f_favail };
        let (least_bytes, least_files) = self.least.unwrap_or((u64::MAX, u64::MAX));
        self.least = Some((bytes.min(least_bytes), files.min(least_files)));
    }

    fn shortage(&self) -> Option<String> {
        let (bytes, files) = self.least?;
        let what = match (bytes < ROOM, files < FILES) {
            (true, _) => format!("{} KiB", bytes >> 10),
            (_, true) => format!("{files} files"),
            _ => return None,
        };
        let place = self.path.display();
        Some(format!(
            "there was room for {what} more in `{place}`; TMPDIR names another place for temporary files"
        ))
    }
}

/// The number of bytes behind this key.
pub(crate) fn bytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headroom(most: u64) -> Headroom {
        let (last, longest) = (Instant::now(), Duration::ZERO);
        Headroom { memory: vec![(&LIMITS[0], most, 0)], places: Vec::new(), last, longest }
    }

    #[test]
    fn a_server_that_has_come_close_to_its_limit_was_short_of_memory() {
        let status = "Name:\tnbdkit\nVmPeak:\t  524288 kB\nVmData:\t 1 kB\n";
        let (mut wide, mut narrow) = (headroom(2 << 30), headroom(800 << 20));
        wide.look(status);
        narrow.look(status);
        assert_eq!(wide.shortage(), None);
        let said = narrow.shortage().unwrap();
        assert_eq!(said, "a process may have 838860800 bytes of memory (`ulimit -v`), and it had 512 MiB");
        // What was never seen may have come from nothing to the limit.
        assert!(headroom(256 << 20).shortage().is_some());
    }

    #[test]
    fn a_time_in_which_nothing_ran_is_told() {
        let mut headroom = headroom(2 << 30);
        headroom.look("");
        assert_eq!(headroom.shortage(), None);
        headroom.longest = Duration::from_millis(3200);
        assert!(headroom.shortage().is_some_and(|said| said.contains("3.2 s")));
    }

    #[test]
    fn a_disk_that_was_full_once_was_full() {
        let mut place = Place { path: PathBuf::from("/proc"), least: Some((1 << 30, 1 << 20)) };
        assert_eq!(place.shortage(), None);
        // A file system without room.
        place.look();
        assert!(place.shortage().is_some_and(|said| said.contains("0 KiB more in `/proc`")));
        let few = Place { least: Some((1 << 30, 3)), ..place };
        assert!(few.shortage().is_some_and(|said| said.contains("3 files more")));
    }
}
