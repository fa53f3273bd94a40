//! A plugin in Rust: tests of cargo, and of cargo-nextest.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::document::{commands, root};
use crate::place::{Place, Said};

const PROJECT: &str = "fixtures/examples/rust";

/// The project, in a place where what was built of it last time is found again.
fn project() -> Place {
    let place = Place::lasting("example-rust");
    for name in ["Cargo.toml", "Cargo.lock", "src/lib.rs", "tests/conformance.rs"] {
        let text = fs::read_to_string(root().join(PROJECT).join(name)).unwrap();
        let harness = root().join("harness").display().to_string();
        place.write(name, &text.replace("../../../harness", &harness));
    }
    place
}

fn run(place: &Place, lines: &str) -> Said {
    Said::of(&place.building().arg(lines).output().unwrap())
}

/// The tests share a build: one after another.
#[test]
fn a_plugin_in_rust_has_a_test_for_each_promise() {
    let place = project();
    let [sound, nextest, faulty] = commands(&format!("{PROJECT}/README.md")).try_into().unwrap();
    // What it does not offer is not asked of it, and is no success either.
    let whole = run(&place, &sound);
    whole.succeeds(&[
        "test read.odd ",
        "test trim.succeeds ",
        "... ignored (not claimed: it does not claim trim)",
    ]);
    let lock = |place: &Path| fs::read_to_string(place.join("Cargo.lock")).unwrap();
    let outdated = format!("run `cargo metadata` in {PROJECT}: its lock file is not up to date");
    assert_eq!(lock(&place.project()), lock(&root().join(PROJECT)), "{outdated}");

    as_nextest_does(&place, sound.trim());
    if Command::new("cargo-nextest").args(["nextest", "--version"]).output().is_ok() {
        run(&place, &nextest).succeeds(&["PASS", "ramdisk::conformance conclusive", " 0 skipped"]);
    }

    let clause = "(nbdkit-plugin(3), \".pwrite\")";
    run(&place, &faulty).fails(&["test write.read-back ", "... FAILED", clause, "to fix it: "]);
}

/// A list first, which touches nothing, then each test in a process of its own.
fn as_nextest_does(place: &Place, test: &str) {
    let list = run(place, &format!("{test} --quiet -- --list --format terse"));
    list.succeeds(&["read.odd: test\n", "conclusive: test\n"]);
    run(place, &format!("{test} -- read.odd --exact --nocapture"))
        .succeeds(&["1 passed; 0 failed; 0 ignored"]);
    // What does not apply is no failure where it is alone, either.
    let skipped = run(place, &format!("{test} -- trim.succeeds --exact --nocapture"));
    skipped.succeeds(&["0 passed; 0 failed; 1 ignored"]);
}
