//! The command: what it prints, and its exit codes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::Path;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::{contains, is_empty};

fn layers(arguments: &[&str]) -> assert_cmd::assert::Assert {
    Command::cargo_bin("layers").unwrap().args(arguments).timeout(std::time::Duration::from_secs(60)).assert()
}

/// One line on standard error, nothing on standard output.
fn one_line() -> impl Predicate<str> {
    predicate::function(|text: &str| text.lines().count() == 1 && text.starts_with("layers: "))
}

/// A file of a directory that goes with the test.
fn file(directory: &tempfile::TempDir, name: &str, bytes: &[u8]) -> String {
    let path = directory.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

/// Broken by Debian's nbdkit in a scenario where it always happens.
const KNOWN: [&str; 6] =
    ["conform", "nbdkit", "--only", "close.exactly-once", "--only", "end/sigterm/connected"];

#[test]
fn conform_says_that_nbdkit_skips_closes_at_a_signal() {
    layers(&[&KNOWN[..], &["--no-baseline"]].concat()).code(1).stdout(
        contains("FAIL   close.exactly-once in end/sigterm/connected, in 1 of 1 tries")
            .and(contains("at fault: server"))
            .and(contains("reproduce: layers conform nbdkit --no-baseline --only end/sigterm/connected")),
    );
}

#[test]
fn what_the_baseline_lists_is_known_and_fails_nothing() {
    layers(&KNOWN).code(0).stdout(
        contains("known  close.exactly-once")
            .and(predicates::str::ends_with("exit 0: conformant except 1 known finding\n")),
    );
}

/// A baseline of Debian's nbdkit with one entry: these rules in these scenarios.
fn baseline(directory: &tempfile::TempDir, rules: &str, scenarios: &str) -> String {
    let text = format!(
        "server = \"nbdkit\"\nversion = \"1.32.5\"\n\n[[known]]\nrules = {rules}\n\
         scenarios = {scenarios}\nhow = \"deterministic\"\nwhy = \"a test\"\n"
    );
    file(directory, "baseline.toml", text.as_bytes())
}

#[test]
fn an_entry_of_the_baseline_that_no_longer_happens_is_stale() {
    let directory = tempfile::tempdir().unwrap();
    let scenarios = r#"["end/sigterm/connected", "end/sigterm/closed", "classical"]"#;
    let baseline = baseline(&directory, r#"["close.exactly-once"]"#, scenarios);
    let wrong = [&KNOWN[..], &["--only", "end/sigterm/closed", "--baseline", &baseline]].concat();
    layers(&wrong).code(4).stdout(
        contains("stale")
            .and(contains("end/sigterm/closed: a test"))
            .and(contains("classical").not())
            .and(contains("exit 4: the baseline lists failures that no longer occur")),
    );
    // Of what was not selected nothing can be said.
    layers(&[&KNOWN[..], &["--baseline", &baseline]].concat()).code(0);
}

#[test]
fn a_baseline_with_an_unknown_name_is_refused_with_the_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = baseline(&directory, r#"["close.exactly-onec"]"#, r#"["classical"]"#);
    layers(&[&KNOWN[..], &["--baseline", &path]].concat())
        .code(2)
        .stdout(is_empty())
        .stderr(one_line().and(contains("baseline.toml:5: there is no rule `close.exactly-onec`")));
    layers(&[&KNOWN[..], &["--baseline", "/nowhere/baseline.toml"]].concat())
        .code(2)
        .stdout(is_empty())
        .stderr(one_line().and(contains("/nowhere/baseline.toml")));
}

#[test]
fn a_baseline_that_is_written_is_refused_until_somebody_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new.toml").display().to_string();
    let with = [&KNOWN[..], &["--baseline", &path]].concat();
    layers(&[&with[..], &["--update-baseline"]].concat()).code(1);
    layers(&with).code(2).stderr(one_line().and(contains("`why` is empty")));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("why = \"\"", "why = \"it is so\"")).unwrap();
    layers(&with).code(0).stdout(contains("conformant except 1 known finding"));
    let before = std::fs::read_to_string(&path).unwrap();
    layers(&[&with[..], &["--update-baseline"]].concat()).code(0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before, "nothing was stale, nothing new");
}

#[test]
fn the_report_is_the_same_however_many_scenarios_are_played_at_a_time() {
    let report = |jobs: &str| {
        // Where a client is dropped or stopped at its work, how often a rule is exercised is for chance to say.
        let selected = ["--only", "depth/*", "--only", "end/*/closed", "--only", "fail/p*"];
        let assert = layers(&[&["conform", "nbdkit", "--jobs", jobs], &selected[..]].concat());
        assert.code(0).get_output().stdout.clone()
    };
    let (one, three) = (report("1"), report("3"));
    assert_eq!(String::from_utf8(one).unwrap(), String::from_utf8(three).unwrap());
}

#[test]
fn several_reports_of_one_run() {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("report.ndjson").display().to_string();
    let file = format!("ndjson={to}");
    layers(&[&KNOWN[..], &["--report", "human", "--report", &file]].concat())
        .code(0)
        .stdout(contains("conformant except"));
    let lines = std::fs::read_to_string(&to).unwrap();
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last["meaning"], "conformant except 1 known finding");
    for wrong in
        [&["--report", "xml"][..], &["--report", "human="], &["--report", "human", "--report", "ndjson"]]
    {
        layers(&[&KNOWN[..], wrong].concat()).code(2).stdout(is_empty());
    }
}

/// As automake and CI services keep what a test says.
#[test]
fn two_reports_into_the_log_of_both_streams_are_both_there() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("layers"));
    command.args(["validate", "memory", "1M", "--only", "read.odd", "--report", "tap"]);
    command.args(["--report", "human=/dev/stderr"]);
    let stream = || std::fs::OpenOptions::new().append(true).open(log.path()).unwrap();
    assert!(command.stdout(stream()).stderr(stream()).status().unwrap().success());
    let text = std::fs::read_to_string(log.path()).unwrap();
    assert!(text.contains("TAP version 13") && text.contains("exit 0: conformant"), "{text}");
}

#[test]
fn a_level_says_what_it_leaves_out() {
    let run = |level: &str| layers(&["conform", "nbdkit", "--only", "classical", "--level", level]).code(0);
    run("must").stdout(contains("level must").and(contains("observed: --level should judges it")));
    run("should").stdout(contains("--level should judges it").not());
    run("pedantic").stdout(contains("level pedantic"));
}

#[test]
fn conform_exits_0_when_everything_that_was_judged_holds() {
    layers(&["conform", "nbdkit", "--only", "lifecycle.cleanup.*", "--only", "classical"])
        .code(0)
        .stdout(contains("pass   lifecycle.cleanup.outer-to-inner").and(contains("exit 0: conformant")));
}

#[test]
fn conform_that_exercises_no_rule_is_no_pass() {
    layers(&["conform", "nbdkit", "--only", "lifecycle.cleanup.once", "--only", "inform/help"])
        .code(3)
        .stdout(contains("never exercised").and(contains("exit 3: nothing was judged")));
}

#[test]
fn the_report_for_programs_is_one_object_a_line_with_a_version_in_the_first() {
    let assert =
        layers(&["conform", "nbdkit", "--report", "ndjson", "--only", "lifecycle.*", "--only", "classical"])
            .code(0);
    let output = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    let lines: Vec<serde_json::Value> =
        output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["type"], "begin");
    assert_eq!(lines[0]["format"], 2);
    assert_eq!(lines[0]["level"], "should");
    assert_eq!(lines.last().unwrap()["type"], "end");
    assert_eq!(lines.last().unwrap()["exit"], 0);
    let rules: Vec<_> = lines.iter().filter(|line| line["type"] == "rule").collect();
    assert!(rules.iter().any(|rule| rule["verdict"] == "pass" && rule["exercised"].as_u64() > Some(0)));
    assert!(rules.iter().any(|rule| rule["verdict"] == "not-applicable" && rule["reason"].is_string()));
}

#[test]
fn a_pattern_that_matches_nothing_is_a_usage_error() {
    layers(&["conform", "nbdkit", "--only", "lifecycel.*"]).code(2).stdout(is_empty()).stderr(one_line());
}

#[test]
fn a_missing_server_is_named_with_what_to_do() {
    layers(&["conform", "nbdkit", "--server", "/nowhere/nbdkit"])
        .code(6)
        .stdout(is_empty())
        .stderr(one_line().and(contains("/nowhere/nbdkit")).and(contains("--server PATH")));
}

#[test]
fn a_text_file_is_no_server() {
    let directory = tempfile::tempdir().unwrap();
    let text = file(&directory, "nbdkit", b"not a program\n");
    layers(&["conform", "nbdkit", "--server", &text]).code(6).stdout(is_empty()).stderr(one_line());
    make_executable(Path::new(&text));
    layers(&["conform", "nbdkit", "--server", &text]).code(6).stdout(is_empty()).stderr(one_line());
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn another_program_is_no_server() {
    layers(&["trace", "--server", "/bin/true", "memory", "1M"])
        .code(6)
        .stdout(is_empty())
        .stderr(one_line().and(contains("is not nbdkit")));
}

#[test]
fn a_plugin_that_cannot_be_loaded_is_named_with_the_reason() {
    layers(&["trace", "/nowhere/plugin.so"]).code(5).stdout(is_empty()).stderr(one_line());
}

#[test]
fn rules_lists_and_explains() {
    layers(&["rules"]).code(0).stdout(contains("lifecycle.cleanup.outer-to-inner"));
    layers(&["rules", "lifecycle.cleanup.outer-to-inner"])
        .code(0)
        .stdout(contains("clause").and(contains("nbdkit-filter(3)")).and(contains("broken by")));
    layers(&["rules", "no.such.rule"])
        .code(2)
        .stdout(is_empty())
        .stderr(one_line().and(contains("no.such.rule")));
}

#[test]
fn help_shows_the_exit_codes() {
    let all = |text: &str| layers::verdict::Exit::ALL.iter().all(|exit| text.contains(&exit.to_string()));
    layers(&["--help"]).code(0).stdout(predicate::function(all));
}

#[test]
fn check_judges_a_saved_trace_again() {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("good.trace").display().to_string();
    layers(&["trace", "--scenario", "classical", "--save", &trace]).code(0);
    layers(&["check", &trace]).code(0).stdout(contains("0 broken; exit 0"));
    let broken = directory.path().join("broken.trace").display().to_string();
    layers(&["trace", "--scenario", "end/sigterm/connected", "--save", &broken]).code(0);
    layers(&["check", &trace, &broken]).code(1).stdout(contains("lifecycle.cleanup.all-closed"));
}

#[test]
fn a_trace_that_was_cut_off_is_inconclusive() {
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("whole.trace");
    layers(&["trace", "--scenario", "classical", "--save", &whole.display().to_string()]).code(0);
    let bytes = std::fs::read(&whole).unwrap();
    let header = file(&directory, "header.trace", &bytes[..2000]);
    let records = file(&directory, "records.trace", &bytes[..4096 + 64 * 100]);
    for cut in [header, records] {
        layers(&["check", &cut]).code(7).stdout(is_empty()).stderr(one_line().and(contains("cut off")));
    }
}

#[test]
fn what_is_no_trace_is_a_usage_error() {
    let directory = tempfile::tempdir().unwrap();
    let text = file(&directory, "text", b"hello\n");
    let empty = file(&directory, "empty", b"");
    let missing = directory.path().join("missing").display().to_string();
    for input in [text, empty, missing] {
        layers(&["check", &input])
            .code(2)
            .stdout(is_empty())
            .stderr(one_line().and(contains(input.as_str())));
    }
}

#[test]
fn a_killed_server_leaves_a_trace_that_names_the_callbacks_in_flight() {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("killed.trace").display().to_string();
    layers(&["trace", "--scenario", "end/sigkill", "--save", &trace]).code(0).stdout(
        contains("L0.pread h3 offset=0 count=512 flags=0x0 … never returned")
            .and(contains("killed by signal 9")),
    );
    let in_flight = contains("in flight at the end:")
        .and(contains("enter L2.pread"))
        .and(contains("enter L1.pread"))
        .and(contains("enter L0.pread"));
    layers(&["check", &trace]).stdout(in_flight);
}

#[test]
fn any_program_can_drive_the_stack() {
    let read = ["--", "qemu-io", "-f", "raw", "-c", "r 0 512", "{uri}"];
    let arguments = [&["trace", "--filter=cow", "memory", "1M"][..], &read[..]].concat();
    layers(&arguments).code(0).stdout(
        contains("L1.pread h1 offset=0 count=512")
            .and(contains("    L0.pread h2 offset=0"))
            .and(contains("exit status 0")),
    );
}

#[test]
fn a_client_that_does_not_exist_is_named() {
    layers(&["trace", "null", "--", "/nowhere/client", "{uri}"]).code(2).stderr(contains("/nowhere/client"));
}

#[test]
fn completions_and_manual_pages_come_from_the_command_itself() {
    layers(&["completions", "bash"]).code(0).stdout(contains("--update-baseline"));
    layers(&["completions", "tcsh"]).code(2);
    let folder = tempfile::tempdir().unwrap();
    layers(&["man", folder.path().to_str().unwrap()]).code(0);
    let page = std::fs::read_to_string(folder.path().join("layers-validate.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("allow"), "{page}");
    layers(&["man", "/proc/none/of/this"]).code(2).stderr(contains("cannot write to"));
}
