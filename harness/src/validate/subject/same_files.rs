//! That the files of a subject are the same from the first case to the last: two builds of a module are two subjects.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::campaign::halt::Halt;

/// The files of the modules of a subject, as they were when the run began.
#[derive(Debug)]
pub(in crate::validate) struct Files(Vec<(PathBuf, Option<Identity>)>);

/// What tells one file, and one build of it, from another: device, inode, bytes, mode, and the time of its last change.
#[derive(Debug, PartialEq, Eq)]
struct Identity(u64, u64, u64, u32, (i64, i64));

impl Identity {
    fn of(found: &Metadata) -> Identity {
        Identity(found.dev(), found.ino(), found.len(), found.mode(), (found.mtime(), found.mtime_nsec()))
    }
}

impl Files {
    /// Looks at these files.
    pub(in crate::validate) fn of(paths: impl IntoIterator<Item = PathBuf>) -> Files {
        Files(paths.into_iter().map(|path| (path.clone(), look(&path))).collect())
    }

    /// Ends the run where one of them is no longer what it was.
    pub(in crate::validate) fn changed(&self) -> Option<Halt> {
        self.0.iter().any(|(path, before)| look(path) != *before).then_some(Halt::Changed)
    }
}

fn look(path: &Path) -> Option<Identity> {
    path.metadata().ok().as_ref().map(Identity::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_anew_replaced_or_removed_has_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("module.so");
        std::fs::write(&path, "one").unwrap();
        let files = Files::of([path.clone(), directory.path().join("none")]);
        assert_eq!(files.changed(), None);
        std::fs::write(&path, "longer").unwrap();
        assert_eq!(files.changed(), Some(Halt::Changed));
        let files = Files::of([path.clone()]);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(files.changed(), Some(Halt::Changed));
    }
}
