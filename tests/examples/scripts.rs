//! Plugins in scripting languages, each with a test of its language's own.

use crate::document::commands;
use crate::place::Place;

#[test]
fn a_plugin_in_shell_is_tested_by_one_command() {
    let place = Place::with_example("shell");
    let [sound, faulty] = commands("fixtures/examples/shell/README.md").try_into().unwrap();
    place.run(&sound).succeeds(&["not claimed: it does not claim trim", "exit 0: conformant"]);
    place.run(&faulty).fails(&["FAIL  write.read-back", "nbdkit-plugin(3), \".pwrite\"", "exit 1: "]);
}

#[test]
fn unittest_shows_a_subtest_a_promise_of_a_plugin_in_python() {
    let place = Place::with_example("python");
    let [sound, faulty] = commands("fixtures/examples/python/README.md").try_into().unwrap();
    place
        .run(&sound)
        .succeeds(&["[trim.succeeds] ... skipped 'not claimed: it does not claim trim'", "\nOK ("]);
    let fault = ["test_promises) [write.read-back]", "(nbdkit-plugin(3), \".pwrite\")", "to fix it: "];
    place.run(&faulty).fails(&fault);
}
