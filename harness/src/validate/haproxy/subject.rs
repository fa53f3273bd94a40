//! What is judged: a configuration, its modules, and what of them is asked for.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::baseline::Baseline;
use crate::campaign::level::Level;
use crate::campaign::select::matches;
use crate::campaign::trace_room;
use crate::foreign::visible::visible_line;
use crate::rules::haproxy::is_tried;
use crate::rules::{self, Party, Rule};
use crate::server::haproxy::Configuration;
use crate::version::Which;

/// How long an answer may take, unless somebody says otherwise.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// A validation of HAProxy's keywords and services, to be run.
#[derive(Clone, Debug)]
pub struct HaproxyValidation {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) configuration: Configuration,
    pub(crate) server: Option<PathBuf>,
    pub(crate) modules: Vec<PathBuf>,
    pub(crate) keywords: Vec<String>,
    pub(crate) requests: Vec<String>,
    pub(crate) only: Vec<String>,
    pub(crate) skip: Vec<String>,
    pub(crate) level: Level,
    pub(crate) timeout: Duration,
    pub(crate) time: Option<Duration>,
    pub(crate) room: Option<u64>,
    pub(crate) jobs: Option<NonZeroUsize>,
    pub(crate) deny: Vec<String>,
    pub(crate) known: Baseline,
    pub(crate) fail_fast: bool,
}

impl HaproxyValidation {
    /// Judges what this configuration adds to a server: files, each with its text.
    pub fn new(files: Vec<(PathBuf, String)>) -> HaproxyValidation {
        let named: Vec<(String, String)> =
            files.iter().map(|(path, text)| (path.display().to_string(), text.clone())).collect();
        HaproxyValidation {
            configuration: Configuration::of_user(&named),
            files: files.into_iter().map(|(path, _)| path).collect(),
            server: None,
            modules: Vec::new(),
            keywords: Vec::new(),
            requests: Vec::new(),
            only: Vec::new(),
            skip: Vec::new(),
            level: Level::Should,
            timeout: TIMEOUT,
            time: None,
            room: None,
            jobs: None,
            deny: Vec::new(),
            known: Baseline::default(),
            fail_fast: false,
        }
    }

    /// In this server, and not the one on the PATH.
    #[must_use]
    pub fn server(mut self, path: Option<PathBuf>) -> HaproxyValidation {
        self.server = path;
        self
    }

    /// With these modules, which are preloaded.
    #[must_use]
    pub fn modules(mut self, modules: impl IntoIterator<Item = PathBuf>) -> HaproxyValidation {
        self.modules.extend(modules);
        self
    }

    /// Only the keywords that one of these names: a pattern, or the words of one with its arguments behind them.
    #[must_use]
    pub fn keywords(mut self, patterns: impl IntoIterator<Item = String>) -> HaproxyValidation {
        self.keywords.extend(patterns);
        self
    }

    /// Asks for services by these requests: `GET [FRONTEND]/path`.
    #[must_use]
    pub fn requests(mut self, requests: impl IntoIterator<Item = String>) -> HaproxyValidation {
        self.requests.extend(requests);
        self
    }

    /// Only checks and rules that one of these patterns names.
    #[must_use]
    pub fn only(mut self, patterns: impl IntoIterator<Item = String>) -> HaproxyValidation {
        self.only.extend(patterns);
        self
    }

    /// No check and no rule that one of these patterns names.
    #[must_use]
    pub fn skip(mut self, patterns: impl IntoIterator<Item = String>) -> HaproxyValidation {
        self.skip.extend(patterns);
        self
    }

    /// Checks up to this level.
    #[must_use]
    pub fn level(mut self, level: Level) -> HaproxyValidation {
        self.level = level;
        self
    }

    /// How long an answer may take; 5 seconds unless said otherwise.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> HaproxyValidation {
        self.timeout = timeout;
        self
    }

    /// Time for the whole run.
    #[must_use]
    pub fn time(mut self, time: Duration) -> HaproxyValidation {
        self.time = Some(time);
        self
    }

    /// MiB of memory for the trace of one server; 8 unless said otherwise.
    #[must_use]
    pub fn trace_room(mut self, mib: u64) -> HaproxyValidation {
        self.room = Some(trace_room::records(mib));
        self
    }

    /// Plays so many servers at a time; one unless said otherwise. It is for the caller to know that servers side by side do
    /// not share anything.
    #[must_use]
    pub fn jobs(mut self, jobs: NonZeroUsize) -> HaproxyValidation {
        self.jobs = Some(jobs);
        self
    }

    /// Warnings of checks and rules that one of these patterns names count like failures.
    #[must_use]
    pub fn deny(mut self, patterns: impl IntoIterator<Item = String>) -> HaproxyValidation {
        self.deny.extend(patterns);
        self
    }

    /// Findings that are known, and do not count.
    #[must_use]
    pub fn known(mut self, known: Baseline) -> HaproxyValidation {
        self.known = known;
        self
    }

    /// Ends at the first finding that fails the run.
    #[must_use]
    pub fn fail_fast(mut self, fail_fast: bool) -> HaproxyValidation {
        self.fail_fast = fail_fast;
        self
    }

    /// Returns true where warnings of this check count like failures.
    pub(super) fn denies(&self, id: &str) -> bool {
        self.deny.iter().any(|pattern| matches(pattern, id))
    }

    /// Returns true where all findings of this check may be known.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.known.entries.iter().any(|entry| entry.id == id)
    }

    pub(super) fn wants(&self, id: &str) -> bool {
        (self.only.is_empty() || self.only.iter().any(|pattern| matches(pattern, id)))
            && !self.skip.iter().any(|pattern| matches(pattern, id))
    }

    /// As on the command line.
    pub fn words(&self) -> String {
        let files = self.files.iter().map(|file| format!("-f {}", file.display()));
        let modules = self.modules.iter().map(|file| format!("--module {}", file.display()));
        visible_line(&files.chain(modules).collect::<Vec<_>>().join(" "))
    }
}

/// The rules that a keyword or a service can break; what the server owes is for `conform` to say, and what clients try, checks
/// say here.
pub(super) fn of_handlers() -> impl Iterator<Item = &'static Rule> {
    rules::of(Which::Haproxy).filter(|rule| rule.party == Party::Handler && !is_tried(rule))
}

/// The file as the dynamic linker names it in a process.
pub(super) fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
