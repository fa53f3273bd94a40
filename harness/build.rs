//! Finds libnbd, and builds the instruments that the harness embeds.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The instruments: package, and the environment variable in which `env!` finds its file.
const INSTRUMENTS: &[(&str, &str)] = &[
    ("layers-plugin", "LAYERS_PLUGIN_FILE"),
    ("layers-filter", "LAYERS_FILTER_FILE"),
    ("layers-applet", "LAYERS_APPLET_FILE"),
    ("layers-watch", "LAYERS_WATCH_FILE"),
];

fn main() -> ExitCode {
    match find_libnbd().and_then(|()| build_instruments()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::SUCCESS
        }
    }
}

fn find_libnbd() -> Result<(), String> {
    match pkg_config::Config::new().atleast_version("1.14").probe("libnbd") {
        Ok(_) => Ok(()),
        Err(pkg_config::Error::Command { .. }) => {
            Err("pkg-config is missing: install the Debian package pkg-config (or run ci/setup)".to_owned())
        }
        Err(_) => {
            Err("libnbd 1.14 or newer is missing: install the Debian package libnbd-dev (or run ci/setup)"
                .to_owned())
        }
    }
}

/// A build of their own, in a target directory of their own: they are made the same way whatever profile, flags and
/// wrappers the harness is built with, and wherever its sources come from.
fn build_instruments() -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).map_err(|_| format!("cargo does not set {name}"));
    let workspace = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("..");
    let target = variable("TARGET")?;
    let directory = Path::new(&variable("OUT_DIR")?).join("instruments");

    let mut cargo = Command::new(variable("CARGO")?);
    cargo.current_dir(&workspace).args(["build", "--locked", "--quiet", "--profile", "instrument"]);
    cargo.arg("--target").arg(&target).arg("--target-dir").arg(&directory);
    for (package, _) in INSTRUMENTS {
        cargo.args(["--package", package]);
    }
    let outer = [
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_TARGET_DIR",
    ];
    for (name, _) in std::env::vars() {
        if outer.contains(&name.as_str()) || name.starts_with("CARGO_BUILD_") {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status().map_err(|error| format!("cannot run cargo for the instruments: {error}"))?;
    if !status.success() {
        return Err(format!("the instruments do not build ({status}): the reason stands above"));
    }
    for (package, name) in INSTRUMENTS {
        let library = format!("lib{}.so", package.replace('-', "_"));
        let file: PathBuf = directory.join(&target).join("instrument").join(library);
        println!("cargo::rustc-env={name}={}", file.display());
    }
    for source in [
        "layers-plugin",
        "layers-filter",
        "layers-applet",
        "layers-watch",
        "layers-abi",
        "harness/trace/src",
        "harness/trace/Cargo.toml",
        "harness/behaviour",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}
