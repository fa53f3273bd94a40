//! What is made to be opened in a browser, in one: the HTML report, and the trace for Perfetto.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

mod browser;
mod chrome_trace;
mod looks;
mod picture;

use std::path::PathBuf;

use assert_cmd::cargo::cargo_bin_cmd;

/// The page that this run of `layers` writes, which ends with this code.
fn page(arguments: &[&str], code: i32) -> (tempfile::TempDir, PathBuf) {
    report("html", arguments, code)
}

/// The same, of a report in this format.
fn report(format: &str, arguments: &[&str], code: i32) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(format!("report.{format}"));
    let report = format!("{format}={}", file.display());
    cargo_bin_cmd!("layers")
        .args(arguments)
        .args(["--report", &report])
        .current_dir(&folder)
        .assert()
        .code(code);
    (folder, file)
}

/// One promise that this server is known to break, one that holds, and many that are not judged.
fn broken() -> (tempfile::TempDir, PathBuf) {
    let ending =
        ["conform", "nbdkit", "--only", "end/sigterm/connected", "--only", "close.*", "--no-baseline"];
    page(&ending, 1)
}
