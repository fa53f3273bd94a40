//! `ci/install`: a command that works from any directory and for anybody, with its manual pages and completions.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::document::root;
use crate::place::{Place, Said};

/// Where it is installed, once for all tests.
fn installed() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let place = Place::lasting("installed");
        let install = format!("'{}/ci/install' .", root().display());
        Said::of(&place.building().arg(install).output().unwrap()).succeeds(&[]);
        place.project()
    })
}

#[test]
fn it_judges_from_any_directory_and_for_anybody() {
    let place = Place::new();
    let layers = place.project().join("layers");
    fs::copy(installed().join("bin/layers"), &layers).unwrap();
    let open = fs::Permissions::from_mode(0o755);
    place.project().ancestors().take(2).for_each(|path| fs::set_permissions(path, open.clone()).unwrap());
    let mut command = Command::new("timeout");
    command.arg("60");
    if rustix::process::geteuid().is_root() {
        command.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
    }
    command.arg(layers).args(["validate", "memory", "64M"]).current_dir("/").env_remove("TMPDIR");
    Said::of(&command.output().unwrap()).succeeds(&["exit 0: conformant"]);
}

#[test]
fn groff_has_nothing_to_say_of_the_manual_pages() {
    let pages = installed().join("share/man/man1");
    let mut names = Vec::new();
    for page in fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().path()) {
        let output = Command::new("groff").args(["-ww", "-man", "-Tutf8"]).arg(&page).output().unwrap();
        assert!(output.stderr.is_empty(), "{page:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.windows(12).any(|text| text == b"layers 0.1.0"), "{page:?} names the version");
        names.push(page.file_stem().unwrap().to_str().unwrap().to_owned());
    }
    for verb in ["layers", "layers-validate", "layers-conform", "layers-trace", "layers-rules"] {
        assert!(names.iter().any(|name| name == verb), "{names:?}");
    }
}

/// What bash offers for a line of which the last word has been begun.
fn offered(words: &[&str]) -> Vec<String> {
    let script = installed().join("share/bash-completion/completions/layers");
    let begun = words.last().unwrap();
    let before = words[words.len() - 2];
    let ask = format!(
        ". '{}'; COMP_WORDS=({}); COMP_CWORD={}; _layers layers '{begun}' '{before}'; echo \"${{COMPREPLY[@]}}\"",
        script.display(),
        words.iter().map(|word| format!("'{word}' ")).collect::<String>(),
        words.len() - 1,
    );
    let output = Command::new("bash").args(["-c", &ask]).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn bash_completes_verbs_options_and_values() {
    assert_eq!(offered(&["layers", "val"]), ["validate"]);
    assert!(offered(&["layers", ""]).iter().any(|verb| verb == "conform"));
    assert_eq!(offered(&["layers", "validate", "--update"]), ["--update-baseline"]);
    assert_eq!(offered(&["layers", "validate", "--level", ""]), ["must", "should", "pedantic"]);
}
