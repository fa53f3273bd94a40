//! `layers completions` and `layers man`: what packagers install beside the command, made from its own definition.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man as Page;

use super::failure::Failure;
use super::output::output;
use crate::outcome::Exit;

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell that they are for
    shell: Shell,
}

/// Prints them.
pub(super) fn completions(arguments: &Completions, mut command: Command) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "layers", &mut script);
    output().write_all(&script)?;
    Ok(Exit::Conformant)
}

#[derive(Debug, Args)]
pub(super) struct Man {
    /// The directory to write layers(1), layers-validate(1) and the others into
    directory: PathBuf,
}

/// Writes them.
pub(super) fn man(arguments: &Man, command: Command) -> Result<Exit, Failure> {
    let directory = &arguments.directory;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let written = std::fs::create_dir_all(directory).and_then(|()| pages(&command, directory));
    written.map_err(|error| {
        Failure::new(Exit::Usage, format!("cannot write to `{}`: {error}", directory.display()))
    })?;
    Ok(Exit::Conformant)
}

/// Of a command and all below it. Each names the version, which clap has of the topmost only.
fn pages(command: &Command, directory: &Path) -> io::Result<()> {
    let source = concat!("layers ", env!("CARGO_PKG_VERSION"));
    Page::new(command.clone()).source(source).generate_to(directory)?;
    command.get_subcommands().filter(|one| !one.is_hide_set()).try_for_each(|one| pages(one, directory))
}
