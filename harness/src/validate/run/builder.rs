//! What to judge, and how: a validation before it runs.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::baseline::Baseline;
use crate::campaign::halt::Limit;
use crate::campaign::select::or_rather;
use crate::campaign::trace_room;
use crate::run::Parameter;
use crate::run::stack::{Layers, Stack};
use crate::server::nbdkit::{ServerError, Under};
use crate::validate::checks::check::{Level, ModuleCheck, Profile};
use crate::validate::play::case::CAPACITY;
use crate::validate::script::fact::Fact;
use crate::validate::subject::consent;

/// A validation to be run: what to judge, and how.
///
/// ```
/// use layers::validate::{Profile, ProfileVerdict, Validate};
/// use layers::verdict::{Exit, Verdict};
///
/// let only = ["read.*".to_owned(), "inform.dump-plugin".to_owned()];
/// let validation = Validate::plugin("memory").param("size", "1M").only(only).run()?;
/// assert_eq!(validation.exit(), Exit::Conformant);
/// for said in &validation.checks {
///     assert!(matches!(said.verdict, Verdict::Pass | Verdict::NotApplicable(_)), "{}", said.check.id);
/// }
/// let core = validation.profiles.iter().find(|one| one.profile == Profile::Core);
/// assert_eq!(core.map(|one| one.verdict), Some(ProfileVerdict::Conformant));
/// # Ok::<(), layers::validate::ValidateError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Validate {
    pub(crate) stack: Stack,
    pub(crate) server: Option<PathBuf>,
    pub(crate) only: Vec<String>,
    pub(crate) skip: Vec<String>,
    pub(crate) level: Level,
    pub(crate) allow_writes: bool,
    pub(crate) timeout: Duration,
    pub(crate) time: Option<Duration>,
    pub(crate) limit: Option<Limit>,
    pub(crate) room: u64,
    pub(crate) memory: u64,
    pub(crate) seed: u64,
    pub(crate) jobs: NonZeroUsize,
    pub(crate) known: Baseline,
    pub(crate) deny: Vec<String>,
    pub(crate) keep_events: usize,
    pub(crate) copy_limit: u64,
    pub(crate) claims: Vec<Profile>,
    pub(crate) expected: Vec<Fact>,
    pub(crate) set: Option<String>,
    pub(crate) under: Option<Under>,
}

/// Why a subject could not even be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// The server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A pattern that selects nothing: most likely a slip of the pen.
    #[error(
        "`{pattern}` matches no check and no rule{}: `layers validate --list` lists them all",
        or_rather(nearest.as_deref())
    )]
    NoMatch {
        /// The pattern.
        pattern: String,
        /// The name that may be meant.
        nearest: Option<String>,
    },
    /// A parameter names what a module writes over, however it is opened.
    #[error(
        "`{0}` names what would be written over, and what cannot be copied: name another file, or give leave with --allow-writes"
    )]
    Overwritten(String),
}

impl Validate {
    /// Judges this plugin: a name such as `memory`, or a path.
    pub fn plugin(plugin: impl Into<String>) -> Validate {
        let layers = Layers::Wrapped { filters: Vec::new(), plugin: plugin.into() };
        Validate::stack(Stack { layers, ..Stack::default() })
    }

    /// Judges this stack, which must be one of [`Layers::Wrapped`].
    pub fn stack(stack: Stack) -> Validate {
        Validate {
            stack,
            server: None,
            only: Vec::new(),
            skip: Vec::new(),
            level: Level::Should,
            allow_writes: false,
            timeout: Duration::from_secs(10),
            time: None,
            limit: None,
            room: CAPACITY,
            memory: 2 << 30,
            seed: 1,
            jobs: NonZeroUsize::MIN,
            known: Baseline::default(),
            deny: Vec::new(),
            keep_events: 0,
            copy_limit: consent::LIMIT,
            claims: Vec::new(),
            expected: Vec::new(),
            set: None,
            under: None,
        }
    }

    /// With this filter inside those that were given before, as on the server's command line.
    #[must_use]
    pub fn filter(mut self, filter: impl Into<String>) -> Validate {
        if let Layers::Wrapped { filters, .. } = &mut self.stack.layers {
            filters.push(filter.into());
        }
        self
    }

    /// With this parameter, behind those that were given before.
    #[must_use]
    pub fn param(mut self, key: impl Into<String>, value: impl Into<String>) -> Validate {
        self.stack.parameters.push(Parameter { key: Some(key.into()), value: value.into() });
        self
    }

    /// With this bare parameter, behind those that were given before.
    #[must_use]
    pub fn argument(mut self, value: impl Into<String>) -> Validate {
        self.stack.parameters.push(Parameter { key: None, value: value.into() });
        self
    }

    /// In this server, and not the one on the PATH.
    #[must_use]
    pub fn server(mut self, path: impl Into<PathBuf>) -> Validate {
        self.server = Some(path.into());
        self
    }

    /// Only checks and rules that one of these patterns names; `*` stands for any text.
    #[must_use]
    pub fn only(mut self, patterns: impl IntoIterator<Item = String>) -> Validate {
        self.only.extend(patterns);
        self
    }

    /// No check and no rule that one of these patterns names.
    #[must_use]
    pub fn skip(mut self, patterns: impl IntoIterator<Item = String>) -> Validate {
        self.skip.extend(patterns);
        self
    }

    /// Checks up to this level; [`Level::Should`] unless said otherwise.
    #[must_use]
    pub fn level(mut self, level: Level) -> Validate {
        self.level = level;
        self
    }

    /// Bytes of data of a file that a parameter names, up to which it is copied for each case; 64 MiB unless said
    /// otherwise. A larger one is opened read-only.
    #[must_use]
    pub fn copy_limit(mut self, bytes: u64) -> Validate {
        self.copy_limit = bytes;
        self
    }

    /// The subject claims these; where it does not, that is a finding.
    #[must_use]
    pub fn claims(mut self, claims: impl IntoIterator<Item = Profile>) -> Validate {
        self.claims.extend(claims);
        self
    }

    /// Clients see these facts; where they do not, that is a finding. What is expected to be refused is not judged further.
    #[must_use]
    pub fn expect(mut self, facts: impl IntoIterator<Item = Fact>) -> Validate {
        self.expected.extend(facts);
        self
    }

    /// Its parameters are a set of this name, one of several that are judged after one another.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>) -> Validate {
        self.set = Some(name.into());
        self
    }

    /// Writes to storage that a parameter names, too.
    #[must_use]
    pub fn allow_writes(mut self, allow: bool) -> Validate {
        self.allow_writes = allow;
        self
    }

    /// Time for each case; 10 seconds unless said otherwise.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Validate {
        self.timeout = timeout;
        self
    }

    /// Time for the whole run; without end unless said otherwise. What was not judged by then is no pass.
    #[must_use]
    pub fn time(mut self, time: Duration) -> Validate {
        self.time = Some(time);
        self
    }

    /// Until the end of a run that has begun, and of which this is a part.
    #[must_use]
    pub(crate) fn within(mut self, limit: Limit) -> Validate {
        self.limit = Some(limit);
        self
    }

    /// MiB of memory for the trace of one case; 256 unless said otherwise.
    #[must_use]
    pub fn trace_room(mut self, mib: u64) -> Validate {
        self.room = trace_room::records(mib);
        self
    }

    /// Bytes of resident memory that the server may use; 2 GiB unless said otherwise.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Validate {
        self.memory = bytes;
        self
    }

    /// The number that all written data begins from.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Validate {
        self.seed = seed;
        self
    }

    /// Findings that are known, and do not count.
    #[must_use]
    pub fn known(mut self, known: Baseline) -> Validate {
        self.known = known;
        self
    }

    /// Warnings of checks and rules that one of these patterns names count like failures.
    #[must_use]
    pub fn deny(mut self, patterns: impl IntoIterator<Item = String>) -> Validate {
        self.deny.extend(patterns);
        self
    }

    /// Keeps the events of cases in which something was found, up to so many in all; none unless said otherwise.
    #[must_use]
    pub fn keep_events(mut self, most: usize) -> Validate {
        self.keep_events = most;
        self
    }

    /// Plays every case below valgrind, or with the run-time of the sanitizer that the subject was built with. All takes
    /// several times as long, and may.
    #[must_use]
    pub fn under(mut self, under: Under) -> Validate {
        self.under = Some(under);
        self
    }

    /// Plays so many cases at a time; one unless said otherwise. Where a parameter names storage of the user's it is one
    /// in any case; elsewhere it is for the caller to know that servers side by side do not share anything.
    #[must_use]
    pub fn jobs(mut self, jobs: NonZeroUsize) -> Validate {
        self.jobs = jobs;
        self
    }

    /// Returns whether it is of the level that is asked for, and can be judged at all: of what `--under` reports nothing is
    /// said where nobody looks.
    pub(crate) fn asks(&self, check: &ModuleCheck) -> bool {
        check.level <= self.level && (self.under.is_some() || check.id != "memory.reported")
    }
}
