//! `layers watch`: any command that starts real servers is as it was, and every server in it is judged.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use layers::deadline::Deadline;
use layers::server::process::hear_of_children;
use tempfile::TempDir;

/// What one run of `layers watch` has said.
struct Watched {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Watched {
    #[track_caller]
    fn says(&self, what: &str) -> &Watched {
        assert!(self.stderr.contains(what), "{what:?} is not in\n{}", self.stderr);
        self
    }

    #[track_caller]
    fn finds_nothing(&self) -> &Watched {
        assert!(!self.stderr.contains("findings:"), "{}", self.stderr);
        self
    }
}

fn command(directory: &TempDir, options: &[&str], script: &str) -> Command {
    hear_of_children();
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("layers"));
    command.arg("watch").args(options).args(["--", "sh", "-c", script]);
    command.current_dir(directory.path()).env("TMPDIR", directory.path()).env_remove("LD_PRELOAD");
    command.stdin(Stdio::null());
    command
}

fn told(output: &Output) -> Watched {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Watched { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Watches a shell script in a directory of its own, which is empty but for what the script has made.
#[track_caller]
fn watch(options: &[&str], script: &str) -> Watched {
    let directory = tempfile::tempdir().unwrap();
    let watched = told(&command(&directory, options, script).output().unwrap());
    let left = std::fs::read_dir(directory.path()).unwrap().flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("layers-")).collect();
    assert!(left.is_empty(), "{left:?} is left");
    watched
}

/// What the script says without `layers`.
fn alone(script: &str) -> Watched {
    told(&Command::new("sh").args(["-c", script]).stdin(Stdio::null()).output().unwrap())
}

#[test]
fn a_script_keeps_its_output_and_its_status() {
    let script = "nbdkit -U - memory 1M --run 'nbdinfo --size $uri; exit 5'";
    let watched = watch(&[], script);
    assert_eq!((watched.status, watched.stdout.as_str()), (Some(5), "1048576\n"));
    watched.finds_nothing().says("layers: 1 server (1 of nbdkit ").says("1 exited with 0");
}

/// Signals that are ignored stay so, and streams that are closed.
#[test]
fn a_command_begins_as_it_would() {
    // The last seven digits: those behind signal 28 are of C libraries and of real-time programs.
    let script = "grep SigIgn /proc/$$/status | tail -c 8; test -e /proc/$$/fd/0 && echo open";
    let begun = |program: &str| {
        let script = format!("trap '' PIPE HUP; exec {program} sh -c '{script}' <&- 2>/dev/null");
        alone(&script).stdout
    };
    let layers = assert_cmd::cargo::cargo_bin("layers");
    assert_eq!(begun(""), "0001001\n");
    assert_eq!(begun(&format!("{} watch --", layers.display())), "0001001\n");
}

/// They tell HAProxy to stop, and to reload.
#[test]
fn signals_of_users_are_handed_on() {
    let script = "trap 'echo told; exit 4' USR1; kill -USR1 $PPID; while :; do read -t 1 line; done";
    let watched = watch(&["--exit-with-command"], &format!("exec bash -c {}", shell_word(script)));
    assert_eq!((watched.stdout.as_str(), watched.status), ("told\n", Some(4)));
}

fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The dynamic linker takes the name of what is preloaded apart at blanks and colons.
#[test]
fn what_cannot_be_preloaded_is_told_before_the_command_begins() {
    let directory = tempfile::tempdir().unwrap();
    let watched = told(&command(&directory, &["--dir", "a b"], "echo begun").output().unwrap());
    watched.says("whose name has a blank or a colon");
    assert_eq!((watched.status, watched.stdout.as_str()), (Some(2), ""));
}

/// What a server prints, of itself and of what is wrong with its command line, is the same to the letter.
#[test]
fn a_server_says_what_it_says_unwatched() {
    for script in [
        "nbdkit --dump-plugin memory",
        "nbdkit --help memory",
        "nbdkit --filter=cow --dump-plugin null",
        "nbdkit memory size=junk",
        "nbdkit no-such-plugin",
        "nbdkit --filter=no-such-filter null",
        "nbdkit -U - -D memory.dir=1 memory 1M --run 'echo served'",
        "nbdkit -U - -D memory.nothing=1 memory 1M --run 'echo served'",
        "nbdkit -U - sh - --run true </dev/null",
    ] {
        let (watched, alone) = (watch(&[], script), alone(script));
        assert_eq!(watched.stdout, alone.stdout, "{script}");
        let own = |line: &&str| !line.starts_with("layers: ") && !line.starts_with("    ");
        let said: Vec<&str> = watched.stderr.lines().filter(own).collect();
        let expected: Vec<&str> = alone.stderr.lines().filter(own).collect();
        assert_eq!(said, expected, "{script}");
        let unseen = watched.stderr.contains("no server was seen");
        assert_eq!(watched.status, if unseen { Some(3) } else { alone.status }, "{script}");
    }
}

#[test]
fn where_no_server_is_seen_nothing_was_judged() {
    assert_eq!(watch(&[], "exit 5").says("no server was seen").status, Some(3));
    assert_eq!(watch(&["--exit-with-command"], "exit 5").status, Some(5));
    assert_eq!(watch(&["--exit-with-command"], "kill -KILL $$").status, Some(128 + 9));
    assert_eq!(watch(&["--only", "no.such-rule"], "true").says("matches no rule").status, Some(2));
}

/// Whatever starts a server, and however it serves.
#[test]
fn every_way_of_starting_is_seen() {
    for (script, servers) in [
        ("$(command -v nbdkit) -U - memory 1M --run 'nbdinfo $uri'", 1),
        (
            "printf '#!/bin/sh\\nexec nbdkit \"$@\"\\n' >w; chmod +x w; ./w -U - memory 1M --run 'nbdinfo $uri'",
            1,
        ),
        ("printf '#!/usr/bin/env -S nbdkit file\\n' >w; chmod +x w; ./w -U - --run 'nbdinfo $uri'", 1),
        ("nbdinfo -- [ nbdkit --exit-with-parent memory 1M ]", 1),
        (
            "nbdsh -c 'h.connect_command([\"nbdkit\", \"-s\", \"memory\", \"1M\"])' || printf '' | nbdkit -s memory 1M",
            1,
        ),
        ("nbdkit -U - --filter=delay --filter=cow memory 1M --run 'nbdinfo $uri'", 1),
        ("nbdkit -U - null --run 'nbdkit -U - memory 1M --run true'", 2),
        ("nbdkit -U s -P pid memory 1M; nbdinfo 'nbd+unix:///?socket=s'; kill $(cat pid)", 1),
        ("nbdkit -U - memory 1M --run true & nbdkit -U - null --run true; wait", 2),
        ("for i in 1 2 3 4 5 6 7 8; do nbdkit -U - memory ${i}M --run 'nbdinfo $uri' & done; wait", 8),
        ("setsid nbdkit -U - null --run true", 1),
        (
            "env -i PATH=\"$PATH\" LD_PRELOAD=\"$LD_PRELOAD\" LAYERS_WATCH=\"$LAYERS_WATCH\" nbdkit -U - null --run true",
            1,
        ),
    ] {
        let watched = watch(&["--wait"], script);
        watched.finds_nothing().says(&format!("{servers} exited with 0"));
    }
}

/// Ways that need the rights of root; without them there is nothing to see.
#[test]
fn a_server_of_another_user_or_with_a_tmp_of_its_own_is_seen() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: it needs root");
        return;
    }
    let uri = "nbd+unix:///?socket=s";
    let user = "chmod 777 .; nbdkit -u nobody -g nogroup -U s -P pid memory 1M";
    let script = format!("{user}; nbdinfo '{uri}' >/dev/null; kill $(cat pid)");
    watch(&["--wait"], &script).finds_nothing().says("1 exited with 0");
    let away = tempfile::Builder::new().tempdir_in("/var/tmp").unwrap();
    let own_tmp = "unshare -m sh -c \"mount -t tmpfs none /tmp && nbdkit -U - null --run true\"";
    let watched = told(&command(&away, &[], own_tmp).output().unwrap());
    if !watched.stderr.contains("unshare: ") && !watched.stderr.contains("mount: ") {
        watched.finds_nothing().says("1 exited with 0");
    }
}

#[test]
fn a_server_below_valgrind_is_seen() {
    let script = "valgrind -q --trace-children=yes --trace-children-skip='*/sh,*/true' nbdkit -U - memory 1M --run true";
    watch(&["--wait"], script).finds_nothing().says("1 exited with 0");
}

#[test]
fn a_server_that_begins_after_the_command_is_waited_for() {
    let script = "p=$$; { while kill -0 $p 2>/dev/null; do :; done; nbdkit -U - null --run true; } & exit 0";
    watch(&["--wait"], script).finds_nothing().says("1 server (1 of nbdkit ").says("1 exited with 0");
}

/// Nothing is loaded into it.
#[test]
fn a_server_that_is_linked_statically_is_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("nbdkit.c");
    std::fs::write(
        &source,
        "#include <unistd.h>\nint main(void) { char c; fork(); return read(0, &c, 1) < 0; }\n",
    )
    .unwrap();
    let program = directory.path().join("nbdkit-static");
    let built = Command::new("cc").args(["-static", "-o"]).arg(&program).arg(&source).status().unwrap();
    assert!(built.success());
    // It waits for what nobody writes, until it is told of; nobody tells this shell, which gives it three seconds.
    // It has forked, as a server does for --run.
    let script = "mkfifo hold; exec 3<>hold; timeout 3 ./nbdkit-static <&3; nbdkit -U - null --run true";
    let watched = told(&command(&directory, &[], script).output().unwrap());
    watched.says("nbdkit-static`: it is statically linked, setuid").says("1 server (1 of nbdkit ");
    watched.says("not judged, or not to the end: 1 server\n");
    assert_eq!(watched.status, Some(0));
}

/// What it inherits is not taken for its own by the dynamic linker, and nobody but root may look into it.
#[test]
fn a_server_that_is_setuid_is_told_of() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: it needs root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = "chmod 777 .; cp $(command -v nbdkit) nbdkit-setuid; chmod 4755 nbdkit-setuid; cp $LAYERS layers; chmod 755 layers
        exec setpriv --reuid 65534 --regid 65534 --clear-groups ./layers watch -- \
            sh -c './nbdkit-setuid -f -U - null --run \"sleep 2\"; true'";
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("LAYERS", assert_cmd::cargo::cargo_bin("layers"));
    let watched = told(&command.current_dir(&directory).env("TMPDIR", directory.path()).output().unwrap());
    // Where the file system has no such programs it is one like any other.
    if !watched.stderr.contains("1 server (1 of nbdkit ") {
        watched.says("`nbdkit-setuid`: it is statically linked, setuid");
    }
}

#[test]
fn a_server_that_is_killed_is_judged_up_to_its_end() {
    let script = "nbdkit -U s -P pid memory 1M; nbdinfo 'nbd+unix:///?socket=s'; kill -KILL $(cat pid)";
    let watched = watch(&["--wait"], script);
    assert_eq!(watched.finds_nothing().says("1 ended without exit(3)").status, Some(0));
}

/// Whoever watches is killed before the server ends, which has noted its end by itself.
#[test]
fn traces_are_whole_where_layers_was_killed() {
    let directory = tempfile::tempdir().unwrap();
    let module = faulty("plugins/size-is-negative.c", directory.path());
    let script = format!(
        "nbdkit -U s -P pid memory 1M; nbdkit -U f -P faulty {}; \
         nbdinfo 'nbd+unix:///?socket=s' >/dev/null; nbdinfo 'nbd+unix:///?socket=f' 2>/dev/null; kill -KILL $PPID",
        module.display()
    );
    let watched = told(&command(&directory, &["--dir", "kept"], &script).output().unwrap());
    assert_eq!(watched.status, None);
    let ends = "for p in $(cat pid faulty); do kill $p; while kill -0 $p 2>/dev/null; do :; done; done";
    assert!(Command::new("sh").args(["-c", ends]).current_dir(&directory).status().unwrap().success());
    // What is not a server's is left alone.
    std::fs::write(directory.path().join("kept/traces/own.trace"), "mine").unwrap();
    let check = |trace: &str| {
        let mut check = Command::new(assert_cmd::cargo::cargo_bin("layers"));
        told(&check.args(["check", trace]).current_dir(&directory).output().unwrap())
    };
    let checked = check("kept");
    assert_eq!((checked.status, checked.stdout.matches("exit 0: conformant").count()), (Some(1), 1));
    assert!(checked.stdout.contains("FAIL  nego.size.range"), "{}", checked.stdout);
    assert_eq!(check("kept/traces/own.trace").says("is not a trace").status, Some(2));
}

/// Its status is that of the process that serves, whoever has started that.
#[test]
fn a_server_that_exits_while_it_serves_is_a_finding_under_run_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let module = faulty("filters/pread-exits.c", directory.path());
    let script = format!(
        "nbdkit -U - --filter={} memory 1048577 --run 'qemu-io -r -f raw -c \"r 1048576 1\" $uri' 2>/dev/null; exit 0",
        module.display()
    );
    let watched = told(&command(&directory, &[], &script).output().unwrap());
    assert_eq!(watched.says("exit.config-only in 1 server").status, Some(1));
}

#[test]
fn a_filter_that_uses_its_next_in_close_is_a_finding() {
    let directory = tempfile::tempdir().unwrap();
    let module = faulty("filters/next-after-finalize.c", directory.path());
    let script =
        format!("nbdkit -U - --filter={} memory 1M --run 'nbdinfo $uri' >/dev/null", module.display());
    let watched = told(&command(&directory, &[], &script).output().unwrap());
    assert_eq!(watched.says("finalize.last-use in 1 server").status, Some(1));
}

/// There is no room for what they would record: they go on, and so does whoever reads.
#[test]
fn servers_survive_a_full_disk() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: it needs root");
        return;
    }
    let layers = assert_cmd::cargo::cargo_bin("layers");
    for options in ["", "--live", "--dir m/kept"] {
        let directory = tempfile::tempdir().unwrap();
        // Filled when the server runs: what it records from then on has no place.
        let script = format!(
            "mkdir m && mount -t tmpfs -o size=20m none m && export TMPDIR=$PWD/m || exit 99; \
             exec {} watch {options} -- sh -c 'nbdkit -f -U s memory 10M & p=$!; while ! [ -S s ]; do :; done; \
             dd if=/dev/zero of=m/fill bs=64k 2>/dev/null; \
             qemu-img bench -c 60000 -d 8 -f raw -s 512 nbd:unix:s >/dev/null; echo $?; kill $p; wait $p; echo $?'",
            layers.display()
        );
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script]).current_dir(&directory).stdin(Stdio::null());
        let watched = told(&command.output().unwrap());
        if watched.status == Some(99) {
            eprintln!("left out: nothing can be mounted here");
            return;
        }
        assert_eq!(watched.stdout, "0\n0\n", "{options}: {}", watched.stderr);
        watched.says("not judged, or not to the end: 1 server");
        assert_eq!(watched.status, Some(7), "{options}: {}", watched.stderr);
    }
}

/// A process that makes a larger file than it may is killed.
#[test]
fn servers_whose_files_are_limited_run_as_ever() {
    let script = "ulimit -f 100; nbdkit -U - memory 1M --run 'nbdinfo --size $uri'";
    let unwatched = watch(&[], script);
    assert_eq!(unwatched.stdout, "1048576\n", "{}", unwatched.stderr);
    unwatched.says("there is no room for its trace");
    let script = script.replace("100", "100000");
    for options in [&[][..], &["--dir", "kept"]] {
        let directory = tempfile::tempdir().unwrap();
        let watched = told(&command(&directory, options, &script).output().unwrap());
        watched.finds_nothing().says("1 server (1 of nbdkit ").says("1 exited with 0");
        assert_eq!((watched.stdout.as_str(), watched.status), ("1048576\n", Some(0)));
    }
}

#[test]
fn what_leaves_nothing_to_judge_by_is_refused() {
    let refused = watch(&["--skip", "*"], "nbdkit -U - null --run true");
    assert_eq!(refused.says("leave no rule to judge by").status, Some(2));
    let directory = tempfile::tempdir().unwrap();
    let refused = told(&command(&directory, &["--dir", "a b"], "true").output().unwrap());
    assert_eq!(refused.says("a blank or a colon").status, Some(2));
    assert!(!directory.path().join("a b").exists());
}

#[test]
fn a_report_that_cannot_be_written_is_named() {
    let watched = watch(&["--report", "human=/dev/full"], "nbdkit -U - null --run true");
    assert_eq!(watched.says("cannot write the report `/dev/full`").status, Some(70));
}

#[test]
fn a_server_that_crashes_is_a_finding() {
    let script =
        "nbdkit -U s -P pid memory 1M; nbdinfo 'nbd+unix:///?socket=s' >/dev/null; kill -SEGV $(cat pid)";
    let watched = watch(&["--wait"], script);
    watched.says("FAIL   crash in 1 server").says("the server was killed by signal 11");
    assert_eq!(watched.says("1 crashed with signal 11").status, Some(1));
    assert_eq!(watch(&["--wait", "--exit-with-command"], script).status, Some(0));
    let other = format!(
        "{script}; {}",
        script.replace("-U s -P pid", "-U t -P pid").replace("=s", "=t").replace("SEGV", "ABRT")
    );
    watch(&["--wait"], &other).says("killed by signal 11").says("killed by signal 6");
}

#[test]
fn a_server_that_outlives_the_command_is_told_of_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let script = "nbdkit -U s -P pid memory 1M; nbdinfo 'nbd+unix:///?socket=s'";
    let watched = told(&command(&directory, &[], script).output().unwrap());
    assert_eq!(watched.finds_nothing().says("1 still ran, and was judged up to then").status, Some(0));
    let socket = format!("nbd+unix:///?socket={}/s", directory.path().display());
    assert!(Command::new("nbdinfo").args(["--size", &socket]).status().unwrap().success());
    let pid = std::fs::read_to_string(directory.path().join("pid")).unwrap();
    assert!(Command::new("kill").arg(pid.trim()).status().unwrap().success());
}

/// A module of the zoo, built.
fn faulty(file: &str, directory: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/zoo").join(file);
    let library = directory.join(source.file_name().unwrap()).with_extension("so");
    let flags = ["-fPIC", "-shared", "-pthread", "-o"];
    let built = Command::new("cc").args(flags).arg(&library).arg(source).status().unwrap();
    assert!(built.success(), "{file}");
    library
}

/// What nothing but a shell script, nbdinfo and qemu-io shows of modules with one fault each.
#[test]
fn faulty_modules_are_found_by_what_a_plain_script_does_with_them() {
    const MODULES: &[(&str, &str, &str)] = &[
        ("plugins/block-size-is-odd.c", "", "nego.block_size.validity"),
        ("plugins/close-crashes.c", "", "crash"),
        ("plugins/extents-are-none.c", "", "emul.extents.nonempty"),
        ("plugins/extents-of-length-zero.c", "", "emul.extents.nonempty"),
        ("plugins/load-crashes.c", "", "crash"),
        ("plugins/results-are-counts.c", "", "result.known"),
        ("plugins/size-is-negative.c", "", "nego.size.range"),
        ("plugins/unload-crashes.c", "", "crash"),
        ("filters/context-is-not-prepared.c", "good", "crash"),
        ("filters/context-is-opened-in-unload.c", "good", "manual.where"),
        ("filters/fast-zero-is-passed-unasked.c", "good-slow-zero", "crash"),
        ("filters/fua-is-passed-unasked.c", "good-writes", "crash"),
        ("filters/open-forgets-next.c", "good-writes", "crash"),
        ("filters/pread-passes-flags.c", "good-writes", "crash"),
        ("filters/prepare-aborts.c", "good-writes", "crash"),
        ("filters/prepare-reads-unasked.c", "good-writes", "crash"),
        ("filters/prepare-writes-unasked.c", "good-writes", "crash"),
        ("filters/read-returns-count.c", "good", "result.known"),
        ("filters/trim-is-claimed.c", "good-writes", "crash"),
        ("filters/zero-is-not-supported.c", "good", "data.error.zero-notsup"),
    ];
    let modules = tempfile::tempdir().unwrap();
    let plugin = |name: &str| faulty(&format!("plugins/{name}.c"), modules.path()).display().to_string();
    for (file, over, found) in MODULES {
        let module = faulty(file, modules.path()).display().to_string();
        let words = if over.is_empty() { module } else { format!("--filter={module} {}", plugin(over)) };
        let watched = watch(&["--wait"], &used(&words));
        assert_eq!(watched.says(&format!("FAIL   {found} in 1 server")).status, Some(1), "{file}");
    }
    for good in ["good", "good-writes", "good-slow-zero", "good-least", "good-stored"] {
        let disk = if good == "good-stored" { " file=disk" } else { "" };
        let script = format!("truncate -s 2M disk; {}", used(&format!("{}{disk}", plugin(good))));
        assert_eq!(watch(&["--wait"], &script).finds_nothing().says("1 exited with 0").status, Some(0));
    }
}

/// A script that serves these words, has clients use what is served, and stops the server.
fn used(words: &str) -> String {
    let write = "-c 'w -P 3 0 4k' -c 'r -P 3 0 4k' -c 'w -z 4k 4k' -c 'w -f -P 5 8k 512' -c 'discard 16k 16k' -c flush";
    format!(
        "exec >/dev/null 2>&1; nbdkit -U s -P pid {words} || exit 0; u='nbd+unix:///?socket=s'; \
         timeout 20 nbdinfo $u; timeout 20 nbdinfo --list $u; timeout 20 nbdinfo --map $u; \
         timeout 20 qemu-io -f raw {write} $u; timeout 20 qemu-io -r -f raw -c 'r 0 1k' $u; kill $(cat pid); exit 0"
    )
}

#[test]
fn a_broken_promise_is_found_and_says_which_server_showed_it() {
    let modules = tempfile::tempdir().unwrap();
    for (name, rule) in [
        ("plugins/results-are-counts.c", "result.known"),
        ("plugins/size-is-negative.c", "nego.size.range"),
        ("plugins/extents-are-none.c", "emul.extents.nonempty"),
    ] {
        let module = faulty(name, modules.path());
        let serve = format!(
            "nbdkit -U - {} --run 'qemu-io -f raw -c \"r 0 512\" $uri; nbdinfo --map $uri'",
            module.display()
        );
        let script = format!("{{ {serve}; {serve}; nbdkit -U - null --run true; }} >/dev/null 2>&1");
        let watched = watch(&[], &script);
        watched.says(&format!("FAIL   {rule} in 2 servers")).says("seen in: server 1: nbdkit -U - --run");
        watched.says("also in:  server 2: nbdkit").says(module.file_stem().unwrap().to_str().unwrap());
        assert_eq!(watched.says("layers: 3 servers (3 of nbdkit ").status, Some(1));
        let without = watch(&["--skip", rule, "--skip", "result.*", "--exit-with-command"], &script);
        assert!(!without.stderr.contains(&format!("FAIL   {rule}")), "{}", without.stderr);
    }
}

/// While the command still runs, which does not get to its end where the first finding is to end it.
#[test]
fn a_finding_is_told_at_once_and_can_end_the_command() {
    let modules = tempfile::tempdir().unwrap();
    let module = faulty("plugins/size-is-negative.c", modules.path());
    let serve = format!("nbdkit -U - {} --run 'nbdinfo $uri'", module.display());
    let script = format!("{serve} 2>/dev/null; nbdkit -U - null --run true; echo end >&2");
    let live = watch(&["--live"], &script);
    let at = |what: &str| live.stderr.find(what).unwrap_or(usize::MAX);
    assert!(at("layers: FAIL nego.size.range: ") < at("layers: findings:"), "{}", live.stderr);
    // It waits for what nobody gives it.
    let script = format!("mkfifo hold; {serve} 2>/dev/null; exec 3<>hold; read forever <&3; echo end >&2");
    let ended = watch(&["--fail-fast"], &script);
    assert!(!ended.stderr.contains("end\n"), "{}", ended.stderr);
    assert_eq!(ended.says("FAIL   nego.size.range in 1 server").status, Some(1));
}

/// While the server still runs, which nobody ends before.
#[test]
fn a_finding_is_told_while_its_server_runs() {
    let modules = tempfile::tempdir().unwrap();
    let module = faulty("plugins/size-is-negative.c", modules.path());
    let serve = format!(
        "nbdkit -U s -P pid {}; nbdinfo 'nbd+unix:///?socket=s' 2>/dev/null; mkfifo hold; \
         trap 'kill $(cat pid); echo stopped >&2; exit 0' TERM; exec 3<>hold; while :; do read forever <&3; done",
        module.display()
    );
    let watched = watch(&["--live", "--fail-fast", "--wait"], &serve);
    let at = |what: &str| watched.stderr.find(what).unwrap_or(usize::MAX);
    assert!(at("layers: FAIL nego.size.range: ") < at("stopped"), "{}", watched.stderr);
    assert_eq!(watched.says("FAIL   nego.size.range in 1 server").status, Some(1));
    assert_eq!(watched.stderr.matches("layers: FAIL nego.size.range").count(), 1, "{}", watched.stderr);
}

/// Many times as many events as the trace has places for.
#[test]
fn a_server_is_watched_for_longer_than_its_trace_has_room() {
    let bench = "nbdkit -U - --filter=nofilter null 1M --run 'qemu-img bench -f raw -c 40000 -d 8 -s 512 $uri' >/dev/null";
    let watched = watch(&["--memory", "8"], bench);
    watched.finds_nothing().says("1 server (1 of nbdkit ").says("1 exited with 0");
    let tested = watched.stderr.split(" put to the test ").nth(1).and_then(|rest| rest.split(' ').next());
    // Where this machine is so busy that some are left out, that is told.
    let left_out = watched.stderr.contains("left behind");
    assert!(left_out || tested.unwrap().parse::<u64>().unwrap() > 100_000, "{}", watched.stderr);
    assert_eq!(watched.status, Some(if left_out { 7 } else { 0 }), "{}", watched.stderr);
}

/// The process that judges is stopped while the server goes on.
#[test]
fn a_judge_that_is_left_behind_says_from_where_on_and_blames_nobody() {
    let bench = "kill -STOP $PPID; \
        nbdkit -U - --filter=nofilter null 1M --run 'qemu-img bench -f raw -c 20000 -d 8 -s 512 $uri' >/dev/null; \
        kill -CONT $PPID";
    let watched = watch(&["--memory", "1"], bench);
    assert_eq!(watched.finds_nothing().says("1 exited with 0").status, Some(7));
    watched.says("calls of data were not recorded from event ").says("was left behind");
    watched.says("exit 7: inconclusive: 1 server is not judged to its end");
    let whole = watch(&["--memory", "1", "--exit-with-command"], bench);
    assert_eq!(whole.status, Some(0));
}

#[test]
fn every_format_tells_of_the_servers() {
    let directory = tempfile::tempdir().unwrap();
    let module = faulty("plugins/size-is-negative.c", directory.path());
    let script = format!(
        "nbdkit -U - {} --run 'nbdinfo $uri' 2>/dev/null; nbdkit -U - null --run true",
        module.display()
    );
    let formats = ["ndjson", "junit", "tap", "github", "markdown", "html"];
    let reports: Vec<String> = formats.iter().map(|format| format!("--report={format}={format}")).collect();
    let options: Vec<&str> = reports.iter().map(String::as_str).collect();
    assert_eq!(told(&command(&directory, &options, &script).output().unwrap()).status, Some(1));
    let text = |format: &str| std::fs::read_to_string(directory.path().join(format)).unwrap();
    for format in formats {
        assert!(text(format).contains("nego.size.range"), "{format}: {}", text(format));
    }
    let lines = text("ndjson");
    let line =
        |kind: &str| lines.lines().filter(|line| line.starts_with(&format!("{{\"type\":\"{kind}\""))).count();
    assert_eq!([line("begin"), line("server"), line("end")], [1, 2, 1], "{lines}");
    assert!(text("tap").contains("\nnot ok ") && text("junit").contains("<failure "));
    // A run that fails before it begins ends its report, too.
    let failed =
        told(&command(&directory, &["--report", "ndjson=none", "--only", "x.y"], "true").output().unwrap());
    assert_eq!(failed.status, Some(2));
    assert!(text("none").starts_with("{\"type\":\"end\",\"exit\":2,"), "{}", text("none"));
}

#[test]
fn what_the_user_lists_is_told_as_known_and_what_is_gone_is_stale() {
    let directory = tempfile::tempdir().unwrap();
    let module = faulty("plugins/size-is-negative.c", directory.path());
    let script = format!("nbdkit -U - {} --run 'nbdinfo $uri' 2>/dev/null; exit 0", module.display());
    let run = |options: &[&str], script: &str| told(&command(&directory, options, script).output().unwrap());
    let own = ["--baseline", "known.toml"];
    let file = directory.path().join("known.toml");
    assert_eq!(run(&["--baseline", "known.toml", "--update-baseline"], &script).status, Some(1));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("id = \"nego.size.range\""), "{text}");
    assert_eq!(run(&own, &script).says("`why` is empty").status, Some(2));
    std::fs::write(&file, text.replace("why = \"\"", "why = \"a test\"")).unwrap();
    let known = run(&own, &script);
    known
        .finds_nothing()
        .says("a test: ")
        .says("nego.size.range in 1 server")
        .says("first in: server 1: nbdkit");
    assert_eq!(known.status, Some(0));
    let good = "nbdkit -U - memory 1M --run 'nbdinfo $uri' >/dev/null";
    assert_eq!(run(&own, good).says("stale: nego.size.range did not happen").status, Some(4));
}

/// What is known of servers that are told to stop is no excuse for one that was not: its only client has gone, and it ends.
#[test]
fn what_is_known_of_a_server_is_known_in_its_circumstances() {
    // It is connected when the server is told to stop.
    let client = "import os,socket,struct\ns=socket.socket(socket.AF_UNIX)\ns.settimeout(20)\ns.connect(\"s\")\n\
        s.recv(18)\ns.sendall(struct.pack(\">I\",1)+b\"IHAVEOPT\"+struct.pack(\">II\",1,0))\ns.recv(10)\n\
        os.kill(int(open(\"pid\").read()),15)\n";
    let stopped = &format!("nbdkit -U s -P pid memory 1M; printf '%s' '{client}' | timeout 20 python3");
    let watched = watch(&["--wait"], stopped);
    watched.finds_nothing().says("layers: known of this version of the server").says("first in: server 1: ");
    assert_eq!(watched.status, Some(0));
    let counted = watch(&["--wait", "--no-baseline"], stopped);
    assert_eq!(counted.says("FAIL   ").status, Some(1));
}

#[test]
fn haproxy_is_watched_by_the_same_way() {
    haproxy_is_watched("");
}

#[test]
fn a_haproxy_in_a_root_of_its_own_is_watched() {
    if rustix::process::geteuid().is_root() {
        haproxy_is_watched("  chroot {at}/empty\n  user nobody\n  group nogroup\n");
    }
}

/// It is asked on its command line, with this more in the `global` section, where `{at}` stands for its directory.
fn haproxy_is_watched(more: &str) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("empty")).unwrap();
    let at = directory.path().display();
    let more = more.replace("{at}", &at.to_string());
    let configuration = format!(
        "global\n{more}  stats socket {at}/cli level admin\ndefaults\n  mode http\n  timeout client 5s\n  timeout connect 5s\n  \
         timeout server 5s\nfrontend f\n  bind unix@{at}/http\n  stats enable\n  stats uri /\n"
    );
    std::fs::write(directory.path().join("haproxy.cfg"), configuration).unwrap();
    let asks = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
                s.sendall(b'show info;show stat;layers nothing\\n')\nt=b''\nwhile True:\n  b=s.recv(65536)\n  if not b: break\n  t+=b\n\
                print(b'Uptime' in t, b'own-memory' in t)\n";
    std::fs::write(directory.path().join("asks.py"), asks).unwrap();
    // A daemon is there when its first process has gone.
    let script =
        "haproxy -D -p pid -f haproxy.cfg 2>/dev/null && python3 asks.py cli && kill -USR1 $(cat pid)";
    let watched = told(&command(&directory, &["--wait"], script).output().unwrap());
    assert_eq!((watched.status, watched.stdout.as_str()), (Some(0), "True False\n"), "{}", watched.stderr);
    watched.finds_nothing().says("1 server (1 of haproxy ").says("rules put to the test");
    assert!(!watched.stderr.contains("layers: 0 of "), "{}", watched.stderr);
}

#[test]
fn the_command_goes_on_without_layers_and_its_directory_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let script =
        "mkfifo hold; nbdkit -U s -P pid memory 1M; touch ready; read x <hold; touch went-on; rm hold";
    let mut child = command(&directory, &[], script).spawn().unwrap();
    let (ready, hold) = (directory.path().join("ready"), directory.path().join("hold"));
    wait_until(|| ready.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let private = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("layers-");
    wait_until(|| !std::fs::read_dir(directory.path()).unwrap().flatten().any(private));
    let _open = std::fs::File::options().read(true).write(true).open(&hold).unwrap();
    std::fs::write(&hold, "\n").unwrap();
    wait_until(|| directory.path().join("went-on").exists() && !hold.exists());
    let pid = std::fs::read_to_string(directory.path().join("pid")).unwrap();
    assert!(
        Command::new("kill").arg(pid.trim()).status().unwrap().success(),
        "the server is left alone, too"
    );
}

#[track_caller]
fn wait_until(happened: impl Fn() -> bool) {
    let deadline = Deadline::after(Duration::from_secs(30));
    while !happened() {
        assert!(!deadline.passed(), "it does not happen");
        std::thread::yield_now();
    }
}

#[test]
fn the_traces_are_kept_where_the_user_says_and_judged_again() {
    let directory = tempfile::tempdir().unwrap();
    let script = "nbdkit --dump-plugin memory; nbdkit --filter=cow --dump-plugin memory";
    let watched = told(&command(&directory, &["--dir", "kept"], script).output().unwrap());
    watched.finds_nothing().says("the traces are in `");
    let mut check = Command::new(assert_cmd::cargo::cargo_bin("layers"));
    let checked = told(&check.arg("check").arg(directory.path().join("kept")).output().unwrap());
    assert_eq!((checked.status, checked.stdout.matches("exit 0: conformant").count()), (Some(0), 2));
    let again = told(&command(&directory, &["--dir", "kept"], script).output().unwrap());
    assert_eq!(again.says("has the traces of another run").status, Some(2));
}

#[test]
fn what_is_preloaded_already_stays_so() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("other.c");
    let text = "#include <unistd.h>\n__attribute__((constructor)) static void said(void) { write(2, \"other\\n\", 6); }\n";
    std::fs::write(&source, text).unwrap();
    let library = directory.path().join("other.so");
    let built =
        Command::new("cc").args(["-fPIC", "-shared", "-o"]).arg(&library).arg(&source).status().unwrap();
    assert!(built.success());
    let mut command = command(&directory, &[], "nbdkit -U - null --run true");
    let watched = told(&command.env("LD_PRELOAD", &library).output().unwrap());
    watched.finds_nothing().says("other\n").says("1 exited with 0");
}

#[test]
fn a_signal_goes_on_to_the_command() {
    let directory = tempfile::tempdir().unwrap();
    let script = "trap 'exit 7' TERM; mkfifo hold; touch ready; nbdkit -U - null --run true; read x <hold";
    let mut child = command(&directory, &["--exit-with-command"], script).spawn().unwrap();
    let hold = directory.path().join("hold");
    wait_until(|| hold.exists());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    // The shell hears of it when its read has ended, or at once.
    let _ = std::fs::File::options().read(true).write(true).open(&hold);
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

/// The servers that `ci/servers nbdkit` has fetched, named one a line.
#[test]
#[ignore = "needs LAYERS_SERVERS=\"$(ci/servers nbdkit)\", which fetches packages"]
fn other_versions_are_watched_with_their_filters() {
    for server in std::env::var("LAYERS_SERVERS").unwrap().split_whitespace() {
        let folder = "dirname=$(echo \"$(dirname \"$server\")\"/root/usr/lib/*/nbdkit)";
        let script = format!(
            "server={server}; {folder}; \"$server\" -U - --filter=$dirname/filters/nbdkit-cow-filter.so \
             --filter=$dirname/filters/nbdkit-offset-filter.so $dirname/plugins/nbdkit-memory-plugin.so 1M offset=512 \
             --run 'nbdinfo $uri'"
        );
        let watched = watch(&[], &script);
        assert_eq!(watched.finds_nothing().says("1 exited with 0").status, Some(0));
        assert!(!watched.stderr.contains("not judged, or not to the end"), "{}", watched.stderr);
    }
}
