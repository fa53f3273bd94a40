//! A stack whose layers are wrapped by the instruments gives clients the same as it gives without them: every plugin
//! and filter of Debian's that is run (`fixtures/debian`), and some stacks more.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod side_by_side;
#[path = "debian/subjects.rs"]
mod subjects;

use std::process::{Command, Output};
use std::time::Duration;

use layers::server::nbdkit::Nbdkit;
use side_by_side::each;
use subjects::{Subject, installed, table};

/// Information, exports, block map and, last, bytes, as programs of other people see them. The address stands in none of it.
const LOOKS: [&str; 4] = [
    "nbdinfo \"$1\" | grep -v 'uri:'",
    "nbdinfo --list \"$1\" | grep -v 'uri:'",
    "nbdinfo --map \"$1\"",
    "nbdcopy \"$1\" - | sha256sum",
];

/// Stacks besides those of the table.
const STACKS: &[&[&str]] = &[
    &["sparse-random", "16M", "seed=7"],
    &["data", "raw=hello"],
    &["eval", "get_size=echo 64K", "pread=dd if=/dev/zero count=$3 iflag=count_bytes 2>/dev/null"],
    &["--filter=blocksize-policy", "pattern", "1M", "blocksize-minimum=512", "blocksize-error-policy=allow"],
    &["--filter=nozero", "data", "1"],
    &["--filter=readahead", "--filter=cache", "--filter=cow", "data", "data=( 0x55 0xAA )*10240"],
];

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What the clients have printed, if all went well.
fn printed(output: &Output) -> Result<String, String> {
    match output.status.success() {
        true => Ok(seen(&String::from_utf8_lossy(&output.stderr))),
        false => Err(format!("{}: {}", output.status, text(output))),
    }
}

fn unwrapped(words: &[String], look: &str) -> Result<String, String> {
    let run = format!("look() {{ {look}\n}}; look \"$uri\" 1>&2");
    let mut nbdkit = Command::new("timeout");
    nbdkit.args(["60", "nbdkit", "-U", "-"]).args(words).arg("--run").arg(run);
    printed(&nbdkit.output().unwrap())
}

fn wrapped(words: &[String], look: &str) -> Result<String, String> {
    let mut layers = assert_cmd::Command::cargo_bin("layers").unwrap();
    layers.arg("trace").args(words).args(["--", "sh", "-c", look, "sh", "{uri}"]);
    printed(&layers.timeout(Duration::from_secs(60)).output().unwrap())
}

/// Without what the server and the harness say about themselves.
fn seen(text: &str) -> String {
    let others = |line: &&str| !line.starts_with("nbdkit:") && !line.starts_with("layers:");
    text.lines().filter(others).map(|line| line.to_owned() + "\n").collect()
}

/// What clients see, with and without the instruments, if it is not the same or not what it should be.
fn difference(subject: &Subject) -> Option<String> {
    let looks = if subject.changes.is_some() { &LOOKS[..LOOKS.len() - 1] } else { &LOOKS };
    let looks = if subject.one_client {
        looks.iter().map(|look| (*look).to_owned()).collect()
    } else {
        vec![looks.join("\n")]
    };
    // Both are given the same files: what is made of them may show when they were made.
    let prepared = subject.prepare();
    let of = |run: fn(&[String], &str) -> Result<String, String>| -> Result<String, String> {
        looks.iter().map(|look| run(&prepared.words, look)).collect()
    };
    let (bare, traced) = (of(unwrapped), of(wrapped));
    let is_seen = bare.as_ref().is_ok_and(|bare| bare.contains("export-size:"));
    (!is_seen || bare != traced)
        .then(|| format!("{}\nwithout: {bare:?}\nwith: {traced:?}\n", subject.shown()))
}

#[test]
fn what_is_wrapped_is_what_it_is() {
    let table = table();
    let installed = installed(&Nbdkit::find(None).unwrap(), &table.packages);
    let is_installed = |subject: &&Subject| installed.iter().any(|(module, _)| *module == subject.module);
    let compared = |subject: &&Subject| subject.not_run.is_none() && subject.not_compared.is_none();
    let rows = table.subject.iter().filter(is_installed).filter(compared).cloned();
    let wanted: Vec<Subject> = STACKS.iter().map(|words| Subject::of(words)).chain(rows).collect();
    assert!(wanted.len() > 60, "only {} are installed", wanted.len());
    let wrong: Vec<String> = each(&wanted, 2, difference).into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), wanted.len(), wrong.join("\n"));
}
