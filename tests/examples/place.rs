//! A place of its own for each test: what users have there, and what a shell says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::document::root;

/// Variables that belong to the run of this test.
const TOLD: &[&str] = &[
    "CARGO",
    "CARGO_ENCODED_RUSTFLAGS",
    "LD_LIBRARY_PATH",
    "MAKEFLAGS",
    "MAKELEVEL",
    "OUT_DIR",
    "RUSTFLAGS",
    "VERBOSE",
];

/// A directory outside of the source, in which nothing is written.
pub(crate) struct Place {
    directory: PathBuf,
    /// Goes with the test.
    _temporary: Option<tempfile::TempDir>,
}

/// What a shell has said, and whether it has succeeded.
pub(crate) struct Said {
    pub(crate) success: bool,
    /// Both streams.
    pub(crate) text: String,
}

impl Place {
    pub(crate) fn new() -> Place {
        let temporary = tempfile::tempdir().unwrap();
        Place::at(temporary.path().to_owned(), Some(temporary))
    }

    /// With a copy of an example project.
    pub(crate) fn with_example(name: &str) -> Place {
        let place = Place::new();
        copy(&root().join("fixtures/examples").join(name), &place.project());
        place
    }

    /// One that stays, for what takes long to build.
    pub(crate) fn lasting(name: &str) -> Place {
        Place::at(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), None)
    }

    fn at(directory: PathBuf, temporary: Option<tempfile::TempDir>) -> Place {
        let place = Place { directory, _temporary: temporary };
        fs::create_dir_all(place.directory.join("tmp")).unwrap();
        fs::create_dir_all(place.project()).unwrap();
        place
    }

    /// With the project, and `tmp` beside it.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where commands run.
    pub(crate) fn project(&self) -> PathBuf {
        self.directory.join("project")
    }

    /// A file of the project; one that is there already keeps its age, and so what was built from it.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.project().join(name);
        if fs::read_to_string(&path).is_ok_and(|there| there == text) {
            return;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A shell that finds the `layers` of this build.
    pub(crate) fn shell(&self) -> Command {
        let built = Path::new(env!("CARGO_BIN_EXE_layers")).parent().unwrap();
        let path = format!("{}:{}", built.display(), std::env::var("PATH").unwrap_or_default());
        let mut shell = Command::new("timeout");
        shell.args(["600", "sh", "-e", "-c"]).current_dir(self.project());
        shell.env("PATH", path).env("TMPDIR", self.directory.join("tmp"));
        // What make and cargo tell of the run that this test is part of. Some crates are built anew when it changes.
        let told = |name: &str| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || TOLD.contains(&name)
        };
        for (name, _) in std::env::vars().filter(|(name, _)| told(name)) {
            shell.env_remove(name);
        }
        shell
    }

    /// One in which cargo builds beside what this workspace has built.
    pub(crate) fn building(&self) -> Command {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let mut shell = self.shell();
        shell.env("CARGO_TARGET_DIR", target);
        shell
    }

    /// Runs these lines.
    pub(crate) fn run(&self, lines: &str) -> Said {
        Said::of(&self.shell().arg(lines).output().unwrap())
    }
}

impl Said {
    pub(crate) fn of(output: &Output) -> Said {
        let text = String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned();
        Said { success: output.status.success(), text }
    }

    #[track_caller]
    pub(crate) fn succeeds(&self, with: &[&str]) {
        assert!(self.success, "{}", self.text);
        self.contains(with);
    }

    #[track_caller]
    pub(crate) fn fails(&self, with: &[&str]) {
        assert!(!self.success, "{}", self.text);
        self.contains(with);
    }

    #[track_caller]
    fn contains(&self, all: &[&str]) {
        for one in all {
            assert!(self.text.contains(one), "`{one}` is missing in:\n{}", self.text);
        }
    }
}

/// Everything that is there: nobody builds an example project in its place.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
