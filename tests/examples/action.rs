//! The action for GitHub, each of its steps run as the runner does, with the recipe of docs/ci.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::document::{root, yaml};
use crate::place::{Place, Said};
use crate::recipes::{junit, recipe};

/// A job in a project.
struct Job {
    place: Place,
    /// What steps have put before the PATH.
    path: Vec<String>,
    /// What steps have said of themselves, the last value of a name.
    outputs: BTreeMap<String, String>,
}

impl Job {
    fn file(&self, name: &str) -> PathBuf {
        self.place.directory().join("tmp").join(name)
    }

    /// One step with `run`; its files are new, and the shell is the one that the runner takes for `shell: bash`.
    fn step(&mut self, step: &Value, inputs: &BTreeMap<String, String>) -> Said {
        let script = step["run"].as_str().unwrap();
        assert!(!script.contains("${{"), "inputs reach scripts as variables only:\n{script}");
        let mut shell = self.place.building();
        shell.arg("exec bash --noprofile --norc -e -o pipefail \"$TMPDIR/script\"");
        fs::write(self.file("script"), script).unwrap();
        for name in ["GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY"] {
            fs::write(self.file(name), "").unwrap();
            shell.env(name, self.file(name));
        }
        shell.env("GITHUB_ACTION_PATH", root()).env("RUNNER_TEMP", self.file("runner"));
        let system = std::env::var("PATH").unwrap();
        shell.env("PATH", self.path.iter().rev().cloned().chain([system]).collect::<Vec<_>>().join(":"));
        for (name, value) in step["env"].as_object().into_iter().flatten() {
            shell.env(name, expanded(value.as_str().unwrap(), inputs));
        }
        let said = Said::of(&shell.output().unwrap());
        let [paths, outputs] =
            ["GITHUB_PATH", "GITHUB_OUTPUT"].map(|name| fs::read_to_string(self.file(name)).unwrap());
        self.path.extend(paths.lines().map(str::to_owned));
        let pairs = outputs.lines().filter_map(|line| line.split_once('='));
        self.outputs.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        said
    }
}

/// With `${{ inputs.NAME }}` replaced.
fn expanded(text: &str, inputs: &BTreeMap<String, String>) -> String {
    let replace = |text: String, (name, value): (&String, &String)| {
        text.replace(&format!("${{{{ inputs.{name} }}}}"), value)
    };
    inputs.iter().fold(text.to_owned(), replace)
}

/// What an action is given, and what it takes for the rest. What it does not know is an error.
fn inputs(action: &Value, with: &Value) -> BTreeMap<String, String> {
    let declared = action["inputs"].as_object().unwrap();
    let given = with.as_object().unwrap();
    for name in given.keys() {
        assert!(declared.contains_key(name), "the action has no input `{name}`");
    }
    let value = |(name, input): (&String, &Value)| {
        let value = given.get(name).or(input.get("default")).unwrap_or_else(|| panic!("`{name}` is missing"));
        (name.clone(), value.as_str().unwrap().to_owned())
    };
    declared.iter().map(value).collect()
}

#[test]
fn the_action_annotates_summarises_and_ends_with_the_exit_code() {
    let action = yaml(&fs::read_to_string(root().join("action.yml")).unwrap());
    assert_eq!(action["runs"]["using"], "composite");
    let workflow = recipe("jobs");
    let steps = workflow["jobs"]["conformance"]["steps"].as_array().unwrap();
    let ours = steps.iter().position(|step| step["id"] == "layers").unwrap();
    let inputs = inputs(&action, &steps[ours]["with"]);
    let mut job = Job { place: Place::with_example("meson"), path: Vec::new(), outputs: BTreeMap::new() };
    job.step(&steps[ours - 1], &BTreeMap::new()).succeeds(&[]);

    let [install, build, judge] = &action["runs"]["steps"].as_array().unwrap()[..] else {
        panic!("{action}")
    };
    for step in [install, build, judge] {
        job.step(step, &inputs).succeeds(&[]);
    }
    assert_eq!(job.outputs["exit"], "0");
    assert!(fs::read_to_string(job.file("GITHUB_STEP_SUMMARY")).unwrap().contains("✅ layers: nbdkit "));
    let report = junit(&job.place, &job.outputs["junit"]);
    assert!(report.tests > 50 && report.failures + report.errors == 0, "{report:?}");
    for (name, output) in action["outputs"].as_object().unwrap() {
        assert_eq!(
            output["value"],
            format!("${{{{ steps.{}.outputs.{name} }}}}", judge["id"].as_str().unwrap())
        );
    }

    job.place.run("meson configure build -Dc_args=-DFORGETS_LAST_BYTE; meson compile -C build").succeeds(&[]);
    job.step(judge, &inputs).fails(&[
        "::error title=nbdkit ",
        "write.read-back::",
        "(nbdkit-plugin(3), \".pwrite\")",
    ]);
    assert_eq!(job.outputs["exit"], "1");
    assert!(
        fs::read_to_string(job.file("GITHUB_STEP_SUMMARY")).unwrap().contains("### fail `write.read-back`")
    );
}
