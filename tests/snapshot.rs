//! `layers snapshot`, end to end.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::assert::Assert;
use assert_cmd::cargo::cargo_bin_cmd;
use predicates::prelude::*;
use predicates::str::{contains, is_empty};
use tempfile::TempDir;

/// A directory with the plugin that the document speaks of.
fn project() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    plugin(directory.path(), "");
    directory
}

/// Writes `disk.sh`, a mebibyte of zeroes that can be flushed, with more cases before its own.
fn plugin(directory: &Path, more: &str) {
    let script = format!(
        r#"#!/bin/sh
case "$1" in
{more}
get_size) echo 1M ;;
pread) dd if=/dev/zero count="$3" iflag=count_bytes 2>/dev/null ;;
can_flush | flush) ;;
*) exit 2 ;;
esac
"#
    );
    let path = directory.join("disk.sh");
    fs::write(&path, script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(path, executable).unwrap();
}

fn layers(directory: &Path, arguments: &[&str]) -> Assert {
    let mut command = cargo_bin_cmd!("layers");
    command.current_dir(directory).args(arguments).timeout(Duration::from_secs(120)).assert()
}

fn snapshot(directory: &Path, arguments: &[&str]) -> Assert {
    layers(directory, &[&["snapshot"], arguments].concat())
}

/// The plugin in one scenario.
const DISK: [&str; 4] = ["sh", "./disk.sh", "--only", "classical"];

fn disk<'a>(more: &[&'a str]) -> Vec<&'a str> {
    DISK.iter().chain(more).copied().collect()
}

fn file(directory: &Path, name: &str) -> PathBuf {
    directory.join("tests/snapshots").join(name)
}

/// Names and contents of all stored and pending files.
fn files(directory: &Path) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<(String, String)> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn what_is_new_waits_beside_until_it_is_accepted() {
    let project = project();
    let (stored, pending) =
        (file(project.path(), "sh__classical.snap"), file(project.path(), "sh__classical.snap.new"));
    snapshot(project.path(), &DISK).code(1).stderr(is_empty());
    assert!(pending.exists() && !stored.exists());
    snapshot(project.path(), &disk(&["--update"])).code(0);
    assert!(!pending.exists() && stored.exists());
    snapshot(project.path(), &DISK).code(0).stdout(contains("  same    classical"));
}

#[test]
fn insta_itself_accepts_what_waits() {
    let project = project();
    snapshot(project.path(), &DISK).code(1);
    let pending = file(project.path(), "sh__classical.snap.new");
    // As `cargo insta accept` does it.
    let snapshot_of_insta = insta::Snapshot::from_file(&pending).unwrap();
    assert!(snapshot_of_insta.as_text().unwrap().to_string().ends_with("exit status 0"));
    snapshot_of_insta.save(&file(project.path(), "sh__classical.snap")).unwrap();
    snapshot(project.path(), &DISK).code(0);
    assert!(!pending.exists(), "it is settled");
}

#[test]
fn the_heading_names_both_versions_of_a_server_that_has_changed() {
    let project = project();
    snapshot(project.path(), &disk(&["--update"])).code(0);
    let stored = file(project.path(), "sh__classical.snap");
    let text = fs::read_to_string(&stored).unwrap();
    let version = layers::server::nbdkit::Nbdkit::find(None).unwrap().version;
    let now = format!("nbdkit {version}");
    fs::write(&stored, text.replace(&now, "nbdkit 1.26.0")).unwrap();
    snapshot(project.path(), &DISK).code(0).stdout(contains("  same    classical"));
    plugin(project.path(), "can_flush) exit 3 ;;");
    snapshot(project.path(), &DISK).code(1).stdout(
        contains(format!("DIFFERS classical: stored with nbdkit 1.26.0, played with {now}\n"))
            .and(contains("--- tests/snapshots/sh__classical.snap (nbdkit 1.26.0)\n"))
            .and(contains(format!("+++ this run ({now})\n"))),
    );
    let more = disk(&["--update", "-r"]);
    snapshot(project.path(), &more)
        .code(0)
        .stdout(contains("stored of `sh ./disk.sh`, played with `-r sh ./disk.sh`"));
    assert!(fs::read_to_string(&stored).unwrap().contains(&now), "an accepted tree has its own version");
}

#[test]
fn a_file_that_no_scenario_makes_is_stale() {
    let project = project();
    snapshot(project.path(), &disk(&["--update"])).code(0);
    let own = fs::read(file(project.path(), "sh__classical.snap")).unwrap();
    for name in ["sh__no.such.snap", "sh__connections.pipelined.snap", "other__no.such.snap", "mine__a.snap"]
    {
        fs::write(file(project.path(), name), &own).unwrap();
    }
    let stale =
        contains("STALE   tests/snapshots/sh__connections.pipelined.snap: no scenario makes this file")
            .and(contains("STALE   tests/snapshots/sh__no.such.snap"))
            .and(contains("other__").not())
            .and(contains("exit 4: a stored tree belongs to no scenario"));
    snapshot(project.path(), &DISK).code(4).stdout(stale);
    snapshot(project.path(), &disk(&["--update"])).code(0).stdout(contains("dropped tests/snapshots/sh__no"));
    let left: Vec<String> = files(&project.path().join("tests/snapshots")).into_iter().map(|f| f.0).collect();
    assert_eq!(left, ["mine__a.snap", "other__no.such.snap", "sh__classical.snap"]);
}

#[test]
fn a_scenario_that_was_stored_once_is_played_from_then_on() {
    let project = project();
    let one = ["memory", "1M", "--only", "end/sighup/idle", "--update"];
    snapshot(project.path(), &one).code(0);
    snapshot(project.path(), &["memory", "1M", "--update"])
        .code(0)
        .stdout(contains("same    end/sighup/idle"));
    snapshot(project.path(), &["memory", "1M", "--skip", "end/*"])
        .code(0)
        .stdout(contains("end/").not().and(contains("same    classical")));
}

#[test]
fn what_varies_is_neither_stored_nor_a_difference() {
    let project = project();
    // Every other run can flush.
    let varying = "can_flush) test -e ./flag && rm ./flag && exit 3; : >./flag ;;";
    plugin(project.path(), &varying.replace("./", &format!("{}/", project.path().display())));
    for more in [&[][..], &["--update"]] {
        snapshot(project.path(), &disk(more)).code(7).stdout(
            contains("varies  classical").and(contains("-  L0.can_flush h1 = 1\n")).and(contains("exit 7")),
        );
    }
    assert_eq!(files(&project.path().join("tests/snapshots")), []);
}

#[test]
fn a_crash_is_a_crash_and_is_not_stored() {
    let project = project();
    plugin(project.path(), "pread) kill -SEGV $PPID ;;");
    snapshot(project.path(), &disk(&["--update"]))
        .code(1)
        .stdout(contains("CRASH   classical: the server was killed by signal 11"));
    assert_eq!(files(&project.path().join("tests/snapshots")), []);
}

#[test]
fn nothing_compared_is_no_pass() {
    let project = project();
    // Clients that meet need a thread model that lets them; a scenario of our own layers needs those.
    for only in ["connections/several", "absent/filter", "race/*"] {
        snapshot(project.path(), &["sh", "./disk.sh", "--only", only])
            .code(3)
            .stdout(contains(format!("skipped {}", only.trim_end_matches('*'))));
    }
    plugin(project.path(), "open) echo EIO closed >&2; exit 1 ;;");
    snapshot(project.path(), &DISK).code(7).stdout(contains("INCONCLUSIVE classical: no export was opened"));
}

#[test]
fn wrong_input_is_refused_in_one_line() {
    let project = project();
    let refused = |arguments: &[&str], code: i32, what: &str| {
        let one_line = predicate::function(|text: &str| text.lines().count() == 1);
        snapshot(project.path(), arguments).code(code).stderr(contains(what).and(one_line));
    };
    refused(&[], 2, "name a plugin");
    refused(&["memory", "1M", "--only", "clasical"], 2, "`clasical` matches no scenario of nbdkit");
    refused(&["memory", "1M", "--name", "a/b"], 2, "`a/b` cannot begin the name of a file");
    refused(&["memory"], 5, "does not start with `memory`: nbdkit: error: you must specify size");
    refused(&["memory", "1M", "--server", "/nowhere/nbdkit"], 6, "cannot find the server");
    fs::create_dir_all(file(project.path(), "")).unwrap();
    fs::write(file(project.path(), "sh__classical.snap"), "<<<<<<< HEAD\n").unwrap();
    refused(&DISK, 2, "sh__classical.snap` is no snapshot: it has no header");
    fs::write(project.path().join("layers.toml"), "[snapshot]\nonyl = []\n").unwrap();
    refused(&["memory", "1M"], 2, "layers.toml:2:1: unknown field `onyl`");
}

#[test]
fn settings_stand_in_a_file_above() {
    let project = project();
    let inner = project.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let settings = "[snapshot]\ndir = \"trees\"\nname = \"disk\"\nonly = [\"leave/abort\"]\n";
    fs::write(project.path().join("layers.toml"), settings).unwrap();
    snapshot(&inner, &["memory", "1M", "--update"]).code(0);
    let stored = files(&project.path().join("trees"));
    assert_eq!(stored.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["disk__leave.abort.snap"]);
}

#[test]
fn storage_of_the_users_is_not_written_to_unless_allowed() {
    let project = project();
    let image = project.path().join("disk.img");
    let bytes = vec![7; 1 << 20];
    fs::write(&image, &bytes).unwrap();
    let stack = ["file", "disk.img", "--only", "classical", "--update"];
    snapshot(project.path(), &stack).code(0).stdout(contains("served read-only: `disk.img`"));
    assert!(fs::read(&image).unwrap() == bytes);
    snapshot(project.path(), &[&stack[..], &["--allow-writes"]].concat()).code(0);
    assert!(fs::read(&image).unwrap() != bytes);
}

/// Directories, sockets and process ids differ in each of these runs.
#[test]
fn the_files_are_the_same_wherever_and_however_many_at_a_time_they_are_made() {
    let stacks: [&[&str]; 4] = [
        &["memory", "1M"],
        &["--filter=cow", "--filter=cache", "memory", "1M"],
        &["--filter=delay", "--filter=log", "pattern", "1M", "rdelay=1ms", "logfile=/dev/null"],
        &["--only", "classical", "--only", "leave/*", "sh"],
    ];
    for stack in stacks {
        let mut made = Vec::new();
        for jobs in ["1", "2", "4"] {
            let project = project();
            let script = project.path().join("disk.sh").display().to_string();
            let script: &[&str] = if stack.contains(&"sh") { &[&script] } else { &[] };
            let arguments = [stack, script, &["--jobs", jobs, "--update"]].concat();
            snapshot(project.path(), &arguments).code(0);
            let files = files(&project.path().join("tests/snapshots"));
            let place = project.path().file_name().unwrap().to_str().unwrap();
            assert!(files.iter().all(|(_, text)| !text.contains(place)), "no private directory is in a file");
            made.push(files);
        }
        assert!(!made[0].is_empty());
        assert!(made.iter().all(|files| *files == made[0]), "{stack:?}");
    }
}
