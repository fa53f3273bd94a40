//! Where the cases of findings are kept when nobody has named a place: a directory of the user's own among the system's
//! temporary files, one for each subject, so that a run takes the place of the one before.

use std::collections::hash_map::DefaultHasher;
use std::fs::DirBuilder;
use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::failure::{Failure, working_directory};
use crate::outcome::Exit;
use crate::server::removal::remove_all;

/// That of this subject, as it is named in the working directory. What was in it goes.
pub(super) fn directory(subject: &str) -> Result<PathBuf, Failure> {
    let user = rustix::process::geteuid().as_raw();
    let base = std::env::temp_dir().join(format!("layers-repro-{user}"));
    let cannot = |error: io::Error| {
        let shown = base.display();
        Failure::new(Exit::Usage, format!("cannot keep cases in `{shown}`, so say where (--repro): {error}"))
    };
    own(&base, user).map_err(cannot)?;
    let mut hasher = DefaultHasher::new();
    (subject, working_directory()?).hash(&mut hasher);
    let directory = base.join(format!("{:016x}", hasher.finish()));
    match remove_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot(error)),
        _ => Ok(directory),
    }
}

/// Makes it, or finds it to be this user's and nobody else's: everybody can write to its parent.
fn own(path: &Path, user: u32) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => return other,
    }
    let found = path.symlink_metadata()?;
    if found.is_dir() && found.uid() == user && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(io::Error::other("it is there already, and not a directory of yours alone"))
}
