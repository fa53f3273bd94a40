//! Plugins in C, built with meson and with automake, which both read TAP.

use std::fs;

use crate::document::commands;
use crate::place::Place;

#[test]
fn meson_shows_a_subtest_a_promise() {
    let place = Place::with_example("meson");
    let [sound, faulty] = commands("fixtures/examples/meson/README.md").try_into().unwrap();
    place.run(&sound).succeeds(&["1/1 conformance OK", "subtests passed"]);
    let log = fs::read_to_string(place.project().join("build/meson-logs/testlog.txt")).unwrap();
    assert!(log.contains("trim.succeeds # SKIP not claimed: it does not claim trim"), "{log}");

    let clause = "nbdkit-plugin(3), \".pwrite\"";
    place.run(&faulty).fails(&[
        "1/1 - checks/write.read-back FAIL",
        clause,
        "to fix it: write all of the buffer",
    ]);
}

#[test]
fn automake_shows_a_test_a_promise() {
    let place = Place::with_example("automake");
    let [sound, faulty] = commands("fixtures/examples/automake/README.md").try_into().unwrap();
    let skipped = "checks/write.succeeds # SKIP not claimed: the export is read-only";
    place.run(&sound).succeeds(&["PASS: conformance.sh 26 - checks/read.odd", skipped, "# ERROR: 0"]);

    let clause = "(nbdkit-plugin(3), \".pread\")";
    let fault = ["FAIL: conformance.sh 26 - checks/read.odd", clause, "to fix it: serve exactly count bytes"];
    place.run(&faulty).fails(&fault);
}
