//! A machine that has only what the README's first command installs, and what that command says of it.
//!
//! `ci/bare` makes such a machine and runs the commands there; here the parts are tried that need none.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use layers::verdict::Exit;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn program(file: &Path, script: &str) {
    std::fs::write(file, script).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A directory for a PATH on which nothing is but nbdkit.
fn only_nbdkit() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let nbdkit = std::env::split_paths(&path).map(|folder| folder.join("nbdkit")).find(|file| file.exists());
    symlink(nbdkit.unwrap(), directory.path().join("nbdkit")).unwrap();
    directory
}

fn layers(path: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_layers"));
    let output = command.args(arguments).env("PATH", path).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

const CAPTIVE: [&str; 4] = ["conform", "nbdkit", "--only", "captive/*"];

#[test]
fn a_scenario_whose_program_is_missing_is_not_judged_and_the_others_are() {
    let path = only_nbdkit();
    let (code, said) = layers(path.path(), &CAPTIVE);
    assert_eq!(code, Some(0), "{said}");
    let line = said.lines().find(|line| line.contains("captive/nbdinfo")).unwrap();
    assert!(line.ends_with("needs `nbdinfo` (Debian: libnbd-bin)"), "{line}");
    let (before, _) = said.split_once(line).unwrap();
    assert_eq!(before.rsplit("\n\n").next().unwrap(), "not judged:\n", "{said}");
}

#[test]
fn reports_for_programs_say_so_too() {
    let path = only_nbdkit();
    let reason = "needs `nbdinfo` (Debian: libnbd-bin)";
    let said = |format: &str| layers(path.path(), &[&CAPTIVE[..], &["--report", format]].concat()).1;
    let tap = said("tap");
    assert!(tap.contains(&format!("scenarios/captive/nbdinfo # SKIP {reason}")), "{tap}");
    let lines = said("ndjson");
    let line = lines.lines().find(|line| line.contains("\"captive/nbdinfo\"")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["verdict"], &line["reason"]), (&"skipped".into(), &reason.into()));
}

#[test]
fn where_nothing_else_is_asked_nothing_is_judged() {
    let path = only_nbdkit();
    let (code, said) = layers(path.path(), &["conform", "nbdkit", "--only", "captive/nbdinfo"]);
    assert_eq!(code, Some(3), "{said}");
    let (code, said) = layers(path.path(), &["trace", "--scenario", "captive/nbdinfo"]);
    assert_eq!(code, Some(3), "{said}");
    assert_eq!(said, "layers: `captive/nbdinfo` is not judged: needs `nbdinfo` (Debian: libnbd-bin)\n");
}

/// What it prints is not thrown away: it says why the scenario could not be played as it is.
#[test]
fn what_a_program_has_printed_stands_in_the_report() {
    let path = only_nbdkit();
    let script = "#!/bin/sh\necho one; echo two >&2; exit 4\n";
    program(&path.path().join("nbdinfo"), script);
    let (_, said) = layers(path.path(), &["conform", "nbdkit", "--only", "captive/nbdinfo"]);
    assert!(said.contains(r#"`nbdinfo "$uri"` wrote: one | two"#), "{said}");
}

/// The demo with a cargo that builds nothing, and whose `layers` ends with this code after this last line.
fn demo(code: i32, last: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("bin")).unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = run ] || exit 0\nfor word; do case $word in ndjson=*) cat >\"${{word#ndjson=}}\" \
         <<'END'\n{last}\nEND\n;; esac; done\nexit {code}\n"
    );
    program(&directory.path().join("bin/cargo"), &script);
    let mut command = Command::new(root().join("ci/demo"));
    command.env("CARGO_HOME", directory.path()).stdin(Stdio::null()).output().unwrap()
}

/// A last line of the report for programs with so many known findings.
fn last(known: usize) -> String {
    format!(r#"{{"type":"end","exit":0,"meaning":"so","known":{known},"stale":0}}"#)
}

/// Its exit code, and what it says of that of `layers`.
fn conclusion(code: i32, last: &str) -> (Option<i32>, String) {
    let output = demo(code, last);
    let said = String::from_utf8(output.stdout).unwrap();
    let begin = format!("exit code {code}: ");
    let (_, conclusion) = said
        .split_once(&begin)
        .unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), conclusion.to_owned())
}

#[test]
fn the_demo_says_of_each_exit_code_what_is_true() {
    let texts: BTreeMap<u8, (i32, &str)> = [
        (Exit::Conformant, (0, "in what was judged, this nbdkit keeps the promises of its manual.\n")),
        (
            Exit::Violation,
            (
                0,
                "this nbdkit crashes, hangs or breaks promises of its manual in ways that are not known of its \
                 version.\nThe findings above say in which.\n",
            ),
        ),
        (Exit::Usage, (2, "there is no judgement: layers did not come to its end.\n")),
        (Exit::NothingJudged, (3, "there is no judgement: no rule was put to the test.\n")),
        (
            Exit::Stale,
            (
                0,
                "this nbdkit breaks no promise that is not known of its version, and no longer breaks all that \
                 is.\nWhat did not happen is listed above as stale.\n",
            ),
        ),
        (Exit::Unloadable, (5, "there is no judgement: layers did not come to its end.\n")),
        (
            Exit::NoServer,
            (6, "there is no judgement: nbdkit is missing or cannot be used, as said above.\n"),
        ),
        (
            Exit::Inconclusive,
            (7, "the judgement is not complete: some of it could not be told, as said above.\n"),
        ),
        (
            Exit::Harness,
            (70, "there is no judgement to rest on: layers itself failed, as said above.\n"),
        ),
        (Exit::Interrupted, (130, "it was told to stop before the judgement was made.\n")),
        (Exit::Terminated, (143, "it was told to stop before the judgement was made.\n")),
    ]
    .map(|(exit, text)| (exit.code(), text))
    .into();
    for exit in Exit::ALL {
        let (code, text) = texts[&exit.code()];
        let said = conclusion(exit.code().into(), &last(0));
        assert_eq!(said, (Some(code), text.to_owned()), "{exit}");
    }
    for signal in [129, 130, 143] {
        let said = conclusion(signal, "");
        assert_eq!(said, (Some(signal), "it was told to stop before the judgement was made.\n".to_owned()));
    }
    let said = conclusion(101, "");
    assert_eq!(said, (Some(101), "there is no judgement: layers did not come to its end.\n".to_owned()));
}

#[test]
fn the_demo_never_says_of_known_findings_that_every_promise_is_kept() {
    for known in [1, 31] {
        let (code, said) = conclusion(0, &last(known));
        assert_eq!(code, Some(0));
        assert!(
            said.contains("breaks no promise of its manual but those that are known of its version"),
            "{said}"
        );
    }
    // The line that layers writes is the one that the demo reads.
    let path = std::env::var_os("PATH").unwrap();
    let known = ["conform", "nbdkit", "--only", "end/sigterm/connected", "--report", "ndjson"];
    let (code, lines) = layers(Path::new(&path), &known);
    assert_eq!(code, Some(0), "{lines}");
    let (_, said) = conclusion(0, lines.lines().last().unwrap());
    assert!(said.contains("but those that are known"), "{said}");
}

/// A package that is not there: an ordinary user is told in one line what root has to run.
#[test]
fn an_ordinary_user_is_told_what_root_is_to_run() {
    let directory = tempfile::tempdir().unwrap();
    program(&directory.path().join("dpkg-query"), "#!/bin/sh\n");
    program(&directory.path().join("id"), "#!/bin/sh\necho 1000\n");
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    for script in ["demo", "test"] {
        let mut command = Command::new(root().join("ci").join(script));
        let output = command.env("PATH", &path).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.starts_with("ci/setup: Debian packages are missing (nbdkit "), "{said}");
        assert!(said.ends_with(&format!("): run `ci/setup {script}` as root\n")), "{said}");
    }
}

/// A public host runs the parts side by side: what stands in none of them would not run there.
#[test]
fn every_file_of_tests_is_in_one_part_of_ci_test() {
    let script = std::fs::read_to_string(root().join("ci/test")).unwrap();
    let manifest: toml::Table =
        toml::from_str(&std::fs::read_to_string(root().join("harness/Cargo.toml")).unwrap()).unwrap();
    let tables = manifest["test"].as_array().unwrap();
    let mut named: Vec<&str> = tables.iter().map(|table| table["name"].as_str().unwrap()).collect();
    // `tests NAME…`, alone on its line or after the name of the part.
    let lists = script
        .lines()
        .filter_map(|line| line.trim().split_once("tests "))
        .filter(|(before, _)| before.is_empty() || before.ends_with(") "));
    let mut listed: Vec<&str> =
        lists.flat_map(|(_, names)| names.trim_end_matches(";;").split_ascii_whitespace()).collect();
    named.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, named);
    let workflow = std::fs::read_to_string(root().join(".github/workflows/ci.yml")).unwrap();
    let parts = workflow.lines().find_map(|line| line.trim().strip_prefix("part: [")).unwrap();
    for part in parts.trim_end_matches(']').split(", ") {
        assert!(script.contains(&format!("    {part})")), "ci/test has no part {part}");
    }
}
