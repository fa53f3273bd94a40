//! Faults of keywords and services that people have reported, tried as they would try them: what must be said of each.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::validate::{module, subjects};

/// Exit code, standard output and standard error of a command in the folder of the subjects.
fn layers(arguments: &[&str], preload: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_layers"));
    command.args(arguments).current_dir(subjects());
    if !preload.is_empty() {
        command.env("LD_PRELOAD", preload);
    }
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A script that starts the server with a module in it, as somebody's own server would have it built in.
fn server(directory: &Path, module: &str) -> String {
    let script = directory.join("haproxy");
    let text = format!("#!/bin/sh\nLD_PRELOAD=\"$LD_PRELOAD:{module}\" exec /usr/sbin/haproxy \"$@\"\n");
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    script.display().to_string()
}

#[test]
fn a_module_that_a_script_preloads_takes_nothing_away() {
    let directory = tempfile::tempdir().unwrap();
    let server = server(directory.path(), &module(directory.path(), None));
    let (exit, tree, said) = layers(
        &["trace", "haproxy", "--server", &server, "-f", "plain.cfg", "--", "own good", "show info"],
        "",
    );
    assert_eq!(exit, Some(0), "{said}");
    assert!(tree.contains("own good: parse") && tree.contains("show info: parse"), "{tree}");
}

#[test]
fn a_keyword_without_an_answer_is_named_and_those_behind_it_are_called() {
    let directory = tempfile::tempdir().unwrap();
    let faulty = module(directory.path(), Some("-DFAULTY"));
    let (exit, told, said) = layers(
        &["conform", "haproxy", "--no-baseline", "--level", "must", "--only", "cli/every-keyword"],
        &faulty,
    );
    assert_eq!(exit, Some(1), "{told} {said}");
    assert!(told.contains("`own deaf`, of every keyword"), "{told}");
    assert!(!told.contains("`own good`") && !told.contains("`own address`"), "{told}");
}

#[test]
fn clients_leave_in_the_middle_of_keywords_that_only_this_server_has() {
    let directory = tempfile::tempdir().unwrap();
    let only = ["--no-baseline", "--level", "must", "--only", "leave-cli/others"];
    let good = module(directory.path(), None);
    let (exit, told, said) = layers(&[&["conform", "haproxy"], &only[..]].concat(), &good);
    assert_eq!(exit, Some(0), "{told} {said}");
    let faulty = module(directory.path(), Some("-DFAULTY"));
    let (exit, told, said) = layers(&[&["conform", "haproxy"], &only[..]].concat(), &faulty);
    assert_eq!(exit, Some(1), "{told} {said}");
    assert!(told.contains("own deaf"), "{told}");
}

/// What `mine lossy`, `mine restart`, `mine lock bad` and `mine leak` do, beside stock keywords that are found in the same way.
#[test]
fn what_clients_alone_see_of_a_keyword_is_found_among_those_of_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let only: Vec<&str> = ["whole-small", "refused", "rounds", "changed", "waiting"]
        .iter()
        .flat_map(|name| ["--only", Box::leak(format!("sweep/{name}").into_boxed_str())])
        .collect();
    let command = [&["conform", "haproxy", "--no-baseline", "--level", "must"], &only[..]].concat();
    let (exit, told, said) = layers(&command, &module(directory.path(), None));
    assert_eq!(exit, Some(0), "{told} {said}");
    let (exit, told, said) = layers(&command, &module(directory.path(), Some("-DFAULTY")));
    assert_eq!(exit, Some(1), "{told} {said}");
    let told: String = told.split_whitespace().collect::<Vec<_>>().join(" ");
    for (rule, name) in [
        ("answer.whole", "`own short`: read at once"),
        ("answer.whole", "`own again`: read at once: an answer without an end"),
        ("answer.after-refused", "`own lock`: to `0`: no end"),
        ("answer.after-refused", "`own wild`: to `#`"),
        ("command.leaves-nothing", "`own leak`:"),
        ("command.leaves-nothing", "descriptors for 20 commands"),
    ] {
        assert!(told.contains(&format!("FAIL {rule}")) && told.contains(name), "{name}: {told}");
    }
    for good in ["`own good`", "`own lines`", "`show info`"] {
        assert!(!told.contains(good), "{good}: {told}");
    }
}

#[test]
fn a_trace_of_a_keyword_that_breaks_a_rule_says_so_and_ends_with_1() {
    for (command, rule) in [
        ("layers bad-print", "appctx.print.terminal"),
        ("layers bad-linked", "release.no-linked-storage"),
        ("layers bad-context", "appctx.svcctx.preserved"),
    ] {
        let (exit, _, said) =
            layers(&["trace", "haproxy", "-f", "plain.cfg", "--timeout", "5", "--", command], "");
        assert_eq!(exit, Some(1), "{command}: {said}");
        assert!(said.contains(rule), "{command}: {said}");
    }
}
