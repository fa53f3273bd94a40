//! `layers validate`.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::failure::{Failure, working_directory};
use super::output::{complain, output};
use super::relay::Relay;
use super::reports::{self, Course};
use super::sets::{self, OfAll, Set};
use super::settings::{ValidateSettings, jobs};
use super::stack_args::StackArgs;
use super::{bounds, config, validate_haproxy};
use crate::baseline::{Baseline, BaselineError};
use crate::campaign::halt::{Halt, Limit};
use crate::outcome::Exit;
use crate::report::ndjson::validate::failed;
use crate::report::{Begun, Format, Outcome};
use crate::run::stack::Stack;
use crate::server::interrupt;
use crate::server::process::become_subreaper;
use crate::validate::{
    self, Listener, ModuleCheck, Subject, Validate, ValidateError, Validation, checks, module_rules, subject,
};

const ABOUT: &str = "\
Judge somebody's plugin and filters.

The subject is written as on nbdkit's own command line, and runs in servers of its own, never in this process. What it
does not claim is not asked of it, and is reported as not claimed.

Checks write to the disk of the subject, and destroy what is on it. A regular file that a parameter names, also one of a
filter's, is therefore copied for each case, with its holes, and the copy is judged. Where a parameter may name other storage
(a directory, a device, an image over another one, a host, a bucket: any value that is no number, size or boolean and no
keyword of a module of nbdkit's own), the subject is opened read-only and what needs writing is skipped, unless
--allow-writes is given: then nothing is copied, and everything on that storage may be lost. A layers.toml cannot give that
leave. The script of sh, eval, python and their like is what is judged, and what it writes to is its own business.

The case of each finding is written to a file for `layers repro`, into a directory for temporary files or that of --repro.

A layers.toml may hold several sets of parameters, each as a table [[validate.set]] with a name and any of parameters,
filters, readonly, claims and expected: the subject of the command line is judged with each of them, in one run with one report and
one exit code.

Settings that are always wanted stand under [validate] in a layers.toml in the working directory or above it, under the
names of the options; what the command line says wins.";

#[derive(Debug, Args)]
#[command(
    long_about = ABOUT,
    override_usage = "layers validate [OPTIONS] [--filter=FILTER]... PLUGIN [KEY=VALUE]...\n       layers validate [OPTIONS] haproxy -f CONFIG [--module FILE]... [--keyword PATTERN]... [--request 'GET [FRONTEND]/PATH']...\n       layers validate --list [haproxy]"
)]
pub(super) struct Arguments {
    /// List the checks, and the rules that judge plugins and filters; with `haproxy` those for keywords and services
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    settings: ValidateSettings,
    #[command(flatten)]
    config: config::Arguments,
    /// Write to storage of yours that a parameter names, and so destroy what is there
    #[arg(long)]
    allow_writes: bool,
    /// Write the baseline anew, without what is stale and with what is new, for you to say why
    #[arg(long)]
    update_baseline: bool,
    /// End the run at the first finding that counts
    #[arg(long, conflicts_with = "update_baseline")]
    fail_fast: bool,
    /// Only the set of parameters of this name in layers.toml; may be repeated
    #[arg(long = "set", value_name = "NAME")]
    sets: Vec<String>,
    #[command(flatten)]
    haproxy: validate_haproxy::Arguments,
    #[command(flatten)]
    words: StackArgs,
}

impl ValidateSettings {
    fn apply(&self, mut validate: Validate) -> Result<Validate, Failure> {
        if let Some(server) = &self.server {
            validate = validate.server(&**server);
        }
        if let Some(level) = self.level {
            validate = validate.level(level.into());
        }
        if let Some(timeout) = self.timeout {
            validate = validate.timeout(Duration::from_secs(timeout.get()));
        }
        validate = validate.time(bounds::time(self.time));
        if let Some(mib) = bounds::mib(self.trace_room)? {
            validate = validate.trace_room(mib);
        }
        if let Some(memory) = self.memory {
            let bytes = memory.checked_mul(1 << 20).filter(|_| memory >= 16);
            let wrong =
                || Failure::new(Exit::Usage, format!("a server cannot do with {memory} MiB (--memory)"));
            validate = validate.memory(bytes.ok_or_else(wrong)?);
        }
        if let Some(limit) = self.copy_limit {
            validate = validate.copy_limit(limit.saturating_mul(1 << 20));
        }
        if let Some(seed) = self.seed {
            validate = validate.seed(seed);
        }
        if let Some(under) = self.under {
            validate = validate.under(under);
        }
        let validate = validate.claims(self.claims.iter().copied()).expect(self.expected.iter().cloned());
        let lists = validate.only(self.only.iter().cloned()).skip(self.skip.iter().cloned());
        Ok(lists.deny(self.deny.iter().cloned()))
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let of_haproxy = arguments.words.plugin.first().is_some_and(|word| word == "haproxy");
    if arguments.list {
        return if of_haproxy { validate_haproxy::list() } else { list() };
    }
    let mut course = Course::new(&arguments.settings.report);
    judged(arguments, &mut course).inspect_err(|failure| course.failed(failure, failed))
}

fn judged(arguments: &Arguments, course: &mut Course) -> Result<Exit, Failure> {
    // What relative names mean: a module that is not found for the want of it is not at fault.
    working_directory()?;
    let config = arguments.config.load()?;
    let settings = arguments.settings.clone().or(config.validate.clone());
    if arguments.config.show_config {
        write!(output(), "{}", config.show("validate", &settings)?)?;
        return Ok(Exit::Conformant);
    }
    if arguments.words.plugin.first().is_some_and(|word| word == "haproxy") {
        only_of_nbdkit(arguments)?;
        let known = known(arguments, &settings, validate::haproxy::load_known)?;
        let ends = validate_haproxy::Ends {
            fail_fast: arguments.fail_fast,
            update: settings.baseline.as_deref().filter(|_| arguments.update_baseline),
        };
        return validate_haproxy::run(&arguments.haproxy, &settings, known, &ends, course);
    }
    if arguments.haproxy.is_given() {
        let what =
            "-f, --module, --keyword and --request are for HAProxy: `layers validate haproxy -f CONFIG`";
        return Err(Failure::new(Exit::Usage, what));
    }
    let known = known(arguments, &settings, Baseline::load_of_modules)?;
    let stack = arguments.words.stack("name a plugin: `layers validate --help`")?;
    let chosen = sets::chosen(&settings.set, &arguments.sets)?;
    if arguments.update_baseline && chosen.len() > 1 {
        let what = "--update-baseline writes what one set of parameters shows: choose one with --set";
        return Err(Failure::new(Exit::Usage, what));
    }
    let mut reporters = course.open(&settings.report)?;
    course.spoken().set(config.announce(&mut reporters)?);
    become_subreaper()?;
    interrupt::report_on_signals();
    let mut relay = Relay::new(reporters, course.spoken());
    let limit = Limit::new(Some(bounds::time(settings.time))).failing_fast(arguments.fail_fast);
    let (mut judged, mut failed, mut broken_off) = (Vec::new(), None, None);
    let (mut of_all, count) = (OfAll::default(), chosen.len().max(1));
    for index in 0..count {
        let set = chosen.get(index).copied();
        let stack = set.map_or_else(|| stack.clone(), |set| set.of(&stack));
        let validate = prepared(arguments, &settings, stack, set)?.known(known.clone()).within(limit);
        let mut validation = match validate.run_telling(&mut relay) {
            Ok(validation) => validation,
            // What the sets before it have shown is told all the same.
            Err(error) if !judged.is_empty() => {
                broken_off = Some(Failure::from(error));
                break;
            }
            Err(error) => return Err(error.into()),
        };
        of_all.hear(&mut validation, index + 1 == count);
        let (files, unkept) = tell(&mut relay, &validation, &settings);
        failed = failed.or(unkept);
        if let Some(path) = settings.baseline.as_deref().filter(|_| arguments.update_baseline) {
            failed = failed.or(validate_haproxy::write_baseline(path, &known, &validation).err());
        }
        judged.push((validation, files));
        if interrupt::told_to_stop().is_some() || limit.reached() == Some(Halt::Found) {
            break;
        }
    }
    let exits = judged.iter().map(|(validation, _)| validation.exit());
    let exit = Exit::of(exits.chain(broken_off.as_ref().map(|failure| failure.exit)));
    let unwritten = relay.finish(|reporter| reporter.close(exit));
    course.has_ended();
    if !reports::told(&settings.report, &unwritten)? {
        // Whoever started the command is told what was found, whatever became of the reports.
        let mut human = Format::Human.reporter(anstream::stderr());
        judged.iter().try_for_each(|(validation, files)| human.end(Outcome::Modules(validation, files)))?;
        human.close(exit)?;
    }
    broken_off.or(failed).map_or_else(|| Ok(reports::exit(exit, &unwritten)), Err)
}

/// The subject with one of its sets of parameters, ready to be judged.
fn prepared(
    arguments: &Arguments,
    settings: &ValidateSettings,
    stack: Stack,
    set: Option<&Set>,
) -> Result<Validate, Failure> {
    let several = subject::consent::keeps_to_itself(&stack).then(|| jobs(None));
    let jobs = settings.jobs.or(several).unwrap_or(NonZeroUsize::MIN);
    let mut validate =
        settings.apply(Validate::stack(stack))?.allow_writes(arguments.allow_writes).jobs(jobs);
    if let Some(set) = set {
        validate =
            validate.set(&set.name).claims(set.claims.iter().copied()).expect(set.expected.iter().cloned());
    }
    Ok(validate.keep_events(reports::room_for_events(&settings.report)))
}

/// Tells what was found, and writes its cases: gives their files, and why the run fails, if it does because they cannot be
/// written where they were asked for.
fn tell(
    relay: &mut Relay,
    validation: &Validation,
    settings: &ValidateSettings,
) -> (Vec<PathBuf>, Option<Failure>) {
    // What was found is told, whether or not it can be kept.
    let (files, unkept) = match write_cases(validation, settings.repro.as_deref()) {
        Ok(files) => (files, None),
        Err(failure) => (Vec::new(), Some(failure)),
    };
    relay.each(|reporter| reporter.end(Outcome::Modules(validation, &files)));
    match unkept {
        Some(failure) if settings.repro.is_none() => {
            complain(&failure.message);
            (files, None)
        }
        unkept => (files, unkept),
    }
}

impl From<ValidateError> for Failure {
    fn from(error: ValidateError) -> Failure {
        match error {
            ValidateError::Server(error) => error.into(),
            ValidateError::NoMatch { .. } | ValidateError::Overwritten(_) => Failure::new(Exit::Usage, error),
        }
    }
}

impl Listener for Relay {
    fn begins(&mut self, subject: &Subject) {
        self.each(|reporter| reporter.begin(Begun::Modules(subject)));
    }

    fn playing(&mut self, done: usize, all: usize, check: &'static ModuleCheck) {
        self.each(|reporter| reporter.playing(done, all, check));
        self.progress(done, all, check.id);
    }
}

fn list() -> Result<Exit, Failure> {
    let mut out = output();
    for check in checks::all() {
        let (id, profile, statement) = (check.id, check.profile, check.statement);
        writeln!(out, "{id:<26} {:<9} {profile:<13} {statement}", check.level.word())?;
    }
    for rule in module_rules() {
        writeln!(out, "{:<26} {:<9} {:<13} {}", rule.id, rule.kind, "rule", rule.statement)?;
    }
    Ok(Exit::Conformant)
}

/// An option that says nothing of HAProxy's keywords is an error on the command line; in a layers.toml it is for plugins.
fn only_of_nbdkit(arguments: &Arguments) -> Result<(), Failure> {
    let settings = &arguments.settings;
    let given = [
        ("--memory", settings.memory.is_some()),
        ("--copy-limit", settings.copy_limit.is_some()),
        ("--seed", settings.seed.is_some()),
        ("--under", settings.under.is_some()),
        ("--repro", settings.repro.is_some()),
        ("--claim", !settings.claims.is_empty()),
        ("--expect", !settings.expected.is_empty()),
        ("--allow-writes", arguments.allow_writes),
        ("--set", !arguments.sets.is_empty()),
    ];
    if let Some((option, _)) = given.iter().find(|(_, given)| *given) {
        let what = format!("{option} is for plugins and filters of nbdkit: HAProxy has no use for it");
        return Err(Failure::new(Exit::Usage, what));
    }
    match arguments.words.plugin.get(1) {
        None => Ok(()),
        Some(word) => Err(Failure::new(
            Exit::Usage,
            format!("`{word}`: what is judged of HAProxy is named by -f, --module, --keyword and --request"),
        )),
    }
}

fn known(
    arguments: &Arguments,
    settings: &ValidateSettings,
    load: fn(&Path) -> Result<Baseline, BaselineError>,
) -> Result<Baseline, Failure> {
    if let Some(path) = settings.baseline.as_deref().filter(|_| arguments.settings.baseline.is_none()) {
        arguments.config.trust(path)?;
    }
    match &settings.baseline {
        // A file that is to be written need not be there.
        Some(path) if arguments.update_baseline && !path.exists() => Ok(Baseline::default()),
        Some(path) => load(path).map_err(|error| Failure::new(Exit::Usage, error)),
        None if arguments.update_baseline => {
            Err(Failure::new(Exit::Usage, "--update-baseline: there is no --baseline to write"))
        }
        None => Ok(Baseline::default()),
    }
}

/// A file for each finding, in their order.
fn write_cases(validation: &Validation, directory: Option<&Path>) -> Result<Vec<PathBuf>, Failure> {
    if validation.findings().all(|one| one.repro.is_none()) {
        return Ok(Vec::new());
    }
    let of_set = validation.set.as_ref().map_or(String::new(), |set| format!("{set}."));
    let directory = match directory {
        Some(directory) => directory.to_owned(),
        None => super::case_dir::directory(&format!("{of_set}{}", validation.subject))?,
    };
    let cannot = |error: std::io::Error| {
        let shown = directory.display();
        Failure::new(Exit::Usage, format!("cannot write the cases to `{shown}` (see --repro): {error}"))
    };
    let here = working_directory()?;
    let mut names: Vec<&str> = Vec::new();
    let mut files = Vec::new();
    for (finding, repro) in validation.findings().filter_map(|one| Some((one, one.repro.as_ref()?))) {
        names.push(finding.promise.id);
        let number = names.iter().filter(|name| **name == finding.promise.id).count();
        let name = if number == 1 {
            finding.promise.id.to_owned()
        } else {
            format!("{}-{number}", finding.promise.id)
        };
        files.push(repro.played_in(&here).write(&directory, &format!("{of_set}{name}")).map_err(cannot)?);
    }
    Ok(files)
}
