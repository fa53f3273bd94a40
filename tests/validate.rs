//! `layers validate` and `layers repro`, end to end.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use predicates::prelude::*;
use predicates::str::{contains, is_empty};

/// Runs it in a directory of its own, where the cases of findings are left.
fn layers(directory: &Path, arguments: &[&str]) -> Assert {
    let mut command = Command::cargo_bin("layers").unwrap();
    command.current_dir(directory).args(arguments).timeout(Duration::from_secs(300)).assert()
}

fn validate(directory: &Path, arguments: &[&str]) -> Assert {
    layers(directory, &[&["validate"], arguments].concat())
}

/// How much is in a directory.
fn entries(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A plugin of shell code that serves one mebibyte of zeroes, with more.
fn eval<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let plain = ["eval", "get_size=echo 1M", "pread=dd if=/dev/zero count=$3 iflag=count_bytes 2>/dev/null"];
    plain.iter().chain(more).copied().collect()
}

#[test]
fn a_good_plugin_is_conformant_and_the_last_line_says_so() {
    let directory = temporary();
    let last =
        predicate::function(|text: &str| text.lines().last().unwrap().starts_with("exit 0: conformant"));
    validate(directory.path(), &["memory", "64M"])
        .code(0)
        .stdout(last.and(contains("write         conformant")).and(contains("exports       not claimed")));
    assert_eq!(entries(directory.path()), 0);
}

#[test]
fn what_is_no_module_is_told_by_its_file() {
    let directory = temporary();
    let text = directory.path().join("x.so");
    std::fs::write(&text, "#!/bin/sh\n").unwrap();
    let x = text.display().to_string();
    validate(directory.path(), &[&x]).code(5).stdout(contains("not a shared library"));
    validate(directory.path(), &["/nowhere/x.so"]).code(5).stdout(contains("/nowhere/x.so"));
    validate(directory.path(), &["--filter=memory", "null"]).code(5);
    validate(directory.path(), &["/bin/true"]).code(5).stdout(contains("cannot load"));
}

#[test]
fn a_library_that_is_no_module_says_what_it_lacks() {
    let directory = temporary();
    let library = directory.path().join("lib.so");
    let source = directory.path().join("lib.c");
    std::fs::write(&source, "int nothing (void) { return 0; }\n").unwrap();
    let mut cc = std::process::Command::new("cc");
    let built = cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status().unwrap();
    assert!(built.success());
    let path = library.display().to_string();
    validate(directory.path(), &[&path]).code(5).stdout(contains("neither plugin_init nor filter_init"));
}

#[test]
fn a_subject_that_nothing_can_be_read_from_is_never_conformant() {
    let directory = temporary();
    let refuses = ["eval", "get_size=echo EIO no disk >&2; exit 1", "pread=exit 1"];
    validate(directory.path(), &refuses).code(7).stdout(
        contains("inconclusive open.succeeds")
            .and(contains("no disk"))
            .and(contains("exit L0.get_size = -1")),
    );
    let only = ["--only", "write.*", "--only", "process.*"];
    validate(directory.path(), &[&only[..], &refuses].concat()).code(7);
    validate(directory.path(), &["--only", "write.*", "--skip", "write.*", "memory", "1M"])
        .code(3)
        .stdout(contains("exit 3: nothing was judged"));
}

#[test]
fn what_is_said_does_not_depend_on_the_number_of_jobs() {
    let directory = temporary();
    let faulty = eval(&[
        "can_write=exit 0",
        "pwrite=cat >/dev/null",
        "can_trim=exit 0",
        "trim=echo no trim >&2; exit 1",
    ]);
    let said = |jobs: &str| {
        // How much these make of their time depends on the machine.
        let timed = ["--skip", "resources.*", "--skip", "threads.*", "--jobs", jobs];
        let arguments = [&timed[..], &faulty[..]].concat();
        let stdout = validate(directory.path(), &arguments).code(1).get_output().stdout.clone();
        let text = String::from_utf8_lossy(&stdout).into_owned();
        // A case that has been slow leaves out its last steps (`if-quick`), and so rules say less often something.
        let (before, after) = text.split_once(" had something to say, ").unwrap();
        let (_times, rest) = after.split_once(" times").unwrap();
        format!("{before}{rest}")
    };
    assert_eq!(said("1"), said("3"));
}

#[test]
fn a_pattern_that_matches_nothing_is_a_usage_error() {
    let directory = temporary();
    validate(directory.path(), &["--only", "wirte.*", "memory"])
        .code(2)
        .stdout(is_empty())
        .stderr(contains("wirte.*"));
}

#[test]
fn a_finding_is_replayed_by_the_line_that_it_ends_with() {
    let directory = temporary();
    let forgets = ["can_write=exit 0", "pwrite=cat >/dev/null"];
    let arguments = [&["--only", "write.*"], &eval(&forgets)[..]].concat();
    let assert = validate(directory.path(), &arguments).code(1).stdout(contains("FAIL  write.read-back"));
    let output = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    assert_eq!(entries(directory.path()), 0, "nothing is written where the user is");
    let line = output.lines().find_map(|line| line.trim().strip_prefix("replay:")).unwrap();
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    assert_eq!(words[..2], ["layers", "repro"]);
    let elsewhere = temporary();
    layers(elsewhere.path(), &words[1..]).code(1).stdout(contains("expected: byte 0"));
    validate(directory.path(), &[&["--repro", "here"], &arguments[..]].concat()).code(1);
    assert!(directory.path().join("here/write.read-back.json").is_file());
}

/// Writes go nowhere, and nobody says so.
const FORGETS: [&str; 2] = ["can_write=exit 0", "pwrite=cat >/dev/null"];

#[test]
fn a_known_finding_does_not_count_and_a_stale_one_does() {
    let directory = temporary();
    let file = directory.path().join("known.toml");
    let some = ["--only", "write.read-back", "--only", "read.*", "--baseline", "known.toml"];
    let bad = [&some[..], &eval(&FORGETS)[..]].concat();
    validate(directory.path(), &bad).code(2).stderr(contains("known.toml"));
    validate(directory.path(), &[&["--update-baseline"], &bad[..]].concat()).code(1);
    validate(directory.path(), &bad).code(2).stderr(contains("known.toml:3: `why` is empty"));
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("why = \"\"", "why = \"it forgets\"")).unwrap();
    validate(directory.path(), &bad)
        .code(0)
        .stdout(contains("known write.read-back").and(contains("exit 0: conformant except 1 known finding")));
    let good = [&some[..], &["memory", "1M"]].concat();
    validate(directory.path(), &good)
        .code(4)
        .stdout(contains("stale write.read-back: the baseline lists it, and it did not happen: it forgets"));
    // Of what is not selected nothing can be said.
    validate(directory.path(), &[&["--skip", "write.*"], &good[..]].concat()).code(0);
    std::fs::write(&file, text.replace("write.read-back", "write.raed-back")).unwrap();
    validate(directory.path(), &good).code(2).stderr(contains("known.toml:2: there is no check"));
}

#[test]
fn another_crash_is_another_finding() {
    let directory = temporary();
    let crash = |signal: &str| format!("pread=kill -{signal} $PPID; sleep 1");
    let (segv, abrt) = (crash("SEGV"), crash("ABRT"));
    let some =
        ["--only", "process.crash", "--only", "read.repeats", "--baseline", "k", "eval", "get_size=echo 1M"];
    let with = |more: &[&str], crash: &str| validate(directory.path(), &[more, &some[..], &[crash]].concat());
    with(&["--update-baseline"], &segv).code(1);
    let file = directory.path().join("k");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("why = \"\"", "why = \"reported\"")).unwrap();
    with(&[], &segv).code(0).stdout(contains("known process.crash"));
    with(&[], &abrt).code(1).stdout(contains("CRASH process.crash"));
}

#[test]
fn a_warning_counts_when_it_is_denied() {
    let directory = temporary();
    let takes = eval(&["config=exit 0"]);
    let arguments = [&["--only", "parameters.unknown"], &takes[..]].concat();
    validate(directory.path(), &arguments).code(0).stdout(contains("warn  parameters.unknown"));
    validate(directory.path(), &[&["--deny", "parameters.*"], &arguments[..]].concat())
        .code(1)
        .stdout(contains("FAIL  parameters.unknown"));
    validate(directory.path(), &[&["--deny", "wirte.*"], &arguments[..]].concat()).code(2);
}

#[test]
fn settings_come_from_the_nearest_file_and_the_command_line_wins() {
    let directory = temporary();
    let below = directory.path().join("a/b");
    std::fs::create_dir_all(&below).unwrap();
    let file = directory.path().join("layers.toml");
    std::fs::write(
        &file,
        "[validate]\nonly = [\"write.odd\"]\nreport = [\"human\", \"ndjson=run.ndjson\"]\n",
    )
    .unwrap();
    let memory = ["memory", "1M"];
    validate(&below, &memory).code(0).stdout(contains("memory 1M: 1 hold"));
    let report = std::fs::read_to_string(directory.path().join("run.ndjson")).unwrap();
    let lines: Vec<serde_json::Value> =
        report.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["type"], &lines[0]["subject"]), (&"begin".into(), &"memory 1M".into()));
    let end = lines.last().unwrap();
    assert_eq!((&end["type"], &end["exit"]), (&"end".into(), &0.into()));
    let odd = lines.iter().find(|line| line["type"] == "check").unwrap();
    assert_eq!((&odd["id"], &odd["verdict"]), (&"write.odd".into(), &"pass".into()));
    validate(&below, &[&["--only", "read.*"], &memory[..]].concat()).code(0).stdout(contains("4 hold"));
    validate(&below, &[&["--no-config", "--only", "read.odd"], &memory[..]].concat())
        .code(0)
        .stdout(contains("1 hold"));
    validate(&below, &["--show-config", "--seed", "7"])
        .code(0)
        .stdout(contains("seed = 7").and(contains("only = [\"write.odd\"]")).and(contains("layers.toml")));
    std::fs::write(&file, "[conform]\njobs = 3\n").unwrap();
    layers(&below, &["conform", "nbdkit", "--show-config"]).code(0).stdout(contains("[conform]\njobs = 3"));
    std::fs::write(&file, "[validate]\n  lvel = \"must\"\n").unwrap();
    validate(&below, &memory)
        .code(2)
        .stdout(is_empty())
        .stderr(contains("layers.toml:2:3: unknown field `lvel`"));
    std::fs::write(&file, "[validate]\nlevel = \"most\"\n").unwrap();
    validate(&below, &memory).code(2).stderr(contains("layers.toml:2:9:"));
    std::fs::write(&file, "[validate]\nallow-writes = true\n").unwrap();
    validate(&below, &memory).code(2).stderr(contains("allow-writes"));
    validate(&below, &[&["--config", "nowhere.toml"], &memory[..]].concat())
        .code(2)
        .stderr(contains("nowhere.toml"));
}

#[test]
fn a_claim_that_got_lost_is_a_finding() {
    let directory = temporary();
    let claimed = |profile: &str, more: &[&str]| {
        let arguments =
            [&["--claim", profile, "--only", "claims.*", "--only", "zero.succeeds"], more].concat();
        validate(directory.path(), &arguments)
    };
    claimed("zero", &["memory", "1M"]).code(0);
    claimed("zero", &["pattern", "1M"])
        .code(1)
        .stdout(contains("actual:   zero: not claimed: the export is read-only"));
    // Of a profile whose checks are left out nothing is said.
    claimed("trim", &["memory", "1M"]).code(0).stdout(contains("1 skipped"));
    let misspelt = "there is no profile `zreo`: there are core, read, write, zero";
    claimed("zreo", &["memory", "1M"]).code(2).stderr(contains(misspelt));
}

#[test]
fn what_clients_do_not_see_as_the_author_says_is_a_finding() {
    let directory = temporary();
    let expecting = |facts: &[&str], subject: &[&str]| {
        let facts: Vec<&str> = facts.iter().flat_map(|fact| ["--expect", *fact]).collect();
        validate(directory.path(), &[&facts, &["--only", "claims.*"][..], subject].concat())
    };
    // Of 1 MiB of zeroes, as sha256sum(1) tells it.
    let zeroes = "sha256=30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58";
    let memory = ["memory", "1M"];
    expecting(&["size=1M", zeroes, "refused-export=", "export="], &memory).code(2);
    expecting(&["size=1M", zeroes], &memory).code(0).stdout(contains("1 hold"));
    // One that is wrong hides no other, and a byte in the last piece counts.
    expecting(&["size=2M", "description=x", "open=refused"], &memory).code(1).stdout(
        contains("expected: size=2097152 (--expect)")
            .and(contains("actual:   size=1048576"))
            .and(contains("expected: description=x (--expect)"))
            .and(contains("expected: open=refused (--expect)").and(contains("actual:   it opens"))),
    );
    expecting(&["offers=trim", "lacks=read-only", "bytes=4K:0000"], &memory)
        .code(0)
        .stdout(contains("1 hold"));
    expecting(&["lacks=trim", "bytes=1048575:0000"], &memory)
        .code(1)
        .stdout(contains("actual:   offers=trim").and(contains("actual:   bytes=1048575:00\n")));
    expecting(&[zeroes], &["data", "@1048575 1", "size=1M"]).code(1).stdout(contains("actual:   sha256="));
    let named = [
        "--filter=exportname",
        "memory",
        "1M",
        "exportname=one",
        "exportname-list=explicit",
        "exportdesc=fixed:two words",
    ];
    let strict = [&named[..], &["exportname-strict=true"]].concat();
    expecting(&["description=two words", "export=one"], &named).code(0);
    expecting(&["export=two"], &strict).code(1).stdout(contains("actual:   listed: `one`"));
    expecting(&["open=refused", "refused-export=two", "size=1M"], &strict).code(0);
    expecting(&["refused-export=one"], &strict).code(1).stdout(contains("actual:   it opens"));
}

/// Also where some check of it is played on both grounds.
#[test]
fn a_filter_that_refuses_the_reference_plugin_is_judged_over_the_users_alone() {
    let directory = temporary();
    let disk = ["--filter=partition", "partitioning", "a", "partition-type=mbr", "partition=1"];
    std::fs::write(directory.path().join("a"), (0..1 << 16).map(|at| at as u8).collect::<Vec<u8>>()).unwrap();
    let only = ["--only", "block-size.*", "--only", "read.*", "--only", "filter.*"];
    validate(directory.path(), &[&only[..], &disk].concat()).code(0).stdout(
        contains("block-size    not judged").and(contains("does not serve over the reference plugin")),
    );
}

#[test]
fn what_is_slow_and_steady_does_not_hang() {
    let directory = temporary();
    // One read of the disk is sixteen of the plugin, and takes twice the time of a step.
    let stack = ["--filter=blocksize", "--filter=delay", "memory", "1M", "maxdata=64K", "delay-read=125ms"];
    let asked = ["--timeout", "1", "--only", "read.large", "--only", "process.hang"];
    validate(directory.path(), &[&asked[..], &stack].concat()).code(0).stdout(contains("0 broken"));
}

#[test]
fn what_is_refused_as_expected_is_conformant_and_what_is_not_a_finding() {
    let directory = temporary();
    let all = |arguments: &[&str]| validate(directory.path(), arguments);
    let refused = || contains("exit 0").and(contains("0 broken, 0 warn"));
    all(&["--expect", "start=refused", "memory", "4X"]).code(0).stdout(refused());
    all(&["--expect", "open=refused", "--filter=partition", "memory", "4M", "partition=1"])
        .code(0)
        .stdout(refused());
    let only = ["--only", "claims.*"];
    all(&[&only[..], &["--expect", "start=refused", "memory", "4M"]].concat())
        .code(1)
        .stdout(contains("expected: "));
    // What cannot be loaded does not refuse.
    std::fs::write(directory.path().join("text.so"), "no module").unwrap();
    all(&["--expect", "start=refused", "./text.so"]).code(5);
    all(&["--expect", "flags=1", "memory", "4M"])
        .code(2)
        .stderr(contains("start=refused, open=refused, size=BYTES"));
}

#[test]
fn several_sets_of_parameters_are_one_run_with_one_report_and_one_exit_code() {
    let directory = temporary();
    let sets = "[validate]\nonly = ['read.odd', 'exports.list', 'claims.*']\n\
                [[validate.set]]\nname = 'small'\nparameters = ['size=1M']\n\
                [[validate.set]]\nname = 'malloc'\nparameters = ['allocator=malloc', '2M']\nclaims = ['exports']\n";
    std::fs::write(directory.path().join("layers.toml"), sets).unwrap();
    let reports = ["--report", "human", "--report", "ndjson=n", "--report", "junit=j", "--report", "html=h"];
    validate(directory.path(), &[&reports, &["memory"][..]].concat()).code(1).stdout(
        contains("set `small`:\nnbdkit").and(contains("memory size=1M: 1 hold")).and(contains(
            "set `small`: exit 0\nset `malloc`: exit 1\nexit 1: a documented promise was broken",
        )),
    );
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
    let lines = read("n");
    assert!(lines.contains("\"set\":\"malloc\"") && lines.ends_with("crashed or hung\"}\n"), "{lines}");
    assert_eq!(lines.matches("\"type\":\"end\"").count(), 2, "each set has an end of its own");
    let junit = read("j");
    assert!(junit.contains("small: read.odd") && junit.contains("malloc: claims.kept"), "{junit}");
    assert_eq!(read("h").matches("<!DOCTYPE html>").count(), 1, "one page for all of them");
    // One of them, and names that are wrong.
    validate(directory.path(), &["memory", "--set", "small"]).code(0).stdout(contains("malloc").not());
    validate(directory.path(), &["memory", "--set", "tiny"])
        .code(2)
        .stderr(contains("no [[validate.set]] is called `tiny`: there is malloc, small"));
}

#[test]
fn parameters_that_nobody_has_given_are_named() {
    let directory = temporary();
    let line = "parameters of --help that are not given: allocator\n";
    validate(directory.path(), &["--only", "read.odd", "memory", "1M"]).code(0).stdout(contains(line));
    let of_filter = ["--only", "read.odd", "--filter=cow", "memory", "1M", "allocator=sparse"];
    let named = "not given: cow-block-size, cow-on-cache, cow-on-read\n";
    validate(directory.path(), &of_filter).code(0).stdout(contains(named));
}

#[test]
fn a_file_of_the_users_is_copied_and_written_to_only_when_that_is_allowed() {
    let directory = temporary();
    let disk = directory.path().join("disk");
    std::fs::write(&disk, vec![7; 1 << 20]).unwrap();
    let path = disk.display().to_string();
    let some = ["--only", "write.*", "--only", "read.*"];
    validate(directory.path(), &[&some[..], &["file", &path]].concat())
        .code(0)
        .stdout(contains("copied for each case: ").and(contains("write         conformant")));
    assert_eq!(std::fs::read(&disk).unwrap(), vec![7; 1 << 20]);
    let limited = [&some[..], &["--copy-limit", "0", "file", &path]].concat();
    validate(directory.path(), &limited).code(0).stdout(
        contains("opened read-only: ")
            .and(contains("left unjudged for that: write, zero, trim, fua"))
            .and(contains("write         not judged")),
    );
    assert_eq!(std::fs::read(&disk).unwrap(), vec![7; 1 << 20]);
    validate(directory.path(), &[&some[..], &["--allow-writes", "file", &path]].concat())
        .code(0)
        .stdout(contains("write         conformant"));
    assert_ne!(std::fs::read(&disk).unwrap(), vec![7; 1 << 20]);
}

/// Storage that is named by a bare word, or by an address, as a plugin for object stores does it.
const BUCKET: &str = r#"
#define NBDKIT_API_VERSION 2
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS
static char *path;
static int fd = -1;
static int config (const char *key, const char *value)
{
  char name[200];
  if (strcmp (key, "password") == 0) return 0;
  if (strcmp (key, "bucket") != 0) { nbdkit_error ("unknown parameter %s", key); return -1; }
  snprintf (name, sizeof name, "bucket-%s", value);
  path = nbdkit_absolute_path (name);
  return path ? 0 : -1;
}
static int config_complete (void)
{ if (path) return 0; nbdkit_error ("bucket=NAME is missing"); return -1; }
static int get_ready (void)
{ fd = open (path, O_RDWR | O_CLOEXEC); if (fd < 0) nbdkit_error ("%s: %m", path); return fd < 0 ? -1 : 0; }
static void *open_it (int readonly) { return NBDKIT_HANDLE_NOT_NEEDED; }
static int64_t size (void *h) { return lseek (fd, 0, SEEK_END); }
static int rd (void *h, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{ if (pread (fd, buf, count, offset) == count) return 0; nbdkit_error ("the password is hunter22: %m"); return -1; }
static int wr (void *h, const void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{ nbdkit_error ("the password is hunter22"); if (pwrite (fd, buf, count, offset) != count) return -1; return -1; }
static struct nbdkit_plugin plugin = {
  .name = "bucket", .config = config, .config_complete = config_complete, .get_ready = get_ready,
  .open = open_it, .get_size = size, .pread = rd, .pwrite = wr,
};
NBDKIT_REGISTER_PLUGIN (plugin)
"#;

/// Compiles a module into a directory, and gives what stands on the command line.
fn module(directory: &Path, name: &str, source: &str) -> String {
    let (library, text) = (directory.join(format!("{name}.so")), directory.join(format!("{name}.c")));
    std::fs::write(&text, source).unwrap();
    let mut cc = std::process::Command::new("cc");
    let built = cc.args(["-shared", "-fPIC", "-pthread", "-o"]).arg(&library).arg(&text).status().unwrap();
    assert!(built.success());
    library.display().to_string()
}

#[test]
fn storage_that_a_word_or_an_address_names_is_not_written_to() {
    let directory = temporary();
    let plugin = module(directory.path(), "bucket", BUCKET);
    for word in ["photos", "10.0.0.1", "127.0.0.1"] {
        let bucket = directory.path().join(format!("bucket-{word}"));
        std::fs::write(&bucket, vec![7; 1 << 20]).unwrap();
        validate(directory.path(), &[&plugin, &format!("bucket={word}")])
            .code(0)
            .stdout(contains(format!("opened read-only: `bucket={word}` may name storage")));
        assert_eq!(std::fs::read(&bucket).unwrap(), vec![7; 1 << 20], "{word}");
    }
    // What serves another server's storage does so however it is named.
    let nbd = ["--only", "open.succeeds", "nbd", "vsock=2", "port=10809"];
    validate(directory.path(), &nbd)
        .stdout(contains("opened read-only: `nbd` serves storage of another server"));
}

#[test]
fn what_a_filter_refuses_behind_the_end_of_the_disk_below_is_no_finding() {
    let directory = temporary();
    let longer = ["--filter=truncate", "memory", "1M", "truncate=2000000"];
    let only = ["--only", "write.succeeds", "--only", "zero.succeeds"];
    validate(directory.path(), &[&only[..], &longer].concat())
        .stdout(contains("the truncate filter refuses data beyond the end").and(contains(" 0 broken")));
    // Another plugin's refusal at the same place is one.
    let full = ["eval", "get_size=echo 2000000", "pread=exit 2", "can_write=exit 0"];
    let fails = "pwrite=if [ $(($4 + $3)) -gt 1048576 ]; then echo ENOSPC >&2; exit 1; fi; cat >/dev/null";
    let only = ["--only", "write.succeeds"];
    validate(directory.path(), &[&only[..], &full, &[fails]].concat())
        .code(1)
        .stdout(contains("FAIL  write.succeeds"));
}

#[test]
fn what_a_filter_makes_is_made_in_the_directory_of_the_case() {
    let directory = temporary();
    let log = ["--only", "read.*", "--filter=log", "memory", "1M", "logfile=log", "logappend=false"];
    validate(directory.path(), &log).code(0).stdout(contains("copied for each case: log"));
    assert_eq!(entries(directory.path()), 0);
    let log = directory.path().join("log");
    std::fs::write(&log, "mine\n").unwrap();
    validate(directory.path(), &["--only", "read.*", "--filter=log", "memory", "1M", "logfile=log"]).code(0);
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "mine\n");
}

#[test]
fn secrets_reach_neither_a_report_nor_a_case() {
    let directory = temporary();
    let plugin = module(directory.path(), "bucket", BUCKET);
    std::fs::write(directory.path().join("bucket-x"), vec![7; 1 << 20]).unwrap();
    for format in ["human", "ndjson", "junit", "tap", "github", "markdown", "html"] {
        let options = ["--allow-writes", "--only", "write.succeeds", "--repro", "cases", "--report", format];
        let words = [plugin.as_str(), "bucket=x", "password=hunter22"];
        let assert = validate(directory.path(), &[&options[..], &words].concat()).code(1);
        let output = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
        assert!(!output.contains("hunter22") && output.contains("***"), "{format}: {output}");
    }
    let case = "cases/write.succeeds.json";
    let text = std::fs::read_to_string(directory.path().join(case)).unwrap();
    assert!(!text.contains("hunter22"), "{text}");
    layers(directory.path(), &["repro", case]).code(2).stderr(contains("--parameter password=VALUE"));
    let filled = ["repro", "--parameter", "password=hunter22"];
    let refused = layers(directory.path(), &[&filled[..], &[case]].concat()).code(2);
    refused.stderr(contains("--allow-writes"));
    layers(directory.path(), &[&filled[..], &["--allow-writes", case]].concat()).code(1);
}

#[test]
fn a_crash_is_a_verdict_with_the_call_in_flight() {
    let directory = temporary();
    let crash = ["eval", "get_size=echo 1M", "pread=kill -SEGV $PPID; sleep 1"];
    validate(directory.path(), &[&["--only", "read.*", "--only", "process.*"], &crash[..]].concat())
        .code(1)
        .stdout(contains("CRASH process.crash").and(contains("enter L0.pread")));
}

#[test]
fn a_hang_is_a_verdict_and_leaves_nothing_alive() {
    let directory = temporary();
    // A time that no other process on this machine sleeps for.
    let hang = ["eval", "get_size=echo 1M", "pread=sleep 86399.5"];
    let arguments = [&["--only", "read.*", "--only", "process.*", "--timeout", "4"], &hang[..]].concat();
    validate(directory.path(), &arguments)
        .code(1)
        .stdout(contains("HANG  process.hang").and(contains("enter L0.pread")));
    let left = std::process::Command::new("pgrep").args(["-x", "-f", "sleep 86399.5"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

#[test]
fn a_terminal_is_told_how_far_it_is_and_a_pipe_is_not() {
    let directory = temporary();
    let layers = assert_cmd::cargo::cargo_bin("layers").display().to_string();
    let run = |line: &str| {
        let output = Command::new("script")
            .args(["-qec", line, "/dev/null"])
            .current_dir(&directory)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let line = format!("{layers} validate --only read.odd memory 1M");
    let shown = run(&line);
    assert!(shown.contains("0/1 read.odd") && shown.contains("\u{1b}[32mexit 0"), "{shown}");
    let piped = run(&format!("{line} 2>&1 | cat"));
    assert!(!piped.contains("0/1") && !piped.contains('\u{1b}'), "{piped}");
}

#[test]
fn the_checks_are_listed_and_explained() {
    let directory = temporary();
    validate(directory.path(), &["--list"])
        .code(0)
        .stdout(contains("write.odd").and(contains("nego.size.range")));
    let ids: Vec<&str> = layers::validate::checks::all().map(|check| check.id).collect();
    let explained = layers(directory.path(), &[&["rules"], &ids[..]].concat()).code(0);
    let text = String::from_utf8(explained.get_output().stdout.clone()).unwrap();
    for check in layers::validate::checks::all() {
        assert!(
            [check.statement, check.clause, check.broken_by, check.fix]
                .iter()
                .all(|part| text.contains(part))
        );
    }
}

#[test]
fn the_library_gives_the_same_verdicts() {
    let validation = layers::validate::Validate::plugin("memory")
        .argument("1M")
        .only(["write.*".to_owned()])
        .run()
        .unwrap();
    assert!(validation.is_conformant(), "{:?}", validation.fired());
    assert!(validation.count("pass") >= 5);
}
