//! `layers validate`.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::Failure;
use crate::report::validation;
use crate::server::process::become_subreaper;
use crate::stack::{Layers, Stack};
use crate::validate::{Level, Validate, ValidateError, Validation, checks, module_rules, subject};
use crate::verdict::Exit;

const ABOUT: &str = "\
Judge somebody's plugin and filters.

The subject is written as on nbdkit's own command line, and runs in servers of its own, never in this process. What it
does not claim is not asked of it, and is reported as not claimed.

Checks write to the disk of the subject. Where a parameter names storage of yours (a path, a device, an address), the
subject is opened read-only and what needs writing is skipped, unless --allow-writes is given: then everything on that
storage may be destroyed. Findings are written as cases for `layers repro` into the directory of --repro.";

#[derive(Debug, Args)]
#[command(
    long_about = ABOUT,
    override_usage = "layers validate [OPTIONS] [--filter=FILTER]... PLUGIN [KEY=VALUE]...\n       layers validate --list"
)]
pub(super) struct Arguments {
    /// List the checks, and the rules that judge plugins and filters
    #[arg(long, exclusive = true)]
    list: bool,
    /// The server program, if it is not the one on the PATH
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Only checks and rules with a matching id; `*` stands for any text; may be repeated
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,
    /// No checks and rules with a matching id
    #[arg(long, value_name = "PATTERN")]
    skip: Vec<String>,
    /// How much to ask: must, should or pedantic
    #[arg(long, value_name = "LEVEL", default_value = "should", value_parser = level)]
    level: Level,
    /// Write to storage of yours that a parameter names, and so destroy what is there
    #[arg(long)]
    allow_writes: bool,
    /// Cases played at a time [default: one for each CPU]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Seconds that one case may take
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// MiB of memory that a server may use
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = clap::value_parser!(u64).range(16..))]
    memory: u64,
    /// Number that all written data begins from
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Directory for the cases of findings; made when there is one
    #[arg(long, value_name = "DIRECTORY", default_value = "layers-repro")]
    repro: PathBuf,
    /// A filter (name or path), outermost first; may be repeated
    #[arg(long = "filter", value_name = "FILTER")]
    filters: Vec<String>,
    /// Serve read-only
    #[arg(short, long)]
    readonly: bool,
    /// Worker threads for each connection
    #[arg(short, long, value_name = "NUMBER")]
    threads: Option<u32>,
    /// A debug flag of the server or a layer, as nbdkit takes it; may be repeated
    #[arg(short = 'D', long = "debug", value_name = "LAYER.FLAG=N")]
    debug: Vec<String>,
    /// One more argument for the server, as it is; may be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    server_arg: Vec<String>,
    /// The plugin (name or path) and its parameters
    #[arg(value_name = "PLUGIN", num_args = 0..)]
    plugin: Vec<String>,
}

fn level(word: &str) -> Result<Level, String> {
    [Level::Must, Level::Should, Level::Pedantic]
        .into_iter()
        .find(|level| level.word() == word)
        .ok_or_else(|| "it is must, should or pedantic".to_owned())
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    if arguments.list {
        return list();
    }
    let stack = stack(arguments)?;
    become_subreaper()?;
    let mut validate = Validate::stack(stack)
        .only(arguments.only.iter().cloned())
        .skip(arguments.skip.iter().cloned())
        .level(arguments.level)
        .allow_writes(arguments.allow_writes)
        .timeout(Duration::from_secs(arguments.timeout))
        .memory(arguments.memory << 20)
        .jobs(super::jobs(arguments.jobs))
        .seed(arguments.seed);
    if let Some(server) = &arguments.server {
        validate = validate.server(server);
    }
    let validation = validate.run()?;
    let files = write_cases(&validation, &arguments.repro)?;
    validation::write(&mut anstream::stdout().lock(), &validation, &files)?;
    Ok(validation.exit())
}

impl From<ValidateError> for Failure {
    fn from(error: ValidateError) -> Failure {
        match error {
            ValidateError::Server(error) => error.into(),
            ValidateError::NoMatch(_) => Failure::new(Exit::Usage, error),
        }
    }
}

fn list() -> Result<Exit, Failure> {
    let mut out = anstream::stdout().lock();
    for check in checks::all() {
        let (id, profile, statement) = (check.id, check.profile, check.statement);
        writeln!(out, "{id:<26} {:<9} {profile:<13} {statement}", check.level.word())?;
    }
    for rule in module_rules() {
        writeln!(out, "{:<26} {:<9} {:<13} {}", rule.id, rule.kind, "rule", rule.statement)?;
    }
    Ok(Exit::Conformant)
}

fn stack(arguments: &Arguments) -> Result<Stack, Failure> {
    let named = arguments.plugin.first().is_some_and(|word| word == "nbdkit");
    let mut words = arguments.plugin.iter().skip(usize::from(named));
    let plugin = words.next().cloned();
    let plugin =
        plugin.ok_or_else(|| Failure::new(Exit::Usage, "name a plugin: `layers validate --help`"))?;
    let debug = arguments.debug.iter().flat_map(|flag| ["-D".to_owned(), flag.clone()]);
    Ok(Stack {
        layers: Layers::Wrapped { filters: arguments.filters.clone(), plugin },
        parameters: words.map(|word| subject::parameter(word)).collect(),
        readonly: arguments.readonly,
        threads: arguments.threads,
        arguments: debug.chain(arguments.server_arg.iter().cloned()).collect(),
        ..Stack::default()
    })
}

/// A file for each finding.
fn write_cases(validation: &Validation, directory: &Path) -> Result<Vec<Option<PathBuf>>, Failure> {
    let mut names: Vec<&str> = Vec::new();
    let mut files = Vec::new();
    for finding in validation.findings() {
        names.push(finding.id);
        let number = names.iter().filter(|name| **name == finding.id).count();
        let name = if number == 1 { finding.id.to_owned() } else { format!("{}-{number}", finding.id) };
        let written = finding.repro.write(directory, &name).map_err(|error| {
            Failure::new(Exit::Usage, format!("cannot write to `{}` (--repro): {error}", directory.display()))
        })?;
        files.push(Some(written));
    }
    Ok(files)
}
