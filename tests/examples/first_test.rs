//! docs/first-test.md, line by line; and what newcomers get wrong.

use std::fs;

use crate::document::{commands, root};
use crate::place::{Place, Said};

/// The blocks of the document: what installs, then those of C, then those of Rust.
fn blocks() -> [String; 6] {
    commands("docs/first-test.md").try_into().unwrap()
}

/// Where this repository has been cloned already: in a home, with `layers` installed.
fn home() -> Place {
    let place = Place::new();
    std::os::unix::fs::symlink(root(), place.project().join("layers")).unwrap();
    place
}

#[test]
fn in_c_the_first_test_fails_and_then_passes() {
    let [install, write, mend, ..] = blocks();
    let place = home();
    let installed = install.replace("git clone https://github.com/OWNER/layers\n", "");
    assert_ne!(install, installed);
    // Cargo and rustup live in the true home.
    let own =
        "export CARGO_HOME=${CARGO_HOME-$HOME/.cargo} RUSTUP_HOME=${RUSTUP_HOME-$HOME/.rustup} HOME=$PWD\n";
    let run = |lines: &str| Said::of(&place.building().arg(format!("{own}{lines}")).output().unwrap());
    run(&installed).succeeds(&[]);
    run(&write).fails(&["FAIL  write.read-back", "nbdkit-plugin(3), \".pwrite\"", "layers repro "]);
    run(&format!("cd mine\n{mend}")).succeeds(&["exit 0: conformant"]);

    // The directory, the extension, the end of the name left out; a parameter that it does not have.
    let validate = |words: &str| place.run(&format!("cd mine; layers validate {words}"));
    validate("mine.so").fails(&["a file of the working directory is written `./mine.so`", "exit 5: "]);
    validate("mine").fails(&["a file of the working directory is written `./mine.so`", "exit 5: "]);
    validate("nime")
        .fails(&["a file of your own is written with its directory, such as `./mine.so`", "exit 5: "]);
    validate("./mine.so size=4M")
        .fails(&["cannot be loaded: this plugin does not need command line configuration"]);
}

#[test]
fn in_rust_the_first_test_fails_and_then_passes() {
    let [_, _, _, new, write, mend] = blocks();
    // Not below this workspace: `cargo new` would make the crate a member of it.
    let place = Place::new();
    let run = |lines: &str| {
        let mut shell = place.building();
        // As in the example project, so that not everything is built twice.
        shell.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only").arg(lines);
        Said::of(&shell.output().unwrap())
    };
    let harness = root().join("harness").display().to_string();
    let here = new.replace("../layers/harness", &harness);
    assert_ne!(new, here);
    run(&here).succeeds(&[]);
    let lock = fs::read_to_string(root().join("fixtures/examples/rust/Cargo.lock")).unwrap();
    place.write("mine/Cargo.lock", &lock.replace("\"ramdisk\"", "\"mine\""));
    let test = |lines: &str| run(&format!("cd mine\n{lines}"));
    test(&write).fails(&["test write.read-back ", "... FAILED", "(nbdkit-plugin(3), \".pwrite\")"]);
    test(&mend).succeeds(&["test write.read-back ", "test conclusive "]);

    test("sed -i.kept '/harness = false/d' Cargo.toml; cargo test")
        .fails(&["harness_is_false", "say `harness = false` in the [[test]] whose name is `conformance`"]);
    test("mv Cargo.toml.kept Cargo.toml").succeeds(&[]);
    let misnamed = "sed -i 's/built(\"mine\")/built(\"nime\")/' tests/conformance.rs; cargo test";
    test(misnamed).fails(&["libnime.so`: Cargo builds it for tests if Cargo.toml says `crate-type"]);
}
