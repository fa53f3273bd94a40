//! Hostile subjects, files and environments: nothing hurts the harness, nothing is left behind, nobody is blamed wrongly.
//!
//! Each case is a script in fixtures/hostile, which says in its first lines what is promised.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod side_by_side;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use side_by_side::each;

/// What a script that cannot be tried here ends with.
const UNTRIED: i32 = 77;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/hostile");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = files.filter(|path| path.file_name() != Some("lib.sh".as_ref())).collect();
    cases.sort();
    cases
}

/// Plays one case in a directory of its own; says what it says where the promise is broken.
fn broken(case: &PathBuf) -> Option<String> {
    let directory = tempfile::Builder::new().prefix("h").tempdir().unwrap();
    let mut command = Command::new("sh");
    command.arg(case).env("LAYERS", assert_cmd::cargo::cargo_bin("layers")).env("TMPDIR", directory.path());
    let output = command.stdin(Stdio::null()).output().unwrap();
    let name = case.file_name().unwrap_or_default().display();
    match output.status.code() {
        Some(0) => None,
        Some(UNTRIED) => {
            eprintln!("{name}: cannot be tried here");
            None
        }
        _ => {
            let (said, errors) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            Some(format!("{name}: {}\n{said}{errors}", output.status))
        }
    }
}

#[test]
fn every_promise_holds_among_hostile_subjects_files_and_environments() {
    let cases = cases();
    assert!(cases.len() >= 30, "{cases:?}");
    let broken: Vec<String> = each(&cases, 1, broken).into_iter().flatten().collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
