//! `layers validate haproxy -f CONFIG…`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::failure::Failure;
use super::output::output;
use super::relay::Relay;
use super::reports::{self, Course};
use super::settings::ValidateSettings;
use super::{bounds, haproxy_files};
use crate::baseline::Baseline;
use crate::foreign::pipe;
use crate::outcome::Exit;
use crate::report::Outcome;
use crate::server::interrupt;
use crate::server::process::become_subreaper;
use crate::validate::{Haproxy, Validation, haproxy};

/// What is HAProxy's alone of the options.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// HAProxy: its configuration; `{dir}` in it becomes a private directory, and what is bound elsewhere is left out; may be
    /// repeated
    #[arg(short = 'f', value_name = "CONFIG")]
    pub(super) configuration: Vec<PathBuf>,
    /// HAProxy: a module with keywords or services, which is preloaded; may be repeated
    #[arg(long = "module", value_name = "FILE")]
    modules: Vec<PathBuf>,
    /// HAProxy: only keywords that match; or the words of one with arguments behind them; may be repeated
    #[arg(long = "keyword", value_name = "PATTERN")]
    keywords: Vec<String>,
    /// HAProxy: a request that a service answers, such as 'GET /x' or 'GET FRONTEND/x'; may be repeated
    #[arg(long = "request", value_name = "REQUEST")]
    requests: Vec<String>,
}

impl Arguments {
    /// Something of it was given.
    pub(super) fn is_given(&self) -> bool {
        !(self.configuration.is_empty()
            && self.modules.is_empty()
            && self.keywords.is_empty()
            && self.requests.is_empty())
    }
}

/// What ends a run, and what is written then.
pub(super) struct Ends<'a> {
    /// At the first finding.
    pub(super) fail_fast: bool,
    /// The baseline that is to be written anew.
    pub(super) update: Option<&'a Path>,
}

/// Lists the checks, and the rules that a keyword or a service can break.
pub(super) fn list() -> Result<Exit, Failure> {
    let mut out = output();
    for check in haproxy::checks() {
        let (id, profile, statement) = (check.id, check.profile, check.statement);
        writeln!(out, "{id:<26} {:<9} {profile:<13} {statement}", check.level.word())?;
    }
    for rule in haproxy::rules() {
        writeln!(out, "{:<26} {:<9} {:<13} {}", rule.id, rule.kind, "rule", rule.statement)?;
    }
    Ok(Exit::Conformant)
}

/// Writes a baseline anew, after this run.
pub(super) fn write_baseline(path: &Path, known: &Baseline, validation: &Validation) -> Result<(), Failure> {
    pipe::write(path, known.updated(validation)).map_err(|error| {
        let shown = path.display();
        Failure::new(Exit::Usage, format!("cannot write the baseline `{shown}`: {error}"))
    })
}

pub(super) fn run(
    arguments: &Arguments,
    settings: &ValidateSettings,
    known: Baseline,
    ends: &Ends<'_>,
    course: &mut Course,
) -> Result<Exit, Failure> {
    if arguments.configuration.is_empty() {
        return Err(Failure::new(Exit::Usage, "name a configuration: `layers validate haproxy -f CONFIG`"));
    }
    if let Some(missing) = arguments.modules.iter().find(|path| !path.is_file()) {
        let what = format!("there is no module `{}`", missing.display());
        return Err(Failure::new(Exit::Unloadable, what));
    }
    let files = haproxy_files::texts(&arguments.configuration)?;
    let mut validate = Haproxy::new(files)
        .server(settings.server.as_deref().map(Path::to_owned))
        .modules(arguments.modules.iter().cloned())
        .keywords(arguments.keywords.iter().cloned())
        .requests(arguments.requests.iter().cloned())
        .only(settings.only.iter().cloned())
        .skip(settings.skip.iter().cloned())
        .deny(settings.deny.iter().cloned())
        .known(known.clone())
        .fail_fast(ends.fail_fast)
        .time(bounds::time(settings.time));
    if let Some(jobs) = settings.jobs {
        validate = validate.jobs(jobs);
    }
    if let Some(mib) = bounds::mib(settings.trace_room)? {
        validate = validate.trace_room(mib);
    }
    if let Some(level) = settings.level {
        validate = validate.level(level.into());
    }
    if let Some(seconds) = settings.timeout {
        validate = validate.timeout(Duration::from_secs(seconds.get()));
    }
    let reporters = course.open(&settings.report)?;
    become_subreaper()?;
    interrupt::report_on_signals();
    let mut relay = Relay::new(reporters, course.spoken());
    let validation = validate.run_telling(&mut relay)?;
    relay.each(|reporter| reporter.end(Outcome::Modules(&validation, &[])));
    let exit = validation.exit();
    let failed = ends.update.and_then(|path| write_baseline(path, &known, &validation).err());
    let unwritten = relay.finish(|reporter| reporter.close(exit));
    course.has_ended();
    reports::told(&settings.report, &unwritten)?;
    failed.map_or_else(|| Ok(reports::exit(exit, &unwritten)), Err)
}
