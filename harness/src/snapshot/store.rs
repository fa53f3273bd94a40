//! Where the trees of one stack are stored: files of a directory that begin with its name, as insta names them.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::stored::{FormatError, Stored};

use crate::foreign::bounded;

/// What a stored file ends in.
const STORED: &str = ".snap";
/// What insta adds for one that waits to be accepted.
const PENDING: &str = ".new";

/// The files of one stack.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
    name: String,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refuses.
    #[error("cannot {what} `{path}`: {source}")]
    System {
        /// Read, write, remove.
        what: &'static str,
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// It is something else.
    #[error("`{path}` is no snapshot: {source}; remove it, or restore it, and try again")]
    Format {
        /// The file.
        path: String,
        /// What is wrong.
        source: FormatError,
    },
    /// A name that would not be a part of a file name.
    #[error("`{0}` cannot begin the name of a file: use letters, digits, `.`, `-` and `_` (but not two)")]
    Name(String),
}

impl Store {
    /// The files of this directory that begin with `name` and two underlines.
    ///
    /// # Errors
    ///
    /// The name is not one for a file.
    pub fn new(directory: impl Into<PathBuf>, name: impl Into<String>) -> Result<Store, StoreError> {
        let name = name.into();
        let letter = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        if name.is_empty() || name.starts_with('.') || name.contains("__") || !name.chars().all(letter) {
            return Err(StoreError::Name(name));
        }
        Ok(Store { directory: directory.into(), name })
    }

    /// The file of this scenario.
    pub fn file(&self, scenario: &str) -> PathBuf {
        self.directory.join(format!("{}__{}{STORED}", self.name, scenario.replace('/', ".")))
    }

    /// The file that holds another tree of this scenario, for `cargo insta` to show.
    pub fn pending(&self, scenario: &str) -> PathBuf {
        self.directory.join(format!("{}__{}{STORED}{PENDING}", self.name, scenario.replace('/', ".")))
    }

    /// What is stored of this scenario.
    pub(super) fn read(&self, scenario: &str) -> Result<Option<Stored>, StoreError> {
        let path = self.file(scenario);
        let text = match bounded::found_text(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(system("read", &path, error)),
        };
        let stored = Stored::read(&text);
        stored.map(Some).map_err(|source| StoreError::Format { path: path.display().to_string(), source })
    }

    /// Stores this tree; nothing of the scenario is pending any more.
    pub(super) fn accept(&self, scenario: &str, tree: &Stored) -> Result<(), StoreError> {
        self.write(&self.file(scenario), tree)?;
        self.settle(scenario)
    }

    /// Leaves this tree for somebody to accept.
    pub(super) fn propose(&self, scenario: &str, tree: &Stored) -> Result<(), StoreError> {
        self.write(&self.pending(scenario), tree)
    }

    /// Nothing of the scenario is pending any more.
    pub(super) fn settle(&self, scenario: &str) -> Result<(), StoreError> {
        remove(&self.pending(scenario))
    }

    /// Drops a stored file.
    pub(super) fn drop_file(&self, path: &Path) -> Result<(), StoreError> {
        remove(path)
    }

    /// Puts a file in the place of what is there: it is whole or not at all, and a link is not followed.
    fn write(&self, path: &Path, tree: &Stored) -> Result<(), StoreError> {
        std::fs::create_dir_all(&self.directory).map_err(|error| system("make", &self.directory, error))?;
        let written = tempfile::NamedTempFile::new_in(&self.directory).and_then(|mut file| {
            file.as_file().set_permissions(Permissions::from_mode(0o644))?;
            file.write_all(tree.text().as_bytes())?;
            Ok(file.persist(path)?)
        });
        written.map(drop).map_err(|error| system("write", path, error))
    }

    /// All stored files of this stack, by name.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let listed = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries.collect::<Result<Vec<_>, _>>(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let entries = listed.map_err(|error| system("read", &self.directory, error))?;
        let prefix = format!("{}__", self.name);
        let ours = |name: &str| name.starts_with(&prefix) && name.ends_with(STORED);
        let mut files: Vec<PathBuf> = entries
            .iter()
            .filter(|entry| entry.file_name().to_str().is_some_and(ours))
            .map(std::fs::DirEntry::path)
            .collect();
        files.sort();
        Ok(files)
    }
}

fn system(what: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::System { what, path: path.display().to_string(), source }
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(system("remove", path, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_beginning_of_a_file_name() {
        assert_eq!(
            Store::new("d", "cow-memory").unwrap().file("leave/knock"),
            Path::new("d/cow-memory__leave.knock.snap")
        );
        for wrong in ["", ".hidden", "a/b", "a__b", "ä"] {
            assert!(matches!(Store::new("d", wrong), Err(StoreError::Name(_))), "{wrong}");
        }
    }
}
