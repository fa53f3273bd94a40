//! A validation as tests of `cargo test` and `cargo nextest`: one for each check and rule, by its id.
//!
//! In a plugin's own crate, `tests/conformance.rs` with `harness = false`:
//!
//! ```no_run
//! use layers::{libtest::built, validate::Validate};
//!
//! layers::conformance!(Validate::plugin(built("mine")).param("size", "64M"));
//! ```
//!
//! Listing the tests touches neither the subject nor a server. The tests that are asked for share one validation; those that
//! do not apply to the subject are ignored, with the reason.

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::cases::{Case, CaseOutcome, CaseRun, CaseTrouble};
use crate::outcome::Exit;
use crate::run::stack::Layers;
use crate::server::process::become_subreaper;
use crate::validate::{Validate, checks, module_rules};

/// The test that says whether anything could be judged at all.
const CONCLUSIVE: &str = "conclusive";

/// The library that Cargo has built of this crate, beside the running test. Cargo builds it for tests only if they could
/// link it: `crate-type = ["cdylib", "rlib"]`.
pub fn built(name: &str) -> String {
    let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let file = format!("{prefix}{}{suffix}", name.replace('-', "_"));
    std::env::current_exe().unwrap_or_default().with_file_name(file).display().to_string()
}

/// The `main` of a `[[test]]` with `harness = false`; see [`libtest`](crate::libtest). Without that line Cargo brings a harness
/// of its own, which never calls `main` and tests nothing: then there is a test that says so.
#[macro_export]
macro_rules! conformance {
    ($validate:expr) => {
        #[cfg_attr(test, allow(dead_code, reason = "another harness does not call it"))]
        fn main() -> ::std::process::ExitCode {
            $crate::embed::libtest::main($validate)
        }

        #[test]
        fn harness_is_false() {
            panic!(
                "nothing is tested: in Cargo.toml, say `harness = false` in the [[test]] whose name is `{}`",
                env!("CARGO_CRATE_NAME")
            );
        }
    };
}

/// Runs the tests that the command line asks for. To be called from `main`, before any thread is started.
pub fn main(validate: Validate) -> ExitCode {
    let arguments = Arguments::from_args();
    let shared = Arc::new(Shared { validate: validate.only(wanted(&arguments)), run: OnceLock::new() });
    let mut trials: Vec<Trial> = ids(&shared.validate)
        .map(|id| {
            let shared = Arc::clone(&shared);
            Trial::ignorable_test(id, move || shared.outcome(id))
        })
        .collect();
    trials.push(Trial::ignorable_test(CONCLUSIVE, move || shared.conclusive()));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The checks of this level, and the rules.
fn ids(validate: &Validate) -> impl Iterator<Item = &'static str> + use<> {
    let checks: Vec<&str> =
        checks::all().filter(|check| validate.asks(check)).map(|check| check.id).collect();
    checks.into_iter().chain(module_rules().map(|rule| rule.id))
}

/// The ids that the filters of the command line leave; all, where only the others are asked for.
fn wanted(arguments: &Arguments) -> Vec<String> {
    let matches = |pattern: &String, id: &str| {
        if arguments.exact { id == pattern } else { id.contains(pattern.as_str()) }
    };
    let left = |id: &&str| {
        arguments.filter.iter().all(|filter| matches(filter, id))
            && !arguments.skip.iter().any(|skip| matches(skip, id))
    };
    let all = checks::all().map(|check| check.id).chain(module_rules().map(|rule| rule.id));
    all.filter(left).map(str::to_owned).collect()
}

/// One validation for all tests.
struct Shared {
    validate: Validate,
    run: OnceLock<Result<CaseRun, String>>,
}

impl Shared {
    fn run(&self) -> Result<&CaseRun, Failed> {
        let run = self.run.get_or_init(|| {
            self.missing().map_or(Ok(()), Err)?;
            become_subreaper().map_err(|error| error.to_string())?;
            let validation = self.validate.run().map_err(|error| error.to_string())?;
            Ok(CaseRun::of_validation(&validation, &[]))
        });
        run.as_ref().map_err(Failed::from)
    }

    /// What to do about a library that Cargo has not built.
    fn missing(&self) -> Option<String> {
        let Layers::Wrapped { plugin, .. } = &self.validate.stack.layers else { return None };
        let test = std::env::current_exe().ok()?;
        let missing = Path::new(plugin).parent() == test.parent() && !Path::new(plugin).exists();
        missing.then(|| {
            format!(
                "cannot find `{plugin}`: Cargo builds it for tests if Cargo.toml says `crate-type = [\"cdylib\", \"rlib\"]` in \
                 [lib], and its name is that of the crate"
            )
        })
    }

    fn outcome(&self, id: &str) -> Result<Completion, Failed> {
        let run = self.run()?;
        // Of one test that does not apply, run by itself, nothing is judged; whether that is so of all, `conclusive` says.
        let judged = run.exit != Exit::NothingJudged;
        let of_run = run.cases.iter().find(|case| judged && case.group == "run" && is_bad(case));
        match run.cases.iter().find(|case| case.name == id && case.group != "baseline") {
            Some(case) if is_bad(case) => told(case),
            // What cannot be loaded has not passed, whatever is said of its parts.
            _ if of_run.is_some() => of_run.map_or(Ok(Completion::Completed), told),
            Some(case) => told(case),
            None => Err(Failed::from(format!("nothing was said of {id}"))),
        }
    }

    /// Of everything that is no check's and no rule's: the subject loads, the baseline is not stale, something was judged.
    fn conclusive(&self) -> Result<Completion, Failed> {
        let others = self.run()?.cases.iter().filter(|case| !matches!(case.group, "checks" | "rules"));
        others.map(told).find(Result::is_err).unwrap_or(Ok(Completion::Completed))
    }
}

fn is_bad(case: &Case) -> bool {
    matches!(case.outcome, CaseOutcome::Failed(_) | CaseOutcome::Inconclusive(_))
}

fn told(case: &Case) -> Result<Completion, Failed> {
    let failed = |trouble: &CaseTrouble| {
        Failed::from(format!("{}: {}\n{}", trouble.word, trouble.message, trouble.text))
    };
    match &case.outcome {
        CaseOutcome::Passed | CaseOutcome::Warned(_) => Ok(Completion::Completed),
        CaseOutcome::Skipped(why) => Ok(Completion::ignored_with(why.clone())),
        CaseOutcome::Known(trouble) => Ok(Completion::ignored_with(format!("known: {}", trouble.message))),
        CaseOutcome::Follows(trouble) => Ok(Completion::ignored_with(trouble.message.clone())),
        CaseOutcome::Failed(trouble) | CaseOutcome::Inconclusive(trouble) => Err(failed(trouble)),
    }
}
