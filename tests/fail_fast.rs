//! `--fail-fast`: a run ends at its first finding that counts, says so, and exits as it would have.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use assert_cmd::assert::Assert;
use assert_cmd::cargo::cargo_bin_cmd;
use predicates::prelude::*;
use predicates::str::contains;

fn layers(directory: &Path, arguments: &[&str]) -> Assert {
    let mut command = cargo_bin_cmd!("layers");
    command.current_dir(directory).args(arguments).assert()
}

const SAID: &str = "--fail-fast ended the run at its first finding";

/// It forgets what is written.
const FORGETS: [&str; 5] = [
    "eval",
    "get_size=echo 1M",
    "pread=dd if=/dev/zero count=$3 iflag=count_bytes 2>/dev/null",
    "can_write=exit 0",
    "pwrite=cat >/dev/null",
];

#[test]
fn validate_ends_at_the_first_check_that_is_broken() {
    let directory = tempfile::tempdir().unwrap();
    let run = |options: &[&str]| {
        layers(directory.path(), &[&["validate", "--jobs", "1"], options, &FORGETS[..]].concat())
    };
    run(&["--fail-fast"]).code(1).stdout(contains("FAIL  write.read-back").and(contains(SAID)));
    // What is known does not count.
    let known = directory.path().join("known.toml");
    std::fs::write(&known, "[[known]]\nid = \"write.read-back\"\nwhy = \"it forgets\"\n").unwrap();
    let only = ["--only", "write.read-back", "--only", "read.*"];
    let options = [&["--fail-fast", "--baseline", "known.toml"], &only[..]].concat();
    run(&options).code(0).stdout(contains(SAID).not());
}

#[test]
fn conform_ends_at_the_first_scenario_that_shows_something() {
    let directory = tempfile::tempdir().unwrap();
    let options = ["conform", "nbdkit", "--jobs", "1", "--only", "end/*", "--only", "close.*", "--fail-fast"];
    let run = |more: &[&str]| layers(directory.path(), &[&options[..], more].concat());
    run(&["--no-baseline"]).code(1).stdout(contains(SAID));
    run(&[]).code(0).stdout(contains(SAID).not());
}

#[test]
fn snapshot_and_check_end_at_the_first_difference() {
    let directory = tempfile::tempdir().unwrap();
    let options =
        ["snapshot", "--jobs", "1", "--only", "classical", "--only", "end/sigterm/idle", "--fail-fast"];
    let stack = ["memory", "1M"];
    layers(directory.path(), &[&options[..], &stack].concat()).code(1).stdout(contains(SAID));

    for name in ["one", "two"] {
        layers(directory.path(), &["trace", "--save", name, "--scenario", "end/sigterm/connected"]).code(0);
    }
    layers(directory.path(), &["check", "one", "two"]).code(1).stdout(contains("two: "));
    layers(directory.path(), &["check", "one", "two", "--fail-fast"])
        .code(1)
        .stdout(contains("one: ").and(contains("two: ").not()));
}
