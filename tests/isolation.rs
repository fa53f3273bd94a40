//! Whatever a subject does, the harness lives, says what happened and in which call, ends with the documented exit code,
//! and leaves nothing alive or on disk.
//!
//! One plugin, `fixtures/moody.c`, does in each of its callbacks what the environment says.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod side_by_side;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use layers::deadline::Deadline;
use side_by_side::each;

/// What a subject does, and what must be said of it.
struct Animal {
    /// The callback in which it does it.
    about: &'static str,
    mood: &'static str,
    /// Besides the checks of processes.
    check: &'static str,
    exit: i32,
    /// All of these stand in the report.
    said: Vec<String>,
}

fn animal(about: &'static str, mood: &'static str, check: &'static str, exit: i32, said: &[&str]) -> Animal {
    Animal { about, mood, check, exit, said: said.iter().map(|text| (*text).to_owned()).collect() }
}

/// Callbacks, each with a check that needs it.
const CALLBACKS: &[(&str, &str)] = &[
    ("load", "read.repeats"),
    ("config", "read.repeats"),
    ("config_complete", "read.repeats"),
    ("thread_model", "read.repeats"),
    ("get_ready", "read.repeats"),
    ("after_fork", "read.repeats"),
    ("preconnect", "read.repeats"),
    ("default_export", "read.repeats"),
    ("open", "read.repeats"),
    ("export_description", "read.repeats"),
    ("get_size", "read.repeats"),
    ("can_write", "read.repeats"),
    ("can_flush", "read.repeats"),
    ("can_extents", "read.repeats"),
    ("pread", "read.repeats"),
    ("pwrite", "write.last-wins"),
    ("zero", "zero.may-trim"),
    ("trim", "trim.succeeds"),
    ("flush", "flush.succeeds"),
    ("cache", "cache.succeeds"),
    ("extents", "extents.succeed"),
    ("list_exports", "exports.list"),
    ("dump_plugin", "inform.dump-plugin"),
    ("close", "read.repeats"),
    ("cleanup", "read.repeats"),
    ("unload", "read.repeats"),
];

/// A server that does not serve yet, or not any more.
const STARTING: &[&str] =
    &["load", "config", "config_complete", "thread_model", "get_ready", "after_fork", "dump_plugin"];

fn animals() -> Vec<Animal> {
    let mut all = Vec::new();
    for (about, check) in CALLBACKS {
        let enter = format!("enter L0.{about}");
        all.push(animal(about, "hang", check, 1, &["HANG  process.hang", &enter, "replay:   layers repro"]));
        all.push(animal(
            about,
            "abort",
            check,
            1,
            &["CRASH process.crash", "SIGABRT", &enter, "at fault: L0"],
        ));
        if !STARTING.contains(about) {
            all.push(animal(about, "exit", check, 1, &["FAIL  process.exit", "with status 0", &enter]));
        }
    }
    all.extend([
        animal(
            "constructor",
            "abort",
            "read.repeats",
            1,
            &["CRASH process.crash", "SIGABRT", "before any call"],
        ),
        animal("constructor", "hang", "read.repeats", 1, &["HANG  process.hang", "before any call"]),
        animal(
            "constructor",
            "exit",
            "read.repeats",
            5,
            &["cannot be loaded: it ends with status 0 before any call"],
        ),
        animal("load", "exit", "read.repeats", 5, &["cannot be loaded: it ends with status 0 in L0.load"]),
        animal("destructor", "abort", "read.repeats", 1, &["CRASH process.crash", "exit L0.unload"]),
        animal("destructor", "hang", "read.repeats", 1, &["HANG  process.hang", "exit L0.unload"]),
        animal("pread", "fork", "read.repeats", 0, &["warn  process.children", "left behind"]),
        animal("open", "fork", "read.repeats", 0, &["warn  process.children", "left behind"]),
        animal("pread", "descriptors", "read.repeats", 1, &["FAIL  process.descriptors", "enter L0.pread"]),
        animal("pread", "output", "read.repeats", 1, &["FAIL  process.output", "enter L0.pread"]),
        animal("pread", "memory", "read.repeats", 1, &["FAIL  process.memory", "enter L0.pread"]),
        animal("get_ready", "memory", "read.repeats", 1, &["FAIL  process.memory", "enter L0.get_ready"]),
        animal("none", "none", "read.repeats", 0, &["exit 0: conformant"]),
    ]);
    all
}

fn moody() -> &'static Path {
    static BUILT: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    &BUILT.get_or_init(|| build("moody", &[])).1
}

/// Compiles `fixtures/moody.c`.
fn build(name: &str, flags: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let library = directory.path().join(format!("{name}.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fixtures/moody.c");
    let mut cc = Command::new("cc");
    let built =
        cc.args(["-g", "-Wall", "-Werror", "-fPIC", "-shared", "-o"]).arg(&library).args(flags).arg(source);
    assert!(built.status().unwrap().success());
    (directory, library)
}

/// What a run left behind: its output and exit code, processes, and files.
struct Left {
    exit: Option<i32>,
    printed: String,
    alive: Vec<String>,
    files: Vec<PathBuf>,
}

/// Seconds that a step may take: whatever waits for ever has to be waited for, and nothing else is hurried.
fn patience(mood: &str) -> &'static str {
    if mood == "hang" { "4" } else { "30" }
}

fn validate(mood: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Left {
    let (temporary, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cases = tempfile::tempdir().unwrap();
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("layers"));
    command.args(["validate", "--timeout", patience(mood), "--memory", "64"]);
    if !arguments.contains(&"--repro") {
        command.arg("--repro").arg(cases.path());
    }
    command.args(arguments);
    command.current_dir(here.path()).env("TMPDIR", temporary.path()).envs(environment.iter().copied());
    // Whatever limit there is on cores, it would not be the harness's merit.
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: one system call, between fork and exec.
    unsafe {
        command.pre_exec(move || {
            libc::setrlimit(libc::RLIMIT_CORE, &raw const unlimited);
            Ok(())
        });
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let deadline = Deadline::after(Duration::from_secs(10));
    let mark = temporary.path().display().to_string();
    while !alive(&mark).is_empty() && !deadline.passed() {
        std::thread::yield_now();
    }
    let files = [temporary.path(), here.path()];
    let files = files.iter().flat_map(|path| std::fs::read_dir(path).unwrap().flatten());
    Left {
        exit: output.status.code(),
        printed: String::from_utf8_lossy(&output.stdout).into_owned(),
        alive: alive(&mark),
        files: files.map(|entry| entry.path()).collect(),
    }
}

/// Processes that have this directory in their environment.
fn alive(mark: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
    let marked = |process: &PathBuf| {
        let environment = std::fs::read(process.join("environ")).unwrap_or_default();
        !process.ends_with(&own) && String::from_utf8_lossy(&environment).contains(mark)
    };
    let line = |process: PathBuf| {
        String::from_utf8_lossy(&std::fs::read(process.join("cmdline")).unwrap_or_default()).into_owned()
    };
    processes.filter(marked).map(line).collect()
}

/// What is not as it must be.
fn wrong(animal: &Animal) -> Option<String> {
    let path = moody().display().to_string();
    let arguments =
        ["--only", "process.*", "--only", "file.*", "--only", "open.*", "--only", animal.check, &path, "a=1"];
    let left = validate(animal.mood, &arguments, &[("ABOUT", animal.about), ("MOOD", animal.mood)]);
    let missing: Vec<&String> =
        animal.said.iter().filter(|text| !left.printed.contains(text.as_str())).collect();
    let good = left.exit == Some(animal.exit)
        && missing.is_empty()
        && left.alive.is_empty()
        && left.files.is_empty();
    let Left { exit, printed, alive, files } = left;
    (!good).then(|| {
        let (about, mood) = (animal.about, animal.mood);
        format!("{mood} in {about}: exit {exit:?}, missing {missing:?}, alive {alive:?}, on disk {files:?}\n{printed}")
    })
}

#[test]
fn whatever_a_callback_does_is_told_and_nothing_is_left() {
    let animals = animals();
    moody();
    // Those that hang only wait.
    let wrong: Vec<String> = each(&animals, 4, wrong).into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), animals.len(), wrong.join("\n"));
}

/// The line that a finding ends with shows it again.
#[test]
fn what_happened_once_happens_again() {
    let cases = tempfile::tempdir().unwrap();
    let path = moody().display().to_string();
    let only = ["--only", "process.*", "--only", "open.*", "--only", "file.*", "--only", "read.repeats"];
    let moods = [
        ("pread", "abort", "process.crash", "SIGABRT"),
        ("pread", "hang", "process.hang", "no answer"),
        ("pread", "exit", "process.exit", "by itself"),
        ("pread", "memory", "process.memory", "MiB"),
        ("pread", "output", "process.output", "room"),
        ("pread", "descriptors", "process.descriptors", "connection ends"),
        ("pread", "fork", "process.children", "left behind"),
        ("unload", "exit", "process.exit", "by itself"),
        ("get_size", "fail", "open.succeeds", "no export opens"),
    ];
    for (about, mood, id, said) in moods {
        let environment = [("ABOUT", about), ("MOOD", mood)];
        let arguments = [&["--repro", cases.path().to_str().unwrap()], &only[..], &[&path]].concat();
        let first = validate(mood, &arguments, &environment);
        let file = cases.path().join(format!("{id}.json"));
        assert!(first.printed.contains(&format!("layers repro {}", file.display())), "{}", first.printed);
        let (exit, printed) = again(&file, about, mood);
        assert_eq!(exit, Some(1), "{printed}");
        assert!(printed.contains(said) && !printed.contains("instead"), "{id}: {printed}");
    }
}

/// What `layers repro` says, when the subject does this now.
fn again(file: &Path, about: &str, mood: &str) -> (Option<i32>, String) {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("layers"));
    command.args(["repro", "--timeout", patience(mood)]).arg(file).env("ABOUT", about).env("MOOD", mood);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A mended subject is told from one that breaks otherwise, and from one of which the case says nothing now.
#[test]
fn a_case_that_shows_something_else_says_so() {
    let cases = tempfile::tempdir().unwrap();
    let path = moody().display().to_string();
    let arguments =
        ["--repro", cases.path().to_str().unwrap(), "--only", "process.*", "--only", "read.repeats", &path];
    validate("descriptors", &arguments, &[("ABOUT", "pread"), ("MOOD", "descriptors")]);
    let file = cases.path().join("process.descriptors.json");
    for (about, mood, exit, said) in [
        ("none", "none", 0, "nothing is broken now; when the case was written: the connection ends"),
        ("pread", "abort", 1, "process.crash is broken instead"),
        ("unload", "exit", 1, "process.exit is broken instead"),
        ("load", "hang", 1, "process.hang is broken instead"),
        ("get_size", "fail", 7, "it cannot be judged: its set-up went wrong"),
        ("get_ready", "fail", 7, "it cannot be judged: the server does not start"),
    ] {
        let (code, printed) = again(&file, about, mood);
        assert!(code == Some(exit) && printed.contains(said), "{mood} in {about}: {code:?} {printed}");
    }
}

#[test]
fn a_script_that_hangs_leaves_nothing() {
    let left = validate(
        "hang",
        &["--only", "process.*", "--only", "read.repeats", "eval", "get_size=echo 1M", "pread=sleep 86398.5"],
        &[],
    );
    assert_eq!((left.exit, left.alive, left.files), (Some(1), Vec::new(), Vec::new()), "{}", left.printed);
    assert!(left.printed.contains("HANG  process.hang"), "{}", left.printed);
}

/// Changes bytes of a library.
fn changed(from: &Path, to: &Path, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut bytes = std::fs::read(from).unwrap();
    change(&mut bytes);
    std::fs::write(to, bytes).unwrap();
    to.display().to_string()
}

#[test]
fn what_cannot_be_loaded_is_told_without_a_server() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    std::fs::write(file("text.so"), "#!/bin/sh\n").unwrap();
    std::fs::write(file("empty.so"), "").unwrap();
    // e_machine and EI_CLASS of the ELF header.
    let machine =
        changed(moody(), &file("machine.so"), |bytes| bytes[18] = if bytes[18] == 40 { 62 } else { 40 });
    let class = changed(moody(), &file("class.so"), |bytes| bytes[4] = 1);
    let cut = changed(moody(), &file("cut.so"), |bytes| bytes.truncate(1000));
    let path = |name: &str| file(name).display().to_string();
    let cases = [
        (vec![path("text.so")], "not a shared library"),
        (vec![path("empty.so")], "not a shared library"),
        (vec![path("nowhere.so")], "nowhere.so"),
        (vec![directory.path().display().to_string()], "no regular file"),
        (vec![machine], "machine"),
        (vec![class], "class.so"),
        (vec![cut], "cut.so"),
        (vec![format!("--filter={}", moody().display()), "null".to_owned()], "plugin"),
        (vec!["/bin/true".to_owned()], "cannot load"),
    ];
    for (arguments, said) in cases {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let left = validate("none", &arguments, &[]);
        assert_eq!(
            (left.exit, left.alive, left.files),
            (Some(5), Vec::new(), Vec::new()),
            "{arguments:?}\n{}",
            left.printed
        );
        assert!(
            left.printed.contains(said) && left.printed.contains("exit 5"),
            "{arguments:?}\n{}",
            left.printed
        );
    }
}
