//! The example projects, as their users would test them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/examples/rust")
}

/// `cargo test` in the Rust project; what it builds lies beside what this workspace has built.
fn cargo_test(options: &[&str], arguments: &[&str]) -> Output {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--locked", "--quiet", "--test", "conformance", "--target-dir"]).arg(target);
    cargo.args(options).arg("--").args(arguments).current_dir(project());
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

#[test]
fn a_plugin_in_rust_has_a_test_for_each_promise() {
    let whole = cargo_test(&[], &[]);
    let text = said(&whole);
    assert!(whole.status.success(), "{text}");
    // What it does not offer is not asked of it, and is no success either.
    assert!(!text.contains(" 0 ignored"), "{text}");

    // As cargo-nextest does it: a list first, which touches nothing, then each test in a process of its own.
    let list = cargo_test(&[], &["--list", "--format", "terse"]);
    let text = said(&list);
    assert!(text.contains("\nread.odd: test\n") && text.contains("\nconclusive: test\n"), "{text}");
    let one = cargo_test(&[], &["read.odd", "--exact", "--nocapture"]);
    assert!(said(&one).contains("1 passed; 0 failed; 0 ignored"), "{}", said(&one));

    // The same plugin with a fault.
    let broken = cargo_test(&["--features", "forgets-last-byte"], &["write."]);
    let text = said(&broken);
    assert!(!broken.status.success(), "{text}");
    assert!(text.contains("write.read-back") && text.contains("(nbdkit-plugin(3), "), "{text}");
}
