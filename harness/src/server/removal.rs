//! Removes what a subject may have made, however deep it lies.
//!
//! `std::fs::remove_dir_all` goes down by recursion and holds a descriptor for each level, so that a subject decides how much
//! stack and how many descriptors it takes. Here nothing lies deeper than two levels: a directory that is not empty gives its own
//! directories to the top before it goes.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags, chmodat, open, openat, renameat_with, unlinkat};
use rustix::io::Errno;

use crate::random::random;

const DIRECTORY: OFlags =
    OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::RDONLY).union(OFlags::CLOEXEC);

/// Removes a directory with all that is below it. Permissions of its directories do not keep it; links are not followed.
///
/// # Errors
///
/// What keeps the first thing that cannot be removed; everything else is removed.
pub(crate) fn remove_all(directory: &Path) -> io::Result<()> {
    match open(directory, DIRECTORY, Mode::empty()) {
        Ok(top) => empty(&top)?,
        Err(Errno::ACCESS) => {
            std::fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
            empty(&open(directory, DIRECTORY, Mode::empty())?)?;
        }
        Err(error) => return Err(error.into()),
    }
    std::fs::remove_dir(directory)
}

/// Removes what is in this directory, round after round: each takes one level away from what is deep.
fn empty(top: &OwnedFd) -> io::Result<()> {
    // By its descriptor, which is a directory's: no link can stand in for it.
    let _ = rustix::fs::fchmod(top, Mode::RWXU);
    loop {
        let (mut gone, mut kept) = (false, None);
        for_each(top.as_fd(), |name| match remove(top, name) {
            Ok(()) => gone = true,
            Err(error) => kept = kept.or(Some(error)),
        })?;
        match (gone, kept) {
            (true, _) => {}
            (false, None) => return Ok(()),
            (false, Some(error)) => return Err(error.into()),
        }
    }
}

/// Removes an entry of the top; a directory gives its own directories to the top before.
fn remove(top: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    match remove_shallow(top.as_fd(), name) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        other => return other,
    }
    let inner = enter(top.as_fd(), name)?;
    let mut kept = None;
    for_each(inner.as_fd(), |below| {
        let removed = match remove_shallow(inner.as_fd(), below) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => rise(&inner, below, top),
            other => other,
        };
        kept = kept.or(removed.err());
    })?;
    kept.map_or_else(|| unlinkat(top, name, AtFlags::REMOVEDIR), Err)
}

/// Removes a file, or a directory that is empty.
fn remove_shallow(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => unlinkat(parent, name, AtFlags::REMOVEDIR),
        other => other,
    }
}

/// Moves a directory to the top. That changes its `..`, which takes the right to write to it.
fn rise(from: &OwnedFd, name: &CStr, top: &OwnedFd) -> Result<(), Errno> {
    let _ = chmodat(from, name, Mode::RWXU, AtFlags::empty());
    renameat_with(from, name, top, format!("deep-{:016x}", random()), RenameFlags::NOREPLACE)
}

/// Opens a directory, into which nobody may look perhaps.
fn enter(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    match openat(parent, name, DIRECTORY, Mode::empty()) {
        Err(Errno::ACCESS) => {
            chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            openat(parent, name, DIRECTORY, Mode::empty())
        }
        other => {
            let _ = other.as_ref().map(|inner| rustix::fs::fchmod(inner, Mode::RWXU));
            other
        }
    }
}

/// Calls this for the name of each entry that a directory has now.
fn for_each(directory: BorrowedFd<'_>, mut with: impl FnMut(&CStr)) -> Result<(), Errno> {
    let names: Vec<_> = Dir::read_from(directory)?
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_owned())
        .filter(|name| !matches!(name.to_bytes(), b"." | b".."))
        .collect();
    names.iter().for_each(|name| with(name));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// Makes directories below each other, more than a path has room for.
    fn dig(top: &Path, levels: usize) {
        let mut here = open(top, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..levels {
            rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
            here = openat(&here, "d", DIRECTORY, Mode::empty()).unwrap();
        }
        rustix::fs::openat(&here, "file", OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR)
            .unwrap();
    }

    #[test]
    fn what_is_deep_full_locked_or_linked_goes() {
        let around = tempfile::tempdir().unwrap();
        let (top, other) = (around.path().join("top"), around.path().join("other"));
        fs::create_dir_all(top.join("a/b/c")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("kept"), "").unwrap();
        symlink(&other, top.join("a/link")).unwrap();
        fs::write(top.join("a/b/c/file"), "").unwrap();
        dig(&top, 3_000);
        fs::set_permissions(top.join("a/b"), Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(&top, Permissions::from_mode(0o500)).unwrap();
        remove_all(&top).unwrap();
        assert!(!top.exists() && other.join("kept").exists());
        assert_eq!(remove_all(&top).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
