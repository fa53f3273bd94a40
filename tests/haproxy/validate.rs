//! `layers validate haproxy`: keywords in C and Lua, and services, good ones and those with one fault each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use layers::server::haproxy::Haproxy;
use layers::version::Version;

pub(crate) fn subjects() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fixtures/haproxy/subjects")
}

/// Builds the keywords in C, with the faulty ones of this name or without.
pub(crate) fn module(directory: &Path, faulty: Option<&str>) -> String {
    built(directory, "keywords", faulty)
}

/// Builds the module of this name, likewise.
fn built(directory: &Path, name: &str, faulty: Option<&str>) -> String {
    let library = directory.join(format!("{name}.so"));
    let mut compiler = Command::new("cc");
    let source = subjects().join(format!("{name}.c"));
    compiler.args(["-shared", "-fPIC", "-pthread", "-o"]).arg(&library).arg(source);
    assert!(compiler.args(faulty).status().unwrap().success());
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

/// What is to be found in the subjects of this file, by fixtures/haproxy/subjects/faulty.list.
fn expected(file: &str) -> BTreeSet<(String, String)> {
    let list = std::fs::read_to_string(subjects().join("faulty.list")).unwrap();
    let Version(major, minor, _) = Haproxy::find(None).unwrap().version;
    let release = Version(major, minor, 0);
    let mut expected = BTreeSet::new();
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let has_fault = |(first, last): (&str, &str)| {
            let bound = |text: &str| text.parse::<Version>().ok();
            bound(first).is_none_or(|first| first <= release)
                && bound(last).is_none_or(|last| release <= last)
        };
        if words[0] == file && (words[1] == "all" || has_fault(words[1].split_once('-').unwrap())) {
            expected.insert((words[2].to_owned(), words[3].to_owned()));
        }
    }
    expected
}

#[test]
fn keywords_and_services_without_a_fault_are_conformant() {
    let directory = tempfile::tempdir().unwrap();
    let [keywords, contexts, services] =
        ["keywords", "contexts", "services"].map(|name| built(directory.path(), name, None));
    for arguments in [
        &["-f", "plain.cfg", "--module", &keywords, "--module", &contexts][..],
        &["-f", "services.cfg", "--module", &services],
        &["-f", "good.cfg"],
    ] {
        let (found, exit, text) = found(&[&["--jobs", "2"], arguments].concat());
        assert_eq!((found, exit), (BTreeSet::new(), 0), "{text}");
        assert!(text.contains("\"conformant\""), "{text}");
    }
}

#[test]
fn what_no_client_can_ask_for_is_listed_as_not_judged() {
    for report in ["human", "ndjson"] {
        let arguments =
            ["validate", "--report", report, "--only", "handler.answers", "haproxy", "-f", "good.cfg"];
        let output = layers(&arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
        for what in ["sample fetch lua.colour", "converter lua.louder", "action lua.mark", "task"] {
            let line =
                text.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {text}"));
            assert!(line.contains("not judged") && line.contains("no client can ask for it"), "{line}");
        }
    }
}

#[test]
fn a_baseline_a_denied_warning_and_an_early_end_count_as_for_plugins() {
    let directory = tempfile::tempdir().unwrap();
    let module = module(directory.path(), Some("-DFAULTY"));
    let subject = ["haproxy", "-f", "plain.cfg", "--module", &module];
    let code = |arguments: &[&str]| layers(&[&["validate"], arguments, &subject].concat()).status.code();
    let secret = ["--keyword", "own secret", "--only", "handler.level"];
    assert_eq!(code(&secret), Some(0));
    assert_eq!(code(&[&secret[..], &["--deny", "handler.level"]].concat()), Some(1));
    assert_eq!(code(&["--only", "handler.nothing"]), Some(2));
    assert_eq!(code(&["--seed", "3"]), Some(2));

    let baseline = directory.path().join("known.toml").display().to_string();
    let leak = ["--keyword", "own leak", "--only", "handler.memory", "--baseline", &baseline];
    assert_eq!(code(&[&leak[..], &["--update-baseline"]].concat()), Some(1));
    let text = std::fs::read_to_string(&baseline).unwrap();
    std::fs::write(&baseline, text.replace("why = \"\"", "why = \"known\"")).unwrap();
    assert_eq!(code(&leak), Some(0), "{text}");
    let good = ["--keyword", "own good", "--only", "handler.memory", "--baseline", &baseline];
    assert_eq!(code(&good), Some(4));

    let fast = ["--fail-fast", "--keyword", "own l*", "--only", "handler.memory", "--only", "handler.level"];
    let output = layers(&[&["validate"], &fast[..], &subject].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("--fail-fast ended the run at its first finding"), "{text}");
}

#[test]
fn the_command_that_replays_a_finding_is_one_for_a_shell() {
    let directory = tempfile::Builder::new().prefix("it's a ").tempdir().unwrap();
    let module = module(directory.path(), Some("-DFAULTY"));
    let arguments =
        ["--keyword", "own leak", "--only", "handler.memory", "-f", "plain.cfg", "--module", &module];
    let output = layers(&[&["validate", "haproxy"], &arguments[..]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("replay:")).unwrap().trim();
    let rest = line.strip_prefix("layers ").unwrap();
    let layers = env!("CARGO_BIN_EXE_layers");
    let command = format!("'{layers}' {rest}");
    let again = Command::new("sh").args(["-c", &command]).current_dir(subjects()).output().unwrap();
    assert_eq!(again.status.code(), Some(1), "{command}");
    assert!(String::from_utf8(again.stdout).unwrap().contains("own leak"), "{command}");
}

#[test]
fn the_list_has_the_checks_of_haproxy_alone() {
    let output = layers(&["validate", "--list", "haproxy"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("handler.reload") && text.contains("appctx.print.terminal"), "{text}");
    assert!(!text.contains("read.repeats"), "{text}");
}

#[test]
fn each_keyword_in_c_with_a_fault_is_named_by_its_check() {
    let directory = tempfile::tempdir().unwrap();
    let module = module(directory.path(), Some("-DFAULTY"));
    let (found, exit, text) =
        found(&["--jobs", "4", "--timeout", "3", "-f", "plain.cfg", "--module", &module]);
    assert_eq!((found, exit), (expected("c"), 1), "{text}");
}

/// Each way to keep a context that doc/internals/api/appctx.txt shows, gone about wrongly.
#[test]
fn each_context_with_a_fault_is_named_by_its_check_or_rule() {
    let directory = tempfile::tempdir().unwrap();
    let module = built(directory.path(), "contexts", Some("-DFAULTY"));
    let (found, exit, text) =
        found(&["--jobs", "4", "--timeout", "3", "-f", "plain.cfg", "--module", &module]);
    assert_eq!((found, exit), (expected("contexts"), 1), "{text}");
}

#[test]
fn each_service_in_c_with_a_fault_is_named_by_its_check() {
    let directory = tempfile::tempdir().unwrap();
    let module = built(directory.path(), "services", Some("-DFAULTY"));
    let (found, exit, text) =
        found(&["--jobs", "4", "--timeout", "3", "-f", "services-faulty.cfg", "--module", &module]);
    assert_eq!((found, exit), (expected("services"), 1), "{text}");
}

#[test]
fn a_server_that_dies_of_something_that_a_check_is_not_about_has_not_survived() {
    let directory = tempfile::tempdir().unwrap();
    let module = module(directory.path(), Some("-DFAULTY_LATER"));
    let only = ["--only", "handler.survives", "--only", "handler.memory"];
    let arguments = ["-f", "plain.cfg", "--module", &module, "--keyword", "own tired"];
    let (found, exit, text) = found(&[&arguments[..], &only].concat());
    let expected = BTreeSet::from([("handler.survives".to_owned(), "own tired".to_owned())]);
    assert_eq!((found, exit), (expected, 1), "{text}");
}

#[test]
fn each_command_and_service_in_lua_with_a_fault_is_named_by_its_check() {
    let (found, exit, text) = found(&["--jobs", "4", "-f", "faulty.cfg"]);
    assert_eq!((found, exit), (expected("lua"), 1), "{text}");
}

#[test]
fn a_module_that_is_preloaded_into_everything_is_traced() {
    let directory = tempfile::tempdir().unwrap();
    let module = module(directory.path(), None);
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
