//! One case as a file: a readable scenario that `layers repro` replays.

pub mod intent;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::foreign::bounded;
use crate::rules;
use crate::run::Start;
use crate::run::parameter::{parameter, parameter_text};
use crate::run::stack::{Layers, MOST_THREADS, Stack};
use crate::server::nbdkit::Conditions;
use crate::validate::checks;
use crate::validate::checks::check::{CasePlan, ServerOutcome, Twist};
use crate::validate::script::op::Op;

/// Version of the format.
pub const FORMAT: u32 = 2;

/// Bytes of one word of a command line, at most (execve(2), "Limits on size of arguments").
const MOST_WORD: usize = 128 << 10;

/// Says why no program can be given this word.
fn not_a_word(word: String) -> Option<String> {
    match word.len() < MOST_WORD {
        true => word.contains('\0').then(|| "a word of its command line has a NUL in it".to_owned()),
        false => Some(format!("a word of its command line has {} bytes", word.len())),
    }
}

/// One case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repro {
    /// Version of the format.
    pub layers_repro: u32,
    /// The check or rule that it breaks.
    pub check: String,
    /// What was expected, for the reader.
    pub expected: String,
    /// What came instead, for the reader.
    pub actual: String,
    /// Number that the data of the case begins from.
    pub seed: u64,
    /// MiB of memory that the server may use.
    pub memory: u64,
    /// How the server is made to serve.
    pub start: Start,
    /// What the server runs under.
    #[serde(default)]
    pub conditions: Conditions,
    /// What must become of it.
    pub outcome: ServerOutcome,
    /// What the clients do.
    pub script: Vec<Op>,
    /// Where it was played: what relative paths are relative to, as long as it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Layers, with their behaviours, parameters and options.
    pub stack: Stack,
}

/// Why a file is no case.
#[derive(Debug, thiserror::Error)]
pub enum ReproError {
    /// It cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is something else.
    #[error("`{}` is not a case that layers has written: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where, and what.
        source: serde_json::Error,
    },
    /// Written by another version.
    #[error("`{}` is a case of format {found}, and this program reads format {FORMAT}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u64,
    },
    /// A number in it is of no use.
    #[error("`{}` is no case that can be played: {what}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Which number, and what it may be.
        what: String,
    },
    /// Of a check that this program has not.
    #[error("`{}` is a case of `{check}`, which is neither a check nor a rule: see `layers rules`", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What it says.
        check: String,
    },
}

impl Repro {
    /// The same case, with the directory that its paths are relative to.
    #[must_use]
    pub fn played_in(&self, directory: &Path) -> Repro {
        Repro { directory: Some(directory.to_owned()), ..self.clone() }
    }

    /// The plan of this case: its stack is complete already.
    pub fn plan(&self) -> CasePlan {
        CasePlan {
            twist: Twist::None,
            start: self.start,
            conditions: self.conditions,
            script: self.script.clone(),
            outcome: self.outcome,
            compares: false,
        }
    }

    /// Says what no server can be given.
    fn unfit(&self) -> Option<String> {
        let threads = self.stack.threads.filter(|threads| *threads > MOST_THREADS);
        let threads = threads.map(|threads| format!("`threads` is {threads}, and {MOST_THREADS} at most"));
        let memory = || (self.memory == 0).then(|| "`memory` is 0, and at least 1 MiB".to_owned());
        threads.or_else(memory).or_else(|| self.words().find_map(not_a_word))
    }

    /// What goes to the command line of the server.
    fn words(&self) -> impl Iterator<Item = String> {
        let (filters, plugin) = match &self.stack.layers {
            Layers::Wrapped { filters, plugin } => (filters.clone(), Some(plugin.clone())),
            Layers::Over { filters, .. } => (filters.clone(), None),
            Layers::Reference(_) => (Vec::new(), None),
        };
        let parameters: Vec<String> = self.stack.parameters.iter().map(parameter_text).collect();
        let arguments = self.stack.arguments.clone();
        filters.into_iter().chain(plugin).chain(parameters).chain(arguments)
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Repro, ReproError> {
        let named = || path.to_owned();
        let text = bounded::text(path).map_err(|source| ReproError::Read { path: named(), source })?;
        let json = |source| ReproError::Json { path: named(), source };
        let value: serde_json::Value = serde_json::from_str(&text).map_err(json)?;
        let found = value.get("layers_repro").and_then(serde_json::Value::as_u64);
        if let Some(found) = found.filter(|found| *found != u64::from(FORMAT)) {
            return Err(ReproError::Version { path: named(), found });
        }
        // Read once more, for the place of a mistake.
        let mut repro: Repro = serde_json::from_str(&text).map_err(json)?;
        // As the server will read its command line, however the file has taken the words apart.
        for one in &mut repro.stack.parameters {
            *one = parameter(&parameter_text(one));
        }
        if checks::find(&repro.check).is_none() && rules::find(&repro.check).is_none() {
            return Err(ReproError::Unknown { path: named(), check: repro.check });
        }
        match repro.unfit() {
            Some(what) => Err(ReproError::Unfit { path: named(), what }),
            None => Ok(repro),
        }
    }

    /// Writes it into this directory, which is made if it is not there; gives the file.
    pub fn write(&self, directory: &Path, name: &str) -> std::io::Result<PathBuf> {
        std::fs::create_dir_all(directory)?;
        let path = directory.join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::other)?;
        std::fs::write(&path, text + "\n")?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_reads_back_as_written_and_a_misspelt_key_is_an_error_with_its_place() {
        let repro = Repro {
            layers_repro: FORMAT,
            check: "write.last-wins".to_owned(),
            expected: "x".to_owned(),
            actual: "y".to_owned(),
            seed: 7,
            memory: 64,
            start: Start::Foreground,
            conditions: Conditions::default(),
            outcome: ServerOutcome::Serves,
            script: vec![Op::Connect(1, String::new()), Op::Judge],
            directory: Some(PathBuf::from("/here")),
            stack: Stack::reference(1),
        };
        let directory = tempfile::tempdir().unwrap();
        let path = repro.write(directory.path(), "case").unwrap();
        assert_eq!(Repro::read(&path).unwrap(), repro);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"outcome\"", "\"outcame\"")).unwrap();
        let error = Repro::read(&path).unwrap_err().to_string();
        assert!(error.contains("outcame") && error.contains("line"), "{error}");
        std::fs::write(&path, text.replace("\"layers_repro\": 2", "\"layers_repro\": 3")).unwrap();
        assert!(Repro::read(&path).unwrap_err().to_string().contains("format 3"));
        std::fs::write(&path, text.replace("write.last-wins", "write.nothing")).unwrap();
        let error = Repro::read(&path).unwrap_err().to_string();
        assert!(error.contains("`write.nothing`, which is neither a check nor a rule"), "{error}");
    }
}
