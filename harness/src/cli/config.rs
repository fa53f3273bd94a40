//! `layers.toml`: what is always wanted in a directory and below. What stands on the command line wins.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::failure::{Failure, working_directory};
use super::reports::Opened;
use super::settings::{ConformSettings, SnapshotSettings, ValidateSettings};
use crate::foreign::bounded;
use crate::foreign::trust;
use crate::foreign::visible::visible_line;
use crate::outcome::Exit;
use crate::report::Format;

/// Its name.
const NAME: &str = "layers.toml";

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// Settings, in place of the layers.toml that is found in the working directory or above it
    #[arg(long, value_name = "FILE", conflicts_with = "no_config")]
    config: Option<PathBuf>,
    /// Read no layers.toml
    #[arg(long)]
    no_config: bool,
    /// Print the settings that are in force, and where they come from, and do nothing else
    #[arg(long)]
    pub(super) show_config: bool,
}

/// What such a file holds: a table for each command that reads it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Config {
    /// Where it was found.
    #[serde(skip)]
    path: Option<PathBuf>,
    pub(super) validate: ValidateSettings,
    pub(super) conform: ConformSettings,
    pub(super) snapshot: SnapshotSettings,
}

impl Arguments {
    /// The file that was named, or the nearest one above the working directory, or nothing.
    pub(super) fn load(&self) -> Result<Config, Failure> {
        let found = match &self.config {
            Some(path) => Some(path.clone()),
            None if self.no_config => None,
            None => {
                let here = working_directory()?;
                // A link that leads nowhere is one as well: nothing is left aside without a word.
                let is_there = |path: &PathBuf| path.symlink_metadata().is_ok();
                let found = here.ancestors().map(|above| above.join(NAME)).find(is_there);
                let Some(path) = found else { return Ok(Config::default()) };
                // What nobody has named is read only where nobody else can have put it.
                trusted(&path)?;
                return Config::read(&path, bounded::found_text(&path));
            }
        };
        found.map_or_else(|| Ok(Config::default()), |path| Config::read(&path, bounded::text(&path)))
    }

    /// Makes sure that only this user or root can have written a file that settings name which nobody has named.
    pub(super) fn trust(&self, named: &Path) -> Result<(), Failure> {
        if self.config.is_some() || !named.exists() {
            return Ok(());
        }
        undoubted(named, |shown, why| {
            format!(
                "`{shown}`, which {NAME} names, is not read, because {why}: name it on the command line, or {NAME} with --config"
            )
        })
    }
}

impl Config {
    fn read(path: &Path, text: io::Result<String>) -> Result<Config, Failure> {
        let usage = |what: String| Failure::new(Exit::Usage, format!("{}{what}", path.display()));
        let text = text.map_err(|error| usage(format!(": cannot read it: {error}")))?;
        Config::parse(&text, path)
    }

    /// Reads the text of the file at `path`.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Config, Failure> {
        let mut config: Config = toml::from_str(text).map_err(|error| {
            let (line, column) = place(text, error.span().unwrap_or_default().start);
            let shown = path.display();
            Failure::new(Exit::Usage, format!("{shown}:{line}:{column}: {}", error.message()))
        })?;
        let directory = path.parent().unwrap_or(Path::new("."));
        config.validate.relative_to(directory);
        config.conform.relative_to(directory);
        config.snapshot.relative_to(directory);
        config.path = Some(path.to_owned());
        Ok(config)
    }

    /// Returns the file that the settings come from, if they come from one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Begins every report for people with where the settings come from, if they come from a file; true if they do.
    pub(super) fn announce(&self, reports: &mut [Opened]) -> io::Result<bool> {
        let Some(path) = &self.path else { return Ok(false) };
        for (_, to, _) in reports.iter_mut().filter(|(format, ..)| *format == Format::Human) {
            writeln!(to, "settings: {}", visible_line(&path.to_string_lossy()))?;
        }
        Ok(true)
    }

    /// These settings as the file would have them.
    pub(super) fn show(&self, command: &str, settings: &impl Serialize) -> Result<String, Failure> {
        let text = toml::to_string(&BTreeMap::from([(command, settings)]))
            .map_err(|error| Failure::new(Exit::Harness, error))?;
        let from = self.path.as_ref().map_or("no layers.toml".to_owned(), |path| path.display().to_string());
        Ok(format!("# from the command line and {from}\n{text}"))
    }
}

/// Makes sure that only this user or root can have written the settings that were found.
fn trusted(path: &Path) -> Result<(), Failure> {
    undoubted(path, |shown, why| {
        format!(
            "the settings in `{shown}` are not read, because {why}: name them with --config {shown}, or leave them aside with --no-config"
        )
    })
}

/// Makes sure that only this user or root can have written a file; else says so with what it is and why.
fn undoubted(path: &Path, says: impl FnOnce(&str, &str) -> String) -> Result<(), Failure> {
    let shown = path.display().to_string();
    let usage = |what: String| Failure::new(Exit::Usage, what);
    let doubt = trust::doubt(path).map_err(|error| usage(format!("{shown}: {error}")))?;
    doubt.map_or(Ok(()), |why| Err(usage(says(&shown, &why))))
}

/// Line and column, from 1, of a byte.
fn place(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one() {
        assert_eq!(place("ab\ncd", 0), (1, 1));
        assert_eq!(place("ab\ncd", 4), (2, 2));
        assert_eq!(place("", 7), (1, 1));
    }
}
