//! The private directory of a run, which goes with it; and those that runs of dead harnesses have left.
//!
//! A directory is locked for as long as its harness lives. The next harness removes those of the same user that nobody
//! holds the lock of, however old or new they are.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};

use super::descent::session;
use super::removal::remove_all;
use super::script_directories;

use crate::foreign::bounded;
use crate::random::random;

/// Begins the name of each: then follow the number of the session and what makes the name the only one.
pub(super) const PREFIX: &str = "layers-";
/// In the directory of a run with `--run`: where the server listens, in a directory that it has made by itself.
pub(super) const CAPTIVE: &str = "captive";
/// Lies in each directory of a run: no other that is named like one is swept.
const SIGN: &str = ".layers-run";
/// Bytes of the path of a base, at most: a socket in the directory of a run has a path of at most 107.
const LONGEST_BASE: usize = 60;

/// The directory of a run; it is removed when this is dropped.
#[derive(Debug)]
pub(super) struct RunDirectory {
    path: PathBuf,
    _lock: OwnedFd,
}

impl RunDirectory {
    /// Makes it among the temporary files, locked.
    pub(super) fn make(names: Names) -> io::Result<RunDirectory> {
        let (base, prefix) = (base(names), prefix_of(session()));
        loop {
            let path = base.join(format!("{prefix}{:08x}", random() as u32));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made.map_err(|source| no_directory(base.clone(), source))?,
            }
            // Between the two lines another harness may have taken it for one of a dead harness, and then it is gone.
            if let Some(lock) = lock(&path)
                && path.exists()
            {
                // Where it cannot be made the directory stays if the harness and its guard are killed, and nothing worse.
                let _ = std::fs::write(path.join(SIGN), "");
                return Ok(RunDirectory { path, _lock: lock });
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Nothing can be made where temporary files are.
#[derive(Debug, thiserror::Error)]
#[error("no directory can be made in `{}`, {}: {source}", .base.display(), whose(.base))]
struct NoDirectory {
    base: PathBuf,
    source: io::Error,
}

fn no_directory(base: PathBuf, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), NoDirectory { base, source })
}

/// Why the temporary files are there.
fn whose(base: &Path) -> &'static str {
    match std::env::var_os("TMPDIR") {
        Some(named) if Path::new(&named) == base => "which TMPDIR names",
        Some(_) => "where temporary files are if TMPDIR names no place that all servers can use",
        None => "where temporary files are if TMPDIR names no other place",
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        remove(self.path());
    }
}

/// What the path of a directory may have in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Any text without control characters.
    Text,
    /// What is a word in the configuration of a server, and in its commands, as it is.
    Words,
}

impl Names {
    fn allow(self, text: &str) -> bool {
        match self {
            Names::Text => !text.contains(char::is_control),
            Names::Words => text.chars().all(|char| char.is_ascii_alphanumeric() || "/._+-".contains(char)),
        }
    }
}

/// Where the directories of runs are: TMPDIR, or /tmp where the path of a socket in it would be too long, or has in it what
/// it must not.
fn base(names: Names) -> PathBuf {
    let named = std::env::temp_dir();
    let named = std::path::absolute(&named).unwrap_or(named);
    let short = named.as_os_str().as_bytes().len() <= LONGEST_BASE;
    match short && named.to_str().is_some_and(|text| names.allow(text)) {
        true => named,
        false => PathBuf::from("/tmp"),
    }
}

/// All of these places, for those who look for what was left.
pub(super) fn bases() -> Vec<PathBuf> {
    let mut bases = vec![base(Names::Text), base(Names::Words)];
    bases.dedup();
    bases
}

fn prefix_of(session: u32) -> String {
    format!("{PREFIX}{session:08x}-")
}

/// Locks a directory, unless somebody else has, or it is something else by now.
fn lock(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let directory = open(path, flags, Mode::empty()).ok()?;
    flock(&directory, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(directory)
}

/// Removes the directories of this session, locked or not.
pub(super) fn remove_of_session(session: u32, bases: &[PathBuf]) {
    let prefix = prefix_of(session);
    let is_of_session = |path: &PathBuf| name_of(path).is_some_and(|name| name.starts_with(&prefix));
    for path in bases.iter().flat_map(|base| run_directories(base)).filter(is_of_session) {
        remove(&path);
    }
}

/// Removes the directories that runs of dead harnesses have left: those of this user that nobody has locked.
pub(super) fn sweep() {
    let user = rustix::process::geteuid().as_raw();
    for path in bases().iter().flat_map(|base| run_directories(base)) {
        let is_own =
            |path: &Path| path.symlink_metadata().is_ok_and(|found| found.is_dir() && found.uid() == user);
        if is_own(&path)
            && is_signed(&path)
            && let Some(_lock) = lock(&path)
        {
            remove(&path);
        }
    }
}

/// A run has made it: its sign is there, or nothing is yet.
fn is_signed(path: &Path) -> bool {
    let is_empty = || std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    path.join(SIGN).symlink_metadata().is_ok() || is_empty()
}

/// What is named as directories of runs are: the prefix, eight hexadecimal digits, a hyphen, and more.
fn run_directories(base: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(base).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| {
        let rest = name_of(path).and_then(|name| name.strip_prefix(PREFIX));
        let parts = rest.and_then(|rest| rest.split_once('-'));
        parts.is_some_and(|(session, more)| {
            session.len() == 8 && session.chars().all(|digit| digit.is_ascii_hexdigit()) && !more.is_empty()
        })
    })
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// Removes the directory of a run whose processes are gone, and what its server has made elsewhere.
pub(super) fn remove(directory: &Path) {
    remove_elsewhere(directory);
    let _ = remove_all(directory);
}

/// Removes what the server of this run has made elsewhere.
fn remove_elsewhere(directory: &Path) {
    remove_captive(directory);
    script_directories::remove(directory);
}

/// `-U -` makes a directory of its own, which a server that was killed leaves behind.
fn remove_captive(directory: &Path) {
    let Ok(told) = bounded::found_text(&directory.join(CAPTIVE)) else { return };
    let socket = Path::new(told.trim_end_matches('\n'));
    // Only what nbdkit itself names so: this is what a script wrote.
    let made = socket.parent().filter(|parent| {
        parent.parent() == Some(Path::new("/tmp"))
            && name_of(parent).is_some_and(|name| name.starts_with("nbdkit"))
    });
    if let Some(made) = made {
        let _ = std::fs::remove_file(socket);
        let _ = std::fs::remove_dir(made);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_a_dead_harness_is_swept_and_that_of_a_live_one_stays() {
        let base = tempfile::tempdir().unwrap();
        let (dead, live) = (base.path().join("layers-0000aaaa-x"), base.path().join("layers-0000bbbb-y"));
        let others = ["layers-repro-0", "layers-0000aaaa", "layers-0000000g-z", "other"];
        for path in [&dead, &live] {
            std::fs::create_dir(path).unwrap();
        }
        for name in others {
            std::fs::create_dir(base.path().join(name)).unwrap();
        }
        let held = lock(&live).unwrap();
        let found: Vec<_> = run_directories(base.path()).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(lock(&live).is_none() && lock(&dead).is_some());
        drop(held);
        remove_of_session(0xaaaa, &[base.path().to_owned()]);
        assert!(!dead.exists() && live.exists());
    }

    #[test]
    fn a_configuration_gets_words_only() {
        assert!(Names::Text.allow("/tmp/it's a \"b\"") && !Names::Words.allow("/tmp/it's"));
        assert!(Names::Words.allow("/var/tmp/a-b_c.d") && !Names::Words.allow("/tmp/ä"));
        assert!(!Names::Text.allow("/tmp/a\nb"));
    }

    #[test]
    fn only_a_directory_of_nbdkits_own_is_removed_for_it() {
        let (run, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let socket = other.path().join("socket");
        std::fs::write(&socket, "").unwrap();
        std::fs::write(run.path().join(CAPTIVE), format!("{}\n", socket.display())).unwrap();
        remove_captive(run.path());
        assert!(socket.exists());
        let made = tempfile::Builder::new().prefix("nbdkit").tempdir_in("/tmp").unwrap().keep();
        let socket = made.join("socket");
        std::fs::write(&socket, "").unwrap();
        std::fs::write(run.path().join(CAPTIVE), format!("{}\n", socket.display())).unwrap();
        remove_captive(run.path());
        assert!(!made.exists());
    }
}
