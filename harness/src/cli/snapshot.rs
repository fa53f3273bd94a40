//! `layers snapshot`.

use std::io::Write;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use super::output::output;
use super::progress::Progress;
use super::settings::{SnapshotSettings, jobs};
use super::stack_args::StackArgs;
use super::{bounds, config, snapshot_haproxy};
use crate::campaign::halt::Limit;
use crate::foreign::visible::visible_line;
use crate::outcome::Exit;
use crate::report::snapshot as report;
use crate::run::stack::{Layers, Stack};
use crate::server::nbdkit::Nbdkit;
use crate::server::process::become_subreaper;
use crate::snapshot::{CompareError, ScenarioSelection, SnapshotPlan, Store, StoreError, compare};
use crate::validate::ValidateError;
use crate::validate::subject::{self, consent};

/// Where insta keeps the snapshots of tests in `tests/`.
const DIRECTORY: &str = "tests/snapshots";
/// Seconds for one run of one scenario.
const TIMEOUT: u64 = 10;

const ABOUT: &str = "\
Compare the calls of a stack with stored ones.

The stack is written as on nbdkit's own command line. Each scenario is played with it, and its tree of calls is held against
a file that `cargo insta` understands: NAME__SCENARIO.snap. What is new or differs is left beside it as .snap.new; --update
stores it instead. A tree is new, or another one, only if five runs agree on it.

For HAProxy each command and each request that stands behind -- is asked of a server with your configuration, and its tree of
calls is stored with what was answered.

Clients write to the disk of the stack. Where a parameter names storage of yours (a path, a device, an address), it is
therefore served read-only, unless --allow-writes is given. A layers.toml cannot give that leave.

Settings that are always wanted stand under [snapshot] in a layers.toml in the working directory or above it, under the
names of the options; what the command line says wins.";

#[derive(Debug, Args)]
#[command(
    long_about = ABOUT,
    override_usage = "layers snapshot [OPTIONS] [--filter=FILTER]... PLUGIN [KEY=VALUE]...\n       layers snapshot [OPTIONS] haproxy -f CONFIG [--module FILE]... -- COMMAND | 'GET [FRONTEND]/PATH'..."
)]
pub(super) struct Arguments {
    /// Store what is new or differs, and drop what is stale
    #[arg(long)]
    update: bool,
    /// Compare no more than up to the first difference
    #[arg(long, conflicts_with = "update")]
    fail_fast: bool,
    #[command(flatten)]
    settings: SnapshotSettings,
    #[command(flatten)]
    config: config::Arguments,
    /// Write to storage of yours that a parameter names, and so destroy what is there
    #[arg(long)]
    allow_writes: bool,
    #[command(flatten)]
    words: StackArgs,
    #[command(flatten)]
    haproxy: snapshot_haproxy::Arguments,
}

impl SnapshotSettings {
    fn store(&self, name: impl FnOnce() -> String) -> Result<Store, StoreError> {
        let directory = self.dir.clone().unwrap_or_else(|| DIRECTORY.into());
        Store::new(directory, self.name.clone().unwrap_or_else(name))
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let config = arguments.config.load()?;
    let settings = arguments.settings.clone().or(config.snapshot.clone());
    if arguments.config.show_config {
        write!(output(), "{}", config.show("snapshot", &settings)?)?;
        return Ok(Exit::Conformant);
    }
    if arguments.words.plugin.first().is_some_and(|word| word == "haproxy") {
        let store = settings.store(|| snapshot_haproxy::name(&arguments.haproxy))?;
        let wanted = snapshot_haproxy::Wanted { update: arguments.update, fail_fast: arguments.fail_fast };
        return snapshot_haproxy::run(&arguments.haproxy, &settings, &store, TIMEOUT, &wanted);
    }
    if arguments.haproxy.is_given() {
        let what =
            "-f, --module and what stands behind -- are for HAProxy: `layers snapshot haproxy -f CONFIG`";
        return Err(Failure::new(Exit::Usage, what));
    }
    let mut stack = arguments.words.stack("name a plugin: `layers snapshot --help`")?;
    if let Some(parameter) = consent::first_overwritten(&stack).filter(|_| !arguments.allow_writes) {
        return Err(ValidateError::Overwritten(parameter).into());
    }
    let spared = consent::first_storage(&stack).filter(|_| !arguments.allow_writes && !stack.readonly);
    stack.readonly |= spared.is_some();
    let usage = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, error);
    let store = settings.store(|| name(&stack))?;
    let selection = ScenarioSelection::new(&stack, &store, &settings.only, &settings.skip)
        .map_err(|error| usage(&error))?;
    become_subreaper()?;
    let server = Nbdkit::find(settings.server.as_deref())?;
    let several = subject::consent::keeps_to_itself(&stack).then(|| jobs(None));
    let plan = SnapshotPlan {
        server: &server,
        stack: &stack,
        selection: &selection,
        store: &store,
        timeout: Duration::from_secs(settings.timeout.map_or(TIMEOUT, NonZeroU64::get)),
        jobs: settings.jobs.or(several).unwrap_or(NonZeroUsize::MIN),
        limit: Limit::new(Some(bounds::time(settings.time))).failing_fast(arguments.fail_fast),
        room: bounds::records(settings.trace_room)?,
        update: arguments.update,
    };
    let mut out = output();
    if let Some(from) = config.path() {
        writeln!(out, "settings: {}", visible_line(&from.to_string_lossy()))?;
    }
    report::begin(&mut out, &plan, spared.as_deref())?;
    let (mut written, progress, mut done) = (Ok(()), Progress::new(), 0);
    let comparison = compare(&plan, &mut |one| {
        progress.clear();
        if written.is_ok() {
            written = report::scenario(&mut out, &store, plan.update, one);
        }
        done += 1;
        progress.show(done, selection.scenarios.len(), &one.scenario);
    })?;
    progress.clear();
    written?;
    report::end(&mut out, &comparison)?;
    Ok(comparison.exit())
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::new(Exit::Usage, error)
    }
}

impl From<CompareError> for Failure {
    fn from(error: CompareError) -> Failure {
        match error {
            CompareError::Server(error) => error.into(),
            CompareError::Store(error) => error.into(),
            CompareError::NotStarted { .. } => Failure::new(Exit::Unloadable, error),
        }
    }
}

/// The filters, outermost first, and the plugin, each without its folder and its ending.
fn name(stack: &Stack) -> String {
    let Layers::Wrapped { filters, plugin } = &stack.layers else { return String::new() };
    let short = |word: &String| {
        let file = word.rsplit('/').next().unwrap_or(word);
        let stem = file.split('.').next().unwrap_or(file);
        let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        stem.chars().map(letter).collect::<String>()
    };
    filters.iter().chain([plugin]).map(short).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_named_after_its_layers() {
        let named = |filters: &[&str], plugin: &str| {
            let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
            name(&Stack {
                layers: Layers::Wrapped { filters, plugin: plugin.to_owned() },
                ..Stack::default()
            })
        };
        assert_eq!(named(&[], "memory"), "memory");
        assert_eq!(named(&["./build/my_filter.so", "cow"], "/usr/lib/x.so.1"), "my-filter-cow-x");
    }
}
