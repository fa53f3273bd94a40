//! `layers validate haproxy`: keywords in C and Lua, and services, good ones and those with one fault each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn subjects() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fixtures/haproxy/subjects")
}

/// Builds the keywords in C, with the faulty ones or without.
fn module(directory: &Path, faulty: bool) -> String {
    let library = directory.join("keywords.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(subjects().join("keywords.c"));
    assert!(compiler.args(faulty.then_some("-DFAULTY")).status().unwrap().success());
    library.display().to_string()
}

fn layers(arguments: &[&str]) -> Output {
    let layers = env!("CARGO_BIN_EXE_layers");
    Command::new(layers).args(arguments).current_dir(subjects()).output().unwrap()
}

/// The checks that have a finding, each with the entry that is at fault; and the exit code.
fn found(arguments: &[&str]) -> (BTreeSet<(String, String)>, i32, String) {
    let output = layers(&[&["validate", "--report", "ndjson", "haproxy"], arguments].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let findings = lines.filter(|line| line["type"] == "finding");
    let word = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap().to_owned();
    let found = findings.map(|line| (word(&line, "id"), word(&line, "name"))).collect();
    (found, output.status.code().unwrap(), text)
}

fn pairs(expected: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    expected.iter().map(|(id, name)| ((*id).to_owned(), (*name).to_owned())).collect()
}

#[test]
fn keywords_and_services_without_a_fault_are_conformant() {
    let directory = tempfile::tempdir().unwrap();
    let module = module(directory.path(), false);
    for arguments in [&["-f", "plain.cfg", "--module", &module][..], &["-f", "good.cfg"]] {
        let (found, exit, text) = found(arguments);
        assert_eq!((found, exit), (BTreeSet::new(), 0), "{text}");
        assert!(text.contains("\"conformant\""), "{text}");
    }
}

#[test]
fn each_keyword_in_c_with_a_fault_is_named_by_its_check() {
    let directory = tempfile::tempdir().unwrap();
    let module = module(directory.path(), true);
    let (found, exit, text) = found(&["--timeout", "3", "-f", "plain.cfg", "--module", &module]);
    let expected = [
        ("handler.after-refused", "own lock"),
        ("handler.after-refused", "own wild"),
        ("handler.leave", "own deaf"),
        ("handler.level", "own secret"),
        ("handler.memory", "own leak"),
    ];
    assert_eq!((found, exit), (pairs(&expected), 1), "{text}");
}

#[test]
fn each_command_and_service_in_lua_with_a_fault_is_named_by_its_check() {
    let (found, exit, text) = found(&["-f", "faulty.cfg"]);
    let expected = [
        ("handler.answers", "lua.breaks"),
        ("handler.lua-error", "lua.breaks"),
        ("handler.lua-error", "own fails"),
        ("handler.memory", "own keeps"),
    ];
    assert_eq!((found, exit), (pairs(&expected), 1), "{text}");
}

#[test]
fn a_module_that_is_preloaded_into_everything_is_traced() {
    let directory = tempfile::tempdir().unwrap();
    let module = module(directory.path(), false);
    let traced = |arguments: &[&str], preload: &str| {
        let mut layers = Command::new(env!("CARGO_BIN_EXE_layers"));
        layers.args(["trace", "haproxy", "-f", "plain.cfg"]).args(arguments).args(["--", "own good"]);
        let output = layers.current_dir(subjects()).env("LD_PRELOAD", preload).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    for (exit, tree) in [traced(&[], &module), traced(&["--module", &module], "")] {
        assert!(exit == Some(0) && tree.contains("own good: parse NULL = 1"), "{exit:?} {tree}");
    }
}

#[test]
fn an_error_of_lua_ends_a_trace_with_1_and_the_service_is_in_its_tree() {
    let output = layers(&["trace", "haproxy", "-f", "faulty.cfg", "--", "own fails", "GET /breaks"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("faulty.lua:6") && said.contains("Lua cli"), "{said}");
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.contains("<lua.breaks>: fct"), "{tree}");
}

#[test]
fn every_alert_of_a_configuration_that_is_wrong_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let wrong = directory.path().join("wrong.cfg");
    std::fs::write(&wrong, "global\n    lua-load no-such.lua\nfrontend\n").unwrap();
    let output = layers(&["trace", "haproxy", "-f", &wrong.display().to_string(), "--", "show info"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("wrong.cfg:2") && said.contains("wrong.cfg:3"), "{said}");
}
