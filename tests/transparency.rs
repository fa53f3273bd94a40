//! A stack whose layers are wrapped by the instruments gives clients the same as it gives without them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};
use std::time::Duration;

/// Information, block map and bytes, as programs of other people see them. The address stands in none of it.
const LOOK: &str = r#"
    nbdinfo "$1" | grep -v 'uri:'
    nbdinfo --list "$1" | grep -v 'uri:'
    nbdinfo --map "$1"
    nbdcopy "$1" - | sha256sum
"#;

/// Plugins, with what they need; those that give the same each time.
const PLUGINS: &[&[&str]] = &[
    &["memory", "1M"],
    &["null", "1M"],
    &["pattern", "1M"],
    &["random", "1M", "seed=1"],
    &["sparse-random", "16M", "seed=1"],
    &["full", "1M"],
    &["zero"],
    &["data", "data=( 0x55 0xAA )*1000 @0x8000 1"],
    &["data", "raw=hello"],
    &["eval", "get_size=echo 64K", "pread=dd if=/dev/zero count=$3 iflag=count_bytes 2>/dev/null"],
    &["example1"],
    &["file", "Cargo.toml"],
    &["split", "Cargo.toml", "src/lib.rs"],
];

/// Filters, outermost first, over `data`, with what they need.
const FILTERS: &[&[&str]] = &[
    &["--filter=blocksize"],
    &["--filter=blocksize-policy", "blocksize-minimum=512", "blocksize-error-policy=allow"],
    &["--filter=cache"],
    &["--filter=cacheextents"],
    &["--filter=checkwrite"],
    &["--filter=cow"],
    &["--filter=delay", "rdelay=1ms"],
    &["--filter=error", "error-rate=0"],
    &["--filter=fua"],
    &["--filter=ip"],
    &["--filter=limit", "limit=100"],
    &["--filter=multi-conn"],
    &["--filter=nocache"],
    &["--filter=noextents"],
    &["--filter=nofilter"],
    &["--filter=noparallel"],
    &["--filter=nozero"],
    &["--filter=offset", "offset=512", "range=1024"],
    &["--filter=protect", "protect=0-511"],
    &["--filter=rate"],
    &["--filter=readahead"],
    &["--filter=retry"],
    &["--filter=retry-request"],
    &["--filter=scan"],
    &["--filter=swab", "swab-bits=16"],
    &["--filter=tls-fallback"],
    &["--filter=truncate", "round-up=4096"],
    &["--filter=readahead", "--filter=cache", "--filter=cow"],
];

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn unwrapped(words: &[&str]) -> String {
    let run = format!("look() {{ {LOOK} }}; look \"$uri\" 1>&2");
    let mut nbdkit = Command::new("timeout");
    nbdkit.args(["60", "nbdkit", "-U", "-"]).args(words).arg("--run").arg(run);
    let output = nbdkit.output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", text(&output));
    seen(&String::from_utf8_lossy(&output.stderr))
}

fn wrapped(words: &[&str]) -> String {
    let mut layers = assert_cmd::Command::cargo_bin("layers").unwrap();
    layers.arg("trace").args(words).args(["--", "sh", "-c", LOOK, "sh", "{uri}"]);
    let output = layers.timeout(Duration::from_secs(60)).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", text(&output));
    seen(&String::from_utf8_lossy(&output.stderr))
}

/// Without what the server and the harness say about themselves.
fn seen(text: &str) -> String {
    let others = |line: &&str| !line.starts_with("nbdkit:") && !line.starts_with("layers:");
    text.lines().filter(others).map(|line| line.to_owned() + "\n").collect()
}

#[track_caller]
fn same(words: &[&str]) {
    let (bare, traced) = (unwrapped(words), wrapped(words));
    assert!(bare.contains("export-size:"), "{words:?}: {bare}");
    assert_eq!(bare, traced, "{words:?}");
}

#[test]
fn wrapped_plugins_are_what_they_are() {
    for words in PLUGINS {
        same(words);
    }
}

#[test]
fn wrapped_filters_are_what_they_are() {
    for words in FILTERS {
        let (filters, parameters): (Vec<&str>, Vec<&str>) =
            words.iter().copied().partition(|word| word.starts_with("--filter="));
        let plugin = ["data", "data=( 0x55 0xAA )*10240"];
        let all: Vec<&str> = filters.into_iter().chain(plugin).chain(parameters).collect();
        same(&all);
    }
}
