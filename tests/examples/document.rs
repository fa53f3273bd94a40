//! What documents show: the blocks of code between fences, and what is in them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::fences::{Fence, fences};

/// The root of this repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The fences of a Markdown file of this repository, in their order.
pub(crate) fn blocks(path: &str) -> Vec<Fence> {
    fences(&std::fs::read_to_string(root().join(path)).unwrap())
}

/// Those of the blocks that a shell runs.
pub(crate) fn commands(path: &str) -> Vec<String> {
    blocks(path).into_iter().filter(|block| block.language == "sh").map(|block| block.body).collect()
}

/// What stands in YAML, as Python reads it.
pub(crate) fn yaml(text: &str) -> Value {
    let convert = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)";
    let mut python = Command::new("python3");
    let mut python =
        python.args(["-c", convert]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "no YAML, or no python3-yaml:\n{text}");
    serde_json::from_slice(&output.stdout).unwrap()
}
