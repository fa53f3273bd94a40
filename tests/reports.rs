//! Reports for other programs, read by those programs or by libraries that are not ours.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin_cmd;
use quick_junit::{NonSuccessKind, Report, TestCaseStatus};
use serde_json::Value;

/// All formats of one run of `layers` with these arguments, which ends with this code.
fn reports(arguments: &[&str], code: i32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut command = cargo_bin_cmd!("layers");
    command.args(arguments).current_dir(&folder);
    for format in ["junit", "tap", "github", "markdown", "ndjson"] {
        command.arg("--report").arg(format!("{format}={format}"));
    }
    command.assert().code(code);
    folder
}

/// One promise that this server is known to break, one that holds, and many that are not judged.
const ENDING: [&str; 6] =
    ["conform", "nbdkit", "--only", "end/sigterm/connected", "--only", "close.exactly-once"];

fn broken() -> tempfile::TempDir {
    reports(&[&ENDING[..], &["--no-baseline"]].concat(), 1)
}

/// Its last line, and that it says yes.
fn said_by(program: &str, arguments: &[&str], file: &Path) -> Output {
    Command::new(program).args(arguments).arg(file).output().unwrap()
}

#[test]
fn junit_is_valid_and_says_what_failed() {
    for folder in [broken(), reports(&["validate", "memory", "1M", "--only", "read.*"], 0)] {
        let file = folder.path().join("junit");
        let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/junit.xsd");
        let output = said_by("xmllint", &["--noout", "--schema", schema], &file);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let report = Report::deserialize_from_str(&fs::read_to_string(broken().path().join("junit")).unwrap());
    let report = report.unwrap();
    assert_eq!(report.failures, 1);
    let case = report.test_suites.iter().flat_map(|suite| &suite.test_cases);
    let case = case.into_iter().find(|case| case.name.as_str() == "close.exactly-once").unwrap();
    let TestCaseStatus::NonSuccess { kind, message, description, .. } = &case.status else {
        panic!("{:?}", case.status)
    };
    assert_eq!(*kind, NonSuccessKind::Failure);
    assert_eq!(message.as_deref(), Some("broken in end/sigterm/connected"));
    assert!(description.as_deref().unwrap().contains("reproduce: layers conform nbdkit"));
}

/// Four promises are broken in three scenarios, all for one cause: what is open when the server is told to stop stays open.
#[test]
fn one_cause_is_one_failure_and_one_annotation() {
    let folder = reports(&["conform", "nbdkit", "--no-baseline", "--only", "end/sigterm/*"], 1);
    let text = |file: &str| fs::read_to_string(folder.path().join(file)).unwrap();
    let report = Report::deserialize_from_str(&text("junit")).unwrap();
    assert_eq!(report.failures, 1);
    let cases: Vec<_> = report.test_suites.iter().flat_map(|suite| &suite.test_cases).collect();
    let failed = cases.iter().find_map(|case| match &case.status {
        TestCaseStatus::NonSuccess { description, .. } => description.as_deref(),
        _ => None,
    });
    let failed = failed.unwrap();
    assert!(failed.contains("3 scenarios: end/sigterm/"), "{failed}");
    assert_eq!(failed.matches("reproduce: ").count(), 1, "the first is told at length: {failed}");
    let refers = |case: &&&quick_junit::TestCase| match &case.status {
        TestCaseStatus::Skipped { message, .. } => {
            message.as_deref().is_some_and(|message| message.starts_with("seen only with "))
        }
        _ => false,
    };
    assert_eq!(cases.iter().filter(refers).count(), 3);
    let errors = text("github");
    let errors: Vec<&str> = errors.lines().filter(|line| line.starts_with("::error ")).collect();
    assert_eq!(errors.len(), 2, "the cause, and how the run ended: {errors:?}");
}

#[test]
fn what_is_known_is_skipped_for_junit_and_to_do_for_tap() {
    let folder = reports(&ENDING, 0);
    let report = Report::deserialize_from_str(&fs::read_to_string(folder.path().join("junit")).unwrap());
    let report = report.unwrap();
    let cases = report.test_suites.iter().flat_map(|suite| &suite.test_cases);
    let known = cases.filter_map(|case| match &case.status {
        TestCaseStatus::Skipped { message, .. } => message.as_deref(),
        _ => None,
    });
    assert_eq!(known.filter(|message| message.starts_with("known: ")).count(), 1);
    let tap = fs::read_to_string(folder.path().join("tap")).unwrap();
    let known = "close.exactly-once # TODO known: broken in end/sigterm/connected";
    assert!(tap.contains(known), "{tap}");
}

#[test]
fn tap_is_read_by_its_own_parser() {
    for (folder, passes) in [(broken(), false), (reports(&ENDING, 0), true)] {
        let output = said_by("prove", &["-e", "cat"], &folder.path().join("tap"));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.success(), passes, "{said}");
        assert!(!said.contains("Parse errors"), "{said}");
    }
}

#[test]
fn github_gets_an_annotation_for_what_fails_and_a_table() {
    let folder = broken();
    let annotations = fs::read_to_string(folder.path().join("github")).unwrap();
    let lines: Vec<&str> = annotations.lines().collect();
    assert_eq!(lines.len(), 2, "{annotations}");
    assert!(lines.iter().all(|line| line.starts_with("::error title=nbdkit ")), "{annotations}");
    assert!(annotations.contains("close.exactly-once::broken in end/sigterm/connected%0A"), "{annotations}");
    let summary = fs::read_to_string(folder.path().join("markdown")).unwrap();
    assert!(summary.contains("| rules | 0 | 0 | 0 | 1 | 0 | 0 | 0 |"), "{summary}");
    assert!(summary.contains("### fail `close.exactly-once`"), "{summary}");
}

/// GitHub's own parser makes of it what is meant, and nothing of what a subject's name says.
#[test]
fn the_summary_of_a_step_is_what_github_shows() {
    let shown = |file: &Path| {
        let output = said_by("cmark-gfm", &["--unsafe", "-e", "table", "-e", "autolink"], file);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let page = shown(&broken().path().join("markdown"));
    let numbers: String =
        ["0", "0", "0", "1", "0", "0", "0"].map(|n| format!("<td align=\"right\">{n}</td>\n")).concat();
    assert!(page.contains(&format!("<tr>\n<td>rules</td>\n{numbers}</tr>")), "{page}");
    assert!(page.contains("<h3>fail <code>close.exactly-once</code></h3>"), "{page}");
    assert!(
        page.contains("<pre><code class=\"language-text\">close.exactly-once in end/sigterm/connected"),
        "{page}"
    );
    let hostile = "x</code><img src=x>**[a](b)|`";
    let page = shown(&reports(&["validate", hostile], 5).path().join("markdown"));
    assert!(!page.contains("<img"), "{page}");
    assert!(!page.contains("<a "), "{page}");
}

/// Whoever reads only the cases sees that nothing was judged.
#[test]
fn what_was_not_judged_is_no_success() {
    let never = ["conform", "nbdkit", "--only", "inform/help", "--only", "close.exactly-once"];
    let folder = reports(&never, 3);
    let report = Report::deserialize_from_str(&fs::read_to_string(folder.path().join("junit")).unwrap());
    assert_eq!(report.unwrap().errors, 1);
    let tap = fs::read_to_string(folder.path().join("tap")).unwrap();
    assert!(tap.contains("run/conclusive"), "{tap}");
}

/// Read back: every slice lies inside those of its thread that are open when it begins, and has a name.
#[test]
fn perfetto_gets_slices_that_nest() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.json");
    let report = format!("perfetto={}", file.display());
    cargo_bin_cmd!("layers").args(["trace", "--scenario", "classical", "--report", &report]).assert().code(0);
    let trace: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let ns = |event: &Value, key: &str| (event[key].as_f64().unwrap() * 1000.0).round() as u64;
    let slices = events.iter().filter(|event| event["ph"] == "X");
    // Layers are processes: what nests is the calls of one thread, whatever layer they are of.
    let mut open: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut count = 0;
    for slice in slices {
        let (begin, end) = (ns(slice, "ts"), ns(slice, "ts") + ns(slice, "dur"));
        let stack = open.entry(slice["tid"].as_u64().unwrap()).or_default();
        stack.retain(|until| *until > begin);
        assert!(stack.iter().all(|until| end <= *until), "{slice}");
        stack.push(end);
        count += 1;
    }
    assert!(count > 100, "{count} slices");
    let begun = |phase: &str| events.iter().filter(|event| event["ph"] == phase).count();
    assert_eq!(begun("b"), begun("e"));
    let names = events.iter().filter(|event| event["name"] == "process_name");
    let names: Vec<&str> = names.map(|event| event["args"]["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"L0 layers") && names.contains(&"clients"), "{names:?}");
}

/// The lines that `layers` writes with these arguments.
fn lines(arguments: &[&str], code: i32) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = cargo_bin_cmd!("layers");
    command.args(arguments).current_dir(&folder).args(["--report", "ndjson"]);
    let output = command.assert().code(code).get_output().stdout.clone();
    String::from_utf8(output).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A schema as it is committed.
fn schema(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas").join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Fields that only some lines of a type have.
const NOT_ALWAYS: &[&str] = &[
    "party",
    "statement",
    "clause",
    "expected",
    "actual",
    "calls",
    "seen",
    "tries",
    "reason",
    "rule",
    "verdict",
];

/// Each line is as the schema says; every type that it knows occurs, and without a field or with another one no line of it
/// is valid.
fn are_as_they_should(lines: &[Value], schema: &Value) {
    let validator = jsonschema::validator_for(schema).unwrap();
    let mut types: Vec<&str> = Vec::new();
    for line in lines {
        if let Err(error) = validator.validate(line) {
            panic!("{line}\n{error}");
        }
        let kind = line["type"].as_str().unwrap();
        if types.contains(&kind) {
            continue;
        }
        types.push(kind);
        let mut wrong = line.clone();
        wrong["more"] = Value::Null;
        assert!(!validator.is_valid(&wrong), "{wrong}");
        let is_optional = |key: &str| {
            NOT_ALWAYS.contains(&key)
                && matches!(kind, "finding" | "baseline")
                && (line.get("scenario").is_some() || line.get("server").is_some())
        };
        for key in line.as_object().unwrap().keys().filter(|key| !is_optional(key)) {
            let mut wrong = line.clone();
            wrong.as_object_mut().unwrap().remove(key);
            assert!(!validator.is_valid(&wrong), "without {key}: {wrong}");
        }
    }
    types.sort_unstable();
    let known = schema["oneOf"].as_array().unwrap().iter();
    let mut known: Vec<&str> =
        known.map(|one| one["properties"]["type"]["const"].as_str().unwrap()).collect();
    known.sort_unstable();
    assert_eq!(types, known, "every type of line was seen");
}

#[test]
fn the_lines_of_conform_are_as_their_schema_says() {
    let folder = tempfile::tempdir().unwrap();
    let baseline = folder.path().join("baseline.toml");
    let known = |rule: &str, how: &str| {
        format!(
            "[[known]]\nrules = [\"{rule}\"]\nscenarios = [\"end/sigterm/connected\"]\nhow = {how}\nwhy = \"-\"\n"
        )
    };
    let text = [
        "server = \"nbdkit\"\nversion = \"1.32.5\"\n".to_owned(),
        known("close.exactly-once", "\"deterministic\""),
        known("lifecycle.cleanup.once", "\"race\"\nseen = 1\ntries = 2"),
    ];
    fs::write(&baseline, text.concat()).unwrap();
    let with_baseline = ["--only", "lifecycle.*", "--baseline", baseline.to_str().unwrap()];
    let mut all = lines(&[&ENDING[..], &with_baseline].concat(), 1);
    // A race goes its way or does not.
    all.extend(lines(&["conform", "nbdkit", "--only", "race/hang-up-with-requests", "--level", "must"], 0));
    all.extend(lines(&["conform", "haproxy", "--only", "own/*"], 0));
    are_as_they_should(&all, &schema("conform.ndjson.schema.json"));
}

#[test]
fn the_lines_of_validate_are_as_their_schema_says() {
    let folder = tempfile::tempdir().unwrap();
    let baseline = folder.path().join("known.toml");
    fs::write(&baseline, "[[known]]\nid = \"read.succeeds\"\nwhy = \"-\"\n").unwrap();
    let options =
        ["validate", "--only", "write.*", "--only", "read.*", "--baseline", baseline.to_str().unwrap()];
    let zeroes = "pread=dd if=/dev/zero count=$3 iflag=count_bytes 2>/dev/null";
    let forgets = ["eval", "get_size=echo 1M", zeroes, "can_write=exit 0", "pwrite=cat >/dev/null"];
    let mut all = lines(&[&options[..], &forgets].concat(), 1);
    all.extend(lines(&["validate", "memory", "1M"], 0));
    all.extend(lines(&["validate", "/nowhere/x.so"], 5));
    let sets = folder.path().join("layers.toml");
    fs::write(&sets, "[[validate.set]]\nname = \"one\"\nparameters = [\"1M\"]\n").unwrap();
    let of_sets = ["validate", "--config", sets.to_str().unwrap(), "--only", "read.odd", "memory"];
    all.extend(lines(&of_sets, 0));
    are_as_they_should(&all, &schema("validate.ndjson.schema.json"));
}

#[test]
fn the_lines_of_watch_and_check_are_as_their_schema_says() {
    let folder = tempfile::tempdir().unwrap();
    let baseline = folder.path().join("known.toml");
    fs::write(&baseline, "[[known]]\nid = \"lifecycle.unload.once\"\nwhy = \"-\"\n").unwrap();
    let (baseline, traces) = (baseline.to_str().unwrap(), folder.path().join("traces"));
    let report = folder.path().join("lines");
    let run = |arguments: &[&str], script: &str| {
        let mut command = cargo_bin_cmd!("layers");
        command.arg("watch").args(arguments).arg(format!("--report=ndjson={}", report.display()));
        let _ended = command.args(["--", "sh", "-c", script]).current_dir(&folder).assert();
        let text = fs::read_to_string(&report).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let crashes = "nbdkit -U - null --run 'kill -SEGV $(pgrep -n nbdkit -P $PPID || echo $PPID)'; \
        echo no >\"$LAYERS_WATCH/traces/unwatched-1\"";
    let own = ["--baseline", baseline, "--dir", traces.to_str().unwrap()];
    let mut all = run(
        &own,
        &format!("{crashes}; nbdkit --dump-plugin memory >/dev/null; nbdkit -U - null size=-5 2>/dev/null"),
    );
    // The first finding is a rule, the other a crash; each has fields that the other has not.
    all.sort_by_key(|line| line.get("rule").is_some());
    all.extend(lines(&["check", traces.to_str().unwrap()], 1));
    are_as_they_should(&all, &schema("traces.ndjson.schema.json"));
}

/// `UPDATE_DOCUMENTS=1 cargo test -p layers --test reports` writes them anew.
#[test]
fn the_schemas_are_those_of_the_types() {
    for (name, made) in layers::report::ndjson::schema::all() {
        let text = serde_json::to_string_pretty(&made).unwrap() + "\n";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas").join(name);
        if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap_or_default(), text, "{name} is as the types say");
    }
}
