//! A master that takes its time: until it has started itself anew it cuts off whoever has connected, and loses signals.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use layers::scenario::{SessionPlayer, named};
use layers::server::haproxy::Haproxy;

/// HAProxy with fixtures/haproxy/late.c in it, under a name in this directory.
fn late(directory: &Path) -> Haproxy {
    let library = directory.join("late.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fixtures/haproxy/late.c");
    let built =
        Command::new("cc").args(["-Wall", "-fPIC", "-shared", "-o"]).arg(&library).arg(source).status();
    assert!(built.unwrap().success());
    let path = directory.join("haproxy");
    let real = Haproxy::find(None).unwrap().path;
    let preload = format!("LD_PRELOAD={}${{LD_PRELOAD:+:$LD_PRELOAD}}", library.display());
    std::fs::write(&path, format!("#!/bin/sh\n{preload} exec {} \"$@\"\n", real.display())).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    Haproxy::find(Some(&path)).unwrap()
}

#[test]
fn a_signal_is_sent_only_to_a_master_that_answers() {
    let directory = tempfile::tempdir().unwrap();
    let server = late(directory.path());
    for name in ["master/soft-stop", "master/reload-signal"] {
        let began = Instant::now();
        let recording = SessionPlayer::new(&server).play(&named::find(name).unwrap()).unwrap();
        assert_eq!(recording.mishaps, [], "{name}: {}", recording.stderr);
        assert!(began.elapsed() > Duration::from_millis(300), "{name}: the library was not loaded");
        assert_eq!(recording.judgement.troubles, [], "{name}");
    }
}
