//! `layers validate --under`: the same cases below valgrind, or with the run-time of a sanitizer.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use predicates::prelude::*;
use predicates::str::{contains, is_empty};

/// Compiles a plugin of the zoo's kind.
fn compile(directory: &Path, name: &str, source: &str, flags: &[&str]) -> PathBuf {
    let zoo = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fixtures/zoo");
    let (from, to) = (directory.join(name).with_extension("c"), directory.join(name).with_extension("so"));
    std::fs::write(&from, format!("#include \"{}/plugin.h\"\n{source}", zoo.display())).unwrap();
    let mut cc = std::process::Command::new("cc");
    cc.args(["-g", "-fPIC", "-shared", "-pthread"]).args(flags).arg("-o").arg(&to).arg(&from);
    assert!(cc.status().unwrap().success(), "cc cannot compile {}", from.display());
    to
}

fn validate(directory: &Path, arguments: &[&str]) -> Assert {
    let mut command = Command::cargo_bin("layers").unwrap();
    command.current_dir(directory).arg("validate").args([
        "--only",
        "read.succeeds",
        "--only",
        "memory.reported",
    ]);
    command.args(["--only", "process.*"]).args(arguments).timeout(Duration::from_secs(300)).assert()
}

/// A handle of which nobody has written what is looked at.
const UNWRITTEN: &str = "
static int
pread_perhaps (void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
  void *volatile unwritten = malloc (64);
  int r = ((char *) unwritten)[3] == 7 ? 0 : zoo_pread (handle, buf, count, offset, flags);

  free (unwritten);
  return r;
}

ANIMAL (.pread = pread_perhaps,)
";

/// One byte behind what malloc gave.
const OVERRUN: &str = "
static int
pread_and_overrun (void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
  ((volatile char *) handle)[1] = 1;
  return zoo_pread (handle, buf, count, offset, flags);
}

ANIMAL (.pread = pread_and_overrun,)
";

#[test]
fn memcheck_tells_of_memory_that_was_never_written_with_the_place_and_the_call() {
    let directory = tempfile::tempdir().unwrap();
    let subject = compile(directory.path(), "unwritten", UNWRITTEN, &[]).display().to_string();
    validate(directory.path(), &["--under", "memcheck", &subject]).code(1).stdout(
        contains("FAIL  memory.reported")
            .and(contains("depends on uninitialised value(s) in pread_perhaps (unwritten.c:"))
            .and(contains("enter L0.pread")),
    );
    // Nobody who looks has nothing to say.
    validate(directory.path(), &[&subject]).code(0).stdout(contains("memory.reported").not());
}

#[test]
fn nothing_is_reported_of_a_good_plugin() {
    let directory = tempfile::tempdir().unwrap();
    let subject = compile(directory.path(), "good", "ANIMAL ()", &[]).display().to_string();
    validate(directory.path(), &["--under", "memcheck", &subject]).code(0);
    validate(directory.path(), &["--under", "helgrind", &subject]).code(0);
}

#[test]
fn a_module_built_with_a_sanitizer_is_given_its_run_time() {
    let directory = tempfile::tempdir().unwrap();
    let flags = ["-fsanitize=address"];
    let subject = compile(directory.path(), "overrun", OVERRUN, &flags).display().to_string();
    validate(directory.path(), &["--under", "asan", &subject]).code(1).stdout(
        contains("FAIL  memory.reported")
            .and(contains("heap-buffer-overflow in pread_and_overrun"))
            .and(contains("enter L0.pread")),
    );
}

/// A place that a debugger can name.
const CRASH: &str = "
static int
pread_of_nobody (void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
  return *(volatile int *) 0;
}

ANIMAL (ONLY_READS, .pread = pread_of_nobody,)
";

/// One that never comes back.
const HANG: &str = "
static int
pread_for_ever (void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
  for (;;)
    pause ();
}

ANIMAL (ONLY_READS, .pread = pread_for_ever,)
";

/// The file of a case of this check.
fn case_of(directory: &Path, subject: &Path, check: &str) -> PathBuf {
    let (subject, cases) = (subject.display().to_string(), directory.join(check));
    let cases_text = cases.display().to_string();
    let arguments =
        ["--only", check, "--only", "read.repeats", "--timeout", "2", "--repro", &cases_text, &subject];
    validate(directory, &arguments).code(1);
    cases.join(format!("{check}.json"))
}

#[test]
fn gdb_tells_where_a_replayed_case_crashes_or_hangs() {
    let directory = tempfile::tempdir().unwrap();
    let repro = |case: &Path| {
        let mut command = Command::cargo_bin("layers").unwrap();
        command.args(["repro", "--gdb", "--timeout", "2", "--allow-programs"]).arg(case);
        command.timeout(Duration::from_secs(300)).assert()
    };
    let subject = compile(directory.path(), "crash", CRASH, &[]);
    let case = case_of(directory.path(), &subject, "process.crash");
    repro(&case).code(1).stdout(
        contains("SIGSEGV")
            .and(contains("pread_of_nobody (handle="))
            .and(contains("actual:   the server is killed by signal 11")),
    );
    let subject = compile(directory.path(), "hang", HANG, &[]);
    let case = case_of(directory.path(), &subject, "process.hang");
    repro(&case).code(1).stdout(contains("pread_for_ever (handle=").and(contains("actual:   no answer to")));
}

#[test]
fn a_crash_names_the_debugger_and_a_debugger_that_is_missing_is_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let subject = compile(directory.path(), "crash", CRASH, &[]);
    let shown = subject.display().to_string();
    validate(directory.path(), &[&shown]).code(1).stdout(contains("hint:     with --gdb in it"));
    let case = case_of(directory.path(), &subject, "process.crash");
    let mut command = Command::cargo_bin("layers").unwrap();
    command.args(["repro", "--gdb", "--allow-programs"]).arg(case).env("PATH", directory.path());
    command
        .assert()
        .code(6)
        .stdout(is_empty())
        .stderr(contains("cannot find gdb: install the Debian package gdb"));
}

#[test]
fn what_cannot_be_looked_at_is_one_line_and_an_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    validate(directory.path(), &["--under", "asan", "memory", "1M"])
        .code(6)
        .stdout(is_empty())
        .stderr(contains("needs no run-time of a sanitizer"));
    let nbdkit = ["/usr/sbin/nbdkit", "/usr/bin/nbdkit"].into_iter().find(|path| Path::new(path).is_file());
    let mut command = Command::cargo_bin("layers").unwrap();
    command.args(["validate", "--server", nbdkit.unwrap(), "--under", "memcheck", "memory", "1M"]);
    command
        .env("PATH", directory.path())
        .assert()
        .code(6)
        .stderr(contains("install the Debian package valgrind"));
}
