//! `layers snapshot haproxy`: what a user's server answers, and its calls, stored and compared.

use std::path::Path;
use std::process::Command;

use super::validate::subjects;

/// Exit code and what was told, in a directory with a configuration and a script in it.
fn snapshot(directory: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_layers"));
    command.args(["snapshot"]).args(arguments).current_dir(directory);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn answers_and_trees_of_commands_and_requests_are_stored_and_compared() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["good.cfg", "good.lua"] {
        std::fs::copy(subjects().join(name), directory.path().join(name)).unwrap();
    }
    let asked = ["haproxy", "-f", "good.cfg", "--", "own list", "GET /page"];
    let (exit, told) = snapshot(directory.path(), &asked);
    assert_eq!(exit, Some(1), "nothing is stored yet: {told}");
    let (exit, told) = snapshot(directory.path(), &[&["--update"], &asked[..]].concat());
    assert_eq!(exit, Some(0), "{told}");
    let folder = directory.path().join("tests/snapshots");
    let stored = std::fs::read_to_string(folder.join("haproxy-good__own-list.snap")).unwrap();
    assert!(stored.contains("own list: parse") && stored.contains("  line 3000"), "{stored}");
    let page = std::fs::read_to_string(folder.join("haproxy-good__GET-page.snap")).unwrap();
    assert!(page.contains("<lua.page>: fct") && page.contains("  row 500"), "{page}");
    assert_eq!(snapshot(directory.path(), &asked).0, Some(0));

    let script = directory.path().join("good.lua");
    let text = std::fs::read_to_string(&script).unwrap();
    std::fs::write(&script, text.replace("\"line \"", "\"Line \"")).unwrap();
    let (exit, told) = snapshot(directory.path(), &asked);
    assert_eq!(exit, Some(1), "{told}");
    assert!(told.contains("DIFFERS own-list") && told.contains("+  Line 1"), "{told}");
    let (exit, told) = snapshot(directory.path(), &["haproxy", "-f", "good.cfg", "--", "GET /page"]);
    assert_eq!(exit, Some(4), "what is not asked any more is stale: {told}");
    assert_eq!(snapshot(directory.path(), &["haproxy", "-f", "good.cfg"]).0, Some(2), "nothing is asked");
}
