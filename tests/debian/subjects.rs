//! The plugins and filters that Debian packages: the table in `fixtures/debian`, and making what each of them needs.

#![allow(clippy::unwrap_used, dead_code, reason = "what uses it fails by panicking, and uses a part of it")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use layers::server::nbdkit::Nbdkit;
use serde::Deserialize;
use tempfile::TempDir;

/// `fixtures/debian/subjects.toml`, which says what each key means.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    pub(crate) packages: Vec<String>,
    pub(crate) subject: Vec<Subject>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Subject {
    pub(crate) module: String,
    #[serde(default)]
    words: Vec<String>,
    prepare: Option<String>,
    beside: Option<String>,
    #[serde(default)]
    pub(crate) findings: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) sometimes: BTreeMap<String, String>,
    pub(crate) changes: Option<String>,
    pub(crate) not_compared: Option<String>,
    #[serde(default)]
    pub(crate) one_client: bool,
    pub(crate) not_run: Option<String>,
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fixtures/debian")
}

pub(crate) fn table() -> Table {
    toml::from_str(&std::fs::read_to_string(here().join("subjects.toml")).unwrap()).unwrap()
}

impl Subject {
    /// One that needs nothing but these words.
    pub(crate) fn of(words: &[&str]) -> Subject {
        Subject { words: words.iter().map(|word| (*word).to_owned()).collect(), ..Subject::default() }
    }

    /// What people call it: `memory`, or `cow filter`.
    pub(crate) fn name(&self) -> String {
        let stem = self.module.trim_start_matches("nbdkit-").trim_end_matches(".so");
        match stem.strip_suffix("-filter") {
            Some(filter) => format!("{filter} filter"),
            None => stem.trim_end_matches("-plugin").to_owned(),
        }
    }

    /// The heading in docs/findings.md that explains this finding.
    pub(crate) fn explained(&self, id: &str) -> Option<&String> {
        self.findings.get(id).or_else(|| self.sometimes.get(id))
    }

    /// The words for people, who see where a directory or a file of this project belongs.
    pub(crate) fn shown(&self) -> String {
        let quoted = |word: &String| match word.contains([' ', '$', '(']) {
            true => format!("'{}'", word.replace('\'', "")),
            false => word.clone(),
        };
        let all: Vec<String> = self.words.iter().map(quoted).collect();
        all.join(" ").replace("{dir}/", "").replace("{here}", "fixtures/debian")
    }

    /// Makes what it needs, in a directory of its own.
    pub(crate) fn prepare(&self) -> Prepared {
        let directory = tempfile::Builder::new().prefix("layers-debian-").tempdir().unwrap();
        let fill = |text: &String| {
            text.replace("{dir}", directory.path().to_str().unwrap())
                .replace("{here}", here().to_str().unwrap())
        };
        if let Some(script) = &self.prepare {
            let output = shell(&fill(script), directory.path()).output().unwrap();
            assert!(output.status.success(), "{}: {}", self.module, String::from_utf8_lossy(&output.stderr));
        }
        let beside = self.beside.as_ref().map(|script| Beside::start(&fill(script), directory.path()));
        let words = self.words.iter().map(fill).collect();
        Prepared { words, beside, directory }
    }
}

fn shell(script: &str, directory: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A subject that can be started.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// As on the server's command line.
    pub(crate) words: Vec<String>,
    beside: Option<Beside>,
    directory: TempDir,
}

/// What runs beside a subject, for as long as this value lives.
#[derive(Debug)]
struct Beside(Child);

impl Beside {
    fn start(script: &str, directory: &Path) -> Beside {
        let mut command = shell(script, directory);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{script}");
        Beside(child)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The modules of these packages that are installed here, each with its package, as they stand in the server's
/// directories.
pub(crate) fn installed(nbdkit: &Nbdkit, packages: &[String]) -> Vec<(String, String)> {
    let folders =
        [nbdkit.plugin_file("x"), nbdkit.filter_file("x")].map(|file| file.parent().unwrap().to_owned());
    let mut all = Vec::new();
    for package in packages {
        let output = Command::new("dpkg-query").args(["-L", package]).output().unwrap();
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        let files =
            listed.lines().map(Path::new).filter(|file| file.extension().is_some_and(|end| end == "so"));
        let modules = files.filter(|file| folders.iter().any(|folder| file.parent() == Some(folder)));
        all.extend(
            modules
                .filter(|file| file.exists())
                .map(|file| (file.file_name().unwrap().to_str().unwrap().to_owned(), package.clone())),
        );
    }
    all.sort_by_key(|(module, _)| (module.contains("-filter"), module.to_lowercase()));
    all
}

/// How a heading is linked to, in Markdown as it is commonly shown.
pub(crate) fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}
