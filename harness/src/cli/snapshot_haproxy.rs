//! `layers snapshot haproxy -f CONFIG -- COMMANDS AND REQUESTS`.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use super::failure::Failure;
use super::output::output;
use super::settings::SnapshotSettings;
use super::{bounds, haproxy_files};
use crate::campaign::halt::Limit;
use crate::foreign::quoted::quoted;
use crate::outcome::Exit;
use crate::report::snapshot as report;
use crate::server::haproxy::Haproxy;
use crate::server::nbdkit::ServerError;
use crate::server::process::become_subreaper;
use crate::snapshot::{SessionsPlan, Store, compare_sessions};

/// What is HAProxy's alone of the options.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// HAProxy: its configuration; `{dir}` in it becomes a private directory, and what is bound elsewhere is left out; may be
    /// repeated
    #[arg(short = 'f', value_name = "CONFIG")]
    configuration: Vec<PathBuf>,
    /// HAProxy: a module with keywords or services of yours, which is preloaded; may be repeated
    #[arg(long = "module", value_name = "FILE")]
    modules: Vec<PathBuf>,
    /// HAProxy: commands and requests (`show info`, `GET /x`, `GET FRONTEND/x`), each with a stored tree and answer of its own
    #[arg(last = true, value_name = "COMMAND OR REQUEST")]
    asked: Vec<String>,
}

impl Arguments {
    /// Something of it was given.
    pub(super) fn is_given(&self) -> bool {
        !(self.configuration.is_empty() && self.modules.is_empty() && self.asked.is_empty())
    }
}

/// How it ends, and what is done with what differs.
pub(super) struct Wanted {
    pub(super) update: bool,
    pub(super) fail_fast: bool,
}

pub(super) fn run(
    arguments: &Arguments,
    settings: &SnapshotSettings,
    store: &Store,
    timeout: u64,
    wanted: &Wanted,
) -> Result<Exit, Failure> {
    if arguments.configuration.is_empty() || arguments.asked.is_empty() {
        let what =
            "name a configuration, and what is asked: `layers snapshot haproxy -f CONFIG -- 'COMMAND'...`";
        return Err(Failure::new(Exit::Usage, what));
    }
    if let Some(missing) = arguments.modules.iter().find(|path| !path.is_file()) {
        let what = format!("there is no module `{}`", missing.display());
        return Err(Failure::new(Exit::Unloadable, what));
    }
    let users = haproxy_files::configuration(&arguments.configuration)?;
    let asked = haproxy_files::asked(&users, &arguments.asked)?;
    become_subreaper()?;
    let server = Haproxy::find(settings.server.as_deref()).map_err(ServerError::from)?;
    let plan = SessionsPlan {
        server: &server,
        users: &users,
        modules: &arguments.modules,
        asked: &asked,
        words: &words(arguments),
        store,
        timeout: Duration::from_secs(settings.timeout.map_or(timeout, NonZeroU64::get)),
        limit: Limit::new(Some(bounds::time(settings.time))).failing_fast(wanted.fail_fast),
        room: bounds::records(settings.trace_room)?,
        update: wanted.update,
    };
    let mut out = output();
    report::begin_sessions(&mut out, &plan)?;
    let mut written = Ok(());
    let comparison = compare_sessions(&plan, &mut |one| {
        if written.is_ok() {
            written = report::scenario(&mut out, store, plan.update, one);
        }
    })?;
    written?;
    report::end(&mut out, &comparison)?;
    Ok(comparison.exit())
}

fn words(arguments: &Arguments) -> String {
    let files = arguments.configuration.iter().map(|file| format!("-f {}", quoted(file)));
    let modules = arguments.modules.iter().map(|file| format!("--module {}", quoted(file)));
    files.chain(modules).collect::<Vec<_>>().join(" ")
}

/// What the files of the trees are called: the first file of the configuration, without its folder and its ending.
pub(super) fn name(arguments: &Arguments) -> String {
    let stem = arguments.configuration.first().and_then(|file| file.file_stem()).unwrap_or_default();
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let stem: String = stem.to_string_lossy().chars().map(letter).collect();
    format!("haproxy-{stem}")
}
