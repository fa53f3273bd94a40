//! The recipes of docs/ci.md for services, build systems and hooks.

use std::fs;

use quick_junit::Report;
use serde_json::Value;

use crate::document::{blocks, root, yaml};
use crate::place::Place;

/// Those of this language.
pub(crate) fn recipes(language: &str) -> Vec<String> {
    let all = blocks("docs/ci.md").into_iter().filter(|block| block.language == language);
    all.map(|block| block.body).collect()
}

/// The one of the recipes in YAML that has this key at its top.
pub(crate) fn recipe(key: &str) -> Value {
    recipes("yaml").iter().map(|text| yaml(text)).find(|one| one.get(key).is_some()).unwrap()
}

/// The report that a run has left in its project.
pub(crate) fn junit(place: &Place, name: &str) -> Report {
    Report::deserialize_from_str(&fs::read_to_string(place.project().join(name)).unwrap()).unwrap()
}

#[test]
fn gitlab_gets_a_list_of_tests() {
    let job = &recipe("conformance")["conformance"];
    let place = Place::with_example("meson");
    let lines: Vec<&str> =
        job["script"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    place.run(&lines.join("\n")).succeeds(&["exit 0: conformant"]);
    let report = junit(&place, job["artifacts"]["reports"]["junit"].as_str().unwrap());
    assert!(report.tests > 50 && report.failures + report.errors == 0, "{report:?}");
    // Once for all, `ci/install` runs in another test.
    let before = job["before_script"].as_array().unwrap();
    assert_eq!(before.last().unwrap(), "$CI_BUILDS_DIR/layers/ci/install /usr/local");
}

#[test]
fn what_build_systems_are_told_is_what_the_example_projects_tell_them() {
    let stands_in = |language: &str, files: &[&str]| {
        let texts = files.iter().map(|file| fs::read_to_string(root().join("fixtures/examples").join(file)));
        let texts: Vec<String> = texts.map(Result::unwrap).collect();
        let all = recipes(language);
        assert!(!all.is_empty(), "{language}");
        for recipe in all {
            assert!(texts.iter().any(|text| text.contains(&recipe)), "not in {files:?}:\n{recipe}");
        }
    };
    stands_in("meson", &["meson/meson.build"]);
    stands_in("m4", &["automake/configure.ac"]);
    stands_in("make", &["automake/Makefile.am"]);
    let script = fs::read_to_string(root().join("fixtures/examples/automake/conformance.sh")).unwrap();
    assert!(recipes("sh").iter().any(|recipe| script.ends_with(recipe)), "{script}");
}

/// With a repository of the hooks where the recipe says that they come from.
#[test]
fn pre_commit_judges_the_plugin_whose_file_changes() {
    let recipe = recipes("yaml").into_iter().find(|text| text.starts_with("repos:")).unwrap();
    let repository = &yaml(&recipe)["repos"][0];
    let place = Place::with_example("python");
    place.write(".pre-commit-config.yaml", &recipe);
    place.write(
        "hooks/.pre-commit-hooks.yaml",
        &fs::read_to_string(root().join(".pre-commit-hooks.yaml")).unwrap(),
    );
    let (url, rev) = (repository["repo"].as_str().unwrap(), repository["rev"].as_str().unwrap());
    let prepared = format!(
        "git config --global user.email author@localhost
         git config --global user.name author
         git config --global url.\"$PWD/hooks\".insteadOf {url}
         (cd hooks && git init -q && git add . && git commit -qm hooks && git tag {rev})
         echo /hooks/ >>.gitignore
         git init -q && git add ."
    );
    let run = |lines: &str| place.run(&format!("export HOME=$TMPDIR PRE_COMMIT_HOME=$TMPDIR/cache\n{lines}"));
    run(&prepared).succeeds(&[]);
    run("pre-commit run").succeeds(&["layers validate", "Passed"]);

    run("git commit -qm sound").succeeds(&[]);
    run("echo >>README.md; git add .; pre-commit run").succeeds(&["(no files to check)Skipped"]);
    let faulty = "sed -i 's/^forgets_last_byte = False/forgets_last_byte = True/' ramdisk.py; git add .";
    run(faulty).succeeds(&[]);
    run("pre-commit run").fails(&["Failed", "FAIL  write.read-back", "nbdkit-plugin(3), \".pwrite\""]);
}
