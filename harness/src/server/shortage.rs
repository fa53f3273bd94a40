//! That a server could not have what it needs is the system's doing, and nobody's fault.

use std::fmt;
use std::fs::read_to_string;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use super::directory;

/// The line in which a server says that the system gives it no more processes, threads or memory.
pub(crate) fn shortage(printed: &str) -> Option<&str> {
    let calls = ["pthread_create", "fork", "clone", "socketpair", "accept"];
    let errors = [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE].map(io::Error::from_raw_os_error);
    let texts = errors.map(|error| error.to_string());
    let says = |line: &&str| {
        // As strerror has it, without the number that Rust adds.
        let has = |text: &String| text.split(" (os error").next().is_some_and(|text| line.contains(text));
        // By perror, or by nbdkit_error on a thread that serves nobody yet.
        let said = line.rsplit("nbdkit: ").next().unwrap_or_default();
        let said = said.strip_prefix("error: ").unwrap_or(said);
        let called = |call: &str| said.starts_with(call);
        calls.iter().any(|call| called(call)) && texts.iter().any(has)
    };
    printed.lines().find(says)
}

/// The line in which a server says that there is no room for what it makes in this directory.
pub(crate) fn no_room<'a>(printed: &'a str, directory: &Path) -> Option<&'a str> {
    let directory = directory.to_str()?;
    let errors = [libc::ENOSPC, libc::EDQUOT, libc::EROFS].map(io::Error::from_raw_os_error);
    let texts = errors.map(|error| error.to_string());
    let has =
        |line: &str, text: &String| text.split(" (os error").next().is_some_and(|text| line.contains(text));
    printed.lines().find(|line| line.contains(directory) && texts.iter().any(|text| has(line, text)))
}

/// The line in which a server says that there is no room for what it makes in the directory of its run.
pub(crate) fn no_room_for_run(printed: &str) -> Option<&str> {
    directory::bases().iter().find_map(|base| no_room(printed, &base.join(directory::PREFIX)))
}

/// There is no room for what was to be written.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(number(error), Some(libc::ENOSPC | libc::EDQUOT))
}

/// The number of this error, or of the one that it comes from.
pub(crate) fn number(error: &io::Error) -> Option<i32> {
    let cause = || error.get_ref()?.source()?.downcast_ref::<io::Error>()?.raw_os_error();
    error.raw_os_error().or_else(cause)
}

/// An error of the system, with the limit that it comes from and how to raise that.
pub(crate) struct Explained<'a>(pub(crate) &'a io::Error);

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let (has, limit, option) = match number(self.0) {
            Some(libc::EMFILE) => ("a process may have so many files open", Resource::Nofile, "-n"),
            Some(libc::EAGAIN) => ("a user may have so many processes and threads", Resource::Nproc, "-u"),
            Some(libc::ENOMEM) => ("a process may have so many bytes of memory", Resource::As, "-v"),
            Some(libc::EFBIG) => {
                ("a file, and memory like one, may have so many bytes", Resource::Fsize, "-f")
            }
            Some(libc::ENOSPC | libc::EDQUOT | libc::EROFS) => {
                let place = directory::bases();
                let place = place.first().map_or(Path::new("/tmp"), PathBuf::as_path).display();
                return write!(f, "; temporary files are in `{place}`, and TMPDIR names another place");
            }
            _ => return Ok(()),
        };
        match getrlimit(limit).current {
            Some(most) => write!(f, "; {has}: {most} (`ulimit {option}`)"),
            // The limit of a container or of the machine.
            None => Ok(()),
        }
    }
}

/// Memory without which no server begins.
const LEAST: u64 = 1 << 30;

/// Names a limit of memory under which a server may fail to begin, if there is one.
pub(crate) fn lowest() -> Option<String> {
    [(Resource::As, "-v"), (Resource::Data, "-d"), (Resource::Stack, "-s")].into_iter().find_map(
        |(limit, option)| {
            let least = if limit == Resource::Stack { 1 << 20 } else { LEAST };
            let most = getrlimit(limit).current.filter(|most| *most < least)?;
            Some(format!("a process may have so many bytes of memory: {most}, `ulimit {option}`"))
        },
    )
}

/// Threads that a few servers side by side may want, each with two clients.
const ENOUGH: u64 = 96;

/// Says that few processes and threads are left to this user, or to this container, so that a server may have had too few of
/// them without having said so: in the background nobody hears it.
pub(crate) fn few_threads() -> Option<String> {
    let of_user = || {
        let most = getrlimit(Resource::Nproc).current.filter(|_| !rustix::process::geteuid().is_root())?;
        Some((most, threads_of_user(), "a user (`ulimit -u`)"))
    };
    let of_group = || {
        let (most, used) = groups()
            .iter()
            .filter_map(|group| pids(group))
            .min_by_key(|(most, used)| most.saturating_sub(*used))?;
        Some((most, used, "this control group (pids.max)"))
    };
    [of_user(), of_group()]
        .into_iter()
        .flatten()
        .find(|(most, used, _)| most.saturating_sub(*used) < ENOUGH)
        .map(|(most, used, whose)| {
            format!("{whose} may have {most} processes and threads, and has {used} without this server's")
        })
}

/// How many threads all processes of this user have.
fn threads_of_user() -> u64 {
    let user = rustix::process::getuid().as_raw().to_string();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let threads = |status: String| -> Option<u64> {
        let value =
            |key| status.lines().find_map(|line| line.strip_prefix(key))?.split_ascii_whitespace().next();
        (value("Uid:")? == user).then(|| value("Threads:")?.parse().ok())?
    };
    entries.filter_map(|entry| read_to_string(entry.path().join("status")).ok().and_then(threads)).sum()
}

/// The control group of this process and those around it (cgroups(7), version 2).
fn groups() -> Vec<PathBuf> {
    let own = read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    Path::new("/sys/fs/cgroup").join(path).ancestors().map(Path::to_owned).collect()
}

/// How many threads there may be in this group at most, and how many there are.
fn pids(group: &Path) -> Option<(u64, u64)> {
    let number = |name| read_to_string(group.join(name)).ok()?.trim().parse().ok();
    Some((number("pids.max")?, number("pids.current")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_there_is_no_room_in_the_directory_of_a_run_is_no_fault_of_a_module() {
        let run = Path::new("/tmp/layers-1-x");
        let of_server = "nbdkit: /tmp/layers-1-x/socket: No space left on device";
        assert_eq!(no_room(&format!("{of_server}\n"), run), Some(of_server));
        assert_eq!(no_room("nbdkit: error: /disk: No space left on device", run), None);
        assert_eq!(no_room("nbdkit: /tmp/layers-1-x/socket: Permission denied", run), None);
    }

    #[test]
    fn an_error_of_a_limit_names_it() {
        let said = |number| Explained(&io::Error::from_raw_os_error(number)).to_string();
        let files = getrlimit(Resource::Nofile).current.unwrap_or_default();
        assert!(said(libc::EMFILE).ends_with(&format!("{files} (`ulimit -n`)")), "{}", said(libc::EMFILE));
        assert_eq!(said(libc::ENOENT), io::Error::from_raw_os_error(libc::ENOENT).to_string());
    }

    #[test]
    fn the_limit_of_a_control_group_is_read() {
        let group = tempfile::tempdir().unwrap();
        std::fs::write(group.path().join("pids.current"), "7\n").unwrap();
        std::fs::write(group.path().join("pids.max"), "max\n").unwrap();
        assert_eq!(pids(group.path()), None);
        std::fs::write(group.path().join("pids.max"), "20\n").unwrap();
        assert_eq!(pids(group.path()), Some((20, 7)));
        assert!(threads_of_user() > 0 && groups().contains(&PathBuf::from("/sys/fs/cgroup")));
    }

    #[test]
    fn a_line_of_the_server_tells_of_a_shortage_and_one_of_a_module_does_not() {
        let of_server = "nbdkit: pthread_create: Resource temporarily unavailable";
        assert_eq!(shortage(&format!("nbdkit: debug: x\n{of_server}\n")), Some(of_server));
        let of_listener = "nbdkit: error: pthread_create: Resource temporarily unavailable";
        assert_eq!(shortage(of_listener), Some(of_listener));
        assert_eq!(shortage("nbdkit: error: layers: Resource temporarily unavailable"), None);
        assert_eq!(shortage("nbdkit: pthread_create: Invalid argument"), None);
    }
}
