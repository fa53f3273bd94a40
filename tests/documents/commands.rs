//! The command lines in README.md and docs/ do what is said of them.
//!
//! Of a `sh` fence each line is run, and must succeed unless a comment at its end says `exit 1` or `signal 11`. Of a
//! `console` fence the lines after `$` are run, and print what stands below them; there `...` stands for any lines, and
//! `[..]` for any part of one. A fence with a file's name behind its language (`c slow.c`) is that file. The fences of one
//! document are run in order, in one new directory.

use std::fmt::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use snapbox::IntoData;

use super::fences::{Fence, fences};
use super::{documents, root};

/// How commands begin that are not run here, and why.
const ELSEWHERE: &[(&str, &str)] = &[
    ("ci/demo", "builds into the work tree; run by hand in a fresh clone"),
    ("ci/test", "runs this test"),
    ("ci/servers ", "fetches packages of other versions of Debian"),
    ("nbdkit -U - perl ", "needs what `ci/setup debian` installs, and ci/validate-debian judges"),
    ("nbdkit -U - python ", "needs what `ci/setup debian` installs, and ci/validate-debian judges"),
    ("layers validate tcl ", "needs what `ci/setup debian` installs, and ci/validate-debian judges"),
    ("layers conform nbdkit --no-baseline --server ~/.cache/", "needs what ci/servers fetches"),
    ("layers conform haproxy --no-baseline --server ~/.cache/", "needs what ci/servers fetches"),
];

/// Documents whose commands have a test of their own.
const DOCUMENTS_ELSEWHERE: &[(&str, &str)] =
    &[("ci.md", "tests/examples/recipes.rs"), ("first-test.md", "tests/examples/first_test.rs")];

/// The exit codes that the comment at the end of a line speaks of, as a shell has them: 0 where it has none.
fn expected(line: &str) -> Vec<i32> {
    let comment = line.rsplit_once(" # ").map_or("", |(_, comment)| comment);
    let numbers = |words: &str| -> Vec<i32> {
        let number = |word: &str| word.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok();
        words.split(" or ").map_while(number).collect()
    };
    if let Some(words) = comment.strip_prefix("exit ") {
        numbers(words)
    } else if let Some(words) = comment.strip_prefix("signal ") {
        numbers(words).into_iter().map(|signal| 128 + signal).collect()
    } else {
        vec![0]
    }
}

/// Commands of a `sh` fence, each with its exit codes; one that ends with a backslash goes on in the next line.
fn commands(body: &str) -> Vec<(String, Vec<i32>)> {
    let whole = body.replace("\\\n", " ");
    let lines = whole.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| (line.to_owned(), expected(line))).collect()
}

fn elsewhere(command: &str) -> Option<usize> {
    ELSEWHERE.iter().position(|(begin, _)| command.starts_with(begin))
}

/// Where a reader would be: in the project, with a plugin and a filter of their own.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for name in ["fixtures", "harness"] {
        symlink(root().join(name).canonicalize().unwrap(), place.path().join(name)).unwrap();
    }
    for (script, source) in [("my-plugin.sh", "zoo/shell/good.sh"), ("disk.sh", "documents/disk.sh")] {
        let script = place.path().join(script);
        std::fs::copy(root().join("fixtures").join(source), &script).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    for (module, source) in
        [("my-filter.so", "filters/good.c"), ("my-plugin.so", "plugins/zero-forgets-with-fua.c")]
    {
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-pthread", "-o"]).arg(place.path().join(module));
        let built = cc.arg(root().join("fixtures/zoo").join(source)).status().unwrap();
        assert!(built.success(), "{source} is built");
    }
    place
}

/// Runs this text in bash there, with this `layers`.
fn bash(script: &str, place: &Path) -> Output {
    let own = Path::new(env!("CARGO_BIN_EXE_layers")).parent().unwrap().display();
    let path = std::env::var("PATH").unwrap();
    let mut bash = Command::new("timeout");
    bash.args(["--kill-after=5", "170", "bash", "-c", script]).current_dir(place);
    bash.env("PATH", format!("{own}:{path}:/usr/sbin:/sbin")).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

/// What is wrong with the commands of a `sh` fence.
fn run(fence: &Fence, place: &Path) -> Result<(), String> {
    let mut script = String::new();
    for (command, codes) in commands(&fence.body).iter().filter(|(command, _)| elsewhere(command).is_none()) {
        let codes: Vec<String> = codes.iter().map(i32::to_string).collect();
        let (fine, said) = (codes.join("|"), codes.join(" or "));
        let judge =
            format!("case $code in {fine}) ;; *) echo \"exit code $code instead of {said}\"; exit 1 ;; esac");
        writeln!(script, "{command}\ncode=$?\n{judge}").unwrap();
    }
    let output = bash(&script, place);
    if output.status.success() { Ok(()) } else { Err(format!("{}\n{}", fence.body, said(&output))) }
}

/// What is wrong with the commands of a `console` fence, and what they print.
fn compare(fence: &Fence, place: &Path) -> Result<(), String> {
    for part in fence.body.split("$ ").skip(1) {
        let (command, below) = part.split_once('\n').unwrap_or((part, ""));
        let output = bash(&format!("{command} 2>&1"), place);
        let actual = String::from_utf8_lossy(&output.stdout).into_owned();
        let compared =
            snapbox::Assert::new().try_eq(Some(&command), actual.into_data(), below.to_owned().into_data());
        compared.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// What is wrong with the commands of this document.
fn judged(name: &str, text: &str) -> Vec<String> {
    if DOCUMENTS_ELSEWHERE.iter().any(|(other, _)| *other == name) {
        return Vec::new();
    }
    let all = fences(text);
    if !all.iter().any(|fence| ["sh", "console"].contains(&fence.language.as_str())) {
        return Vec::new();
    }
    let place = place();
    let judge = |fence: &Fence| match fence.language.split_once(' ') {
        // What stands behind the language is the name of the file that it shows.
        Some((_, file)) => {
            std::fs::write(place.path().join(file), &fence.body).map_err(|error| error.to_string())
        }
        None if fence.language == "sh" => run(fence, place.path()),
        None if fence.language == "console" => compare(fence, place.path()),
        None => Ok(()),
    };
    all.iter().filter_map(|fence| judge(fence).err()).map(|wrong| format!("{name}: {wrong}")).collect()
}

#[test]
fn every_command_line_does_what_is_said_of_it() {
    let documents = documents();
    let wrong = std::thread::scope(|scope| {
        let threads = documents.iter().map(|(name, text)| scope.spawn(|| judged(name, text)));
        let threads: Vec<_> = threads.collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn no_command_line_hides_in_a_fence_of_text() {
    let programs = ["$ ", "layers ", "nbdkit ", "cargo ", "ci/", "haproxy "];
    for (name, text) in documents() {
        for fence in fences(&text).iter().filter(|fence| ["", "text"].contains(&fence.language.as_str())) {
            let command =
                fence.body.lines().find(|line| programs.iter().any(|begin| line.starts_with(begin)));
            assert_eq!(command, None, "{name}: a command line in a fence of {:?}", fence.language);
        }
    }
}

#[test]
fn no_server_of_a_document_listens_on_a_port_of_the_machine() {
    for (name, text) in documents() {
        for fence in fences(&text).iter().filter(|fence| fence.language == "sh") {
            for (command, _) in commands(&fence.body) {
                let port = command.contains("--run") && !command.contains("-U -");
                assert!(!port, "{name}: two of these cannot run side by side: {command}");
            }
        }
    }
}

#[test]
fn what_is_run_elsewhere_is_in_some_document() {
    let documents = documents();
    let all = documents.iter().flat_map(|(_, text)| fences(text)).filter(|fence| fence.language == "sh");
    let commands: Vec<_> = all.flat_map(|fence| commands(&fence.body)).collect();
    for (nth, (command, _)) in ELSEWHERE.iter().enumerate() {
        assert!(commands.iter().any(|(line, _)| elsewhere(line) == Some(nth)), "no document has {command}");
    }
    for (document, test) in DOCUMENTS_ELSEWHERE {
        assert!(documents.iter().any(|(name, _)| name == document), "there is no {document}");
        let test = std::fs::read_to_string(root().join(test)).unwrap();
        assert!(test.contains(document), "its test speaks of {document}");
    }
}

#[test]
fn a_line_says_how_it_exits() {
    assert_eq!(expected("layers validate x # exit 1: so"), [1]);
    assert_eq!(expected("layers validate x # exit 0 or 1"), [0, 1]);
    assert_eq!(expected("nbdkit perl # signal 11"), [139]);
    assert_eq!(expected("layers rules # a remark"), [0]);
    let text = "```sh\ntrue \\\n  one\n\n# a remark\nfalse   # exit 1\n```\n";
    let all = fences(text);
    assert_eq!(
        commands(&all[0].body),
        [("true    one".to_owned(), vec![0]), ("false   # exit 1".to_owned(), vec![1])]
    );
    let place = tempfile::tempdir().unwrap();
    assert!(run(&all[0], place.path()).is_ok());
    assert!(run(&Fence { language: "sh".to_owned(), body: "false\n".to_owned() }, place.path()).is_err());
    let shows =
        |below: &str| Fence { language: "console".to_owned(), body: format!("$ printf 'a\\nb\\n'\n{below}") };
    assert!(compare(&shows("...\nb\n"), place.path()).is_ok());
    assert!(compare(&shows("b\n"), place.path()).is_err());
}
