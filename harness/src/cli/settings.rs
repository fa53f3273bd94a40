//! What may stand on the command line and in a layers.toml: one list of settings for each command that reads one.
//!
//! What the command line does not say, the file does; what neither says, the command's own default does.

use std::ffi::OsString;
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum, ValueHint};
use serde::{Deserialize, Serialize};

use super::reports::Report;
use super::sets::Set;
use crate::campaign::level::Level;
use crate::server::nbdkit::Under;
use crate::validate::{Fact, Profile};

/// One setting.
pub(super) trait Setting {
    /// Returns true where nobody has said anything.
    fn is_unsaid(&self) -> bool;
    /// Returns this one, or the other one where nobody has said this.
    fn or(self, other: Self) -> Self;
    /// Takes its paths as those of a file in this directory.
    fn relative_to(&mut self, directory: &Path);
}

impl<T: Value> Setting for Option<T> {
    fn is_unsaid(&self) -> bool {
        self.is_none()
    }

    fn or(self, other: Self) -> Self {
        self.or(other)
    }

    fn relative_to(&mut self, directory: &Path) {
        self.iter_mut().for_each(|value| value.relative_to(directory));
    }
}

impl<T: Value> Setting for Vec<T> {
    fn is_unsaid(&self) -> bool {
        self.is_empty()
    }

    fn or(self, other: Self) -> Self {
        if self.is_empty() { other } else { self }
    }

    fn relative_to(&mut self, directory: &Path) {
        self.iter_mut().for_each(|value| value.relative_to(directory));
    }
}

/// What a setting is set to.
pub(super) trait Value {
    /// Takes its path, if it has one, as that of a file in this directory.
    fn relative_to(&mut self, _directory: &Path) {}
}

impl Value for PathBuf {
    fn relative_to(&mut self, directory: &Path) {
        *self = directory.join(&*self);
    }
}

impl Value for Report {
    fn relative_to(&mut self, directory: &Path) {
        self.file.relative_to(directory);
    }
}

macro_rules! values_without_path {
    ($($type:ty)*) => { $(impl Value for $type {})* };
}

values_without_path! { String u64 NonZeroU64 NonZeroUsize Asked Under Profile Fact Set }

/// The program of a server. One without a slash is looked for on the PATH.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Program(PathBuf);

impl Value for Program {
    fn relative_to(&mut self, directory: &Path) {
        if self.0.components().count() > 1 {
            self.0.relative_to(directory);
        }
    }
}

impl From<OsString> for Program {
    fn from(word: OsString) -> Program {
        Program(word.into())
    }
}

impl Deref for Program {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

macro_rules! settings {
    ($(#[$about:meta])* $name:ident { $($(#[$meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
        #[group(skip)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        pub(super) struct $name {
            $(
                $(#[$meta])*
                #[serde(skip_serializing_if = "Setting::is_unsaid")]
                pub(super) $field: $type,
            )*
        }

        impl $name {
            /// Returns these, and where they say nothing, the others.
            pub(super) fn or(self, other: $name) -> $name {
                $name { $($field: Setting::or(self.$field, other.$field),)* }
            }

            /// Takes the paths as those of a file in this directory.
            pub(super) fn relative_to(&mut self, directory: &Path) {
                $(self.$field.relative_to(directory);)*
            }
        }
    };
}

settings! {
    /// Settings of `layers conform`.
    ConformSettings {
        /// Judge only the rules, or play only the scenarios, that match (`*` stands for any text); may be repeated
        #[arg(long, value_name = "PATTERN")]
        only: Vec<String>,
        /// Leave out the rules and scenarios that match; may be repeated
        #[arg(long, value_name = "PATTERN")]
        skip: Vec<String>,
        /// How much is asked of the server [default: should]
        #[arg(long, value_enum)]
        level: Option<Asked>,
        /// Scenarios played at a time [default: one for each CPU]
        #[arg(long, value_name = "N")]
        jobs: Option<NonZeroUsize>,
        /// Seconds that one run of one scenario may take [default: 10]
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<NonZeroU64>,
        /// Seconds that the whole run may take; what was not played by then is counted, and never a pass
        #[arg(long, value_name = "SECONDS")]
        time: Option<NonZeroU64>,
        /// MiB of memory for the trace of one run, of which every event takes 64 bytes or more [default: 4, or 8 for HAProxy]
        #[arg(long, value_name = "MIB")]
        trace_room: Option<NonZeroU64>,
        /// How to report, and to which file if not to standard output; may be repeated [default: human] [formats: human, ndjson, junit, tap, github, markdown, html]
        #[arg(long, value_name = "FORMAT[=FILE]")]
        report: Vec<Report>,
    }
}

settings! {
    /// Settings of `layers validate`.
    ValidateSettings {
        /// The server program, if it is not the one on the PATH
        #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
        server: Option<Program>,
        /// Only checks and rules with a matching id; `*` stands for any text; may be repeated
        #[arg(long, value_name = "PATTERN")]
        only: Vec<String>,
        /// No checks and rules with a matching id
        #[arg(long, value_name = "PATTERN")]
        skip: Vec<String>,
        /// How much to ask [default: should]
        #[arg(long, value_enum)]
        level: Option<Asked>,
        /// Warnings of checks and rules with a matching id count like failures; may be repeated
        #[arg(long, value_name = "PATTERN")]
        deny: Vec<String>,
        /// Cases played at a time [default: one for each CPU if the modules are the server's own and no parameter names
        /// storage or code, else one: servers side by side may share something]
        #[arg(long, value_name = "N")]
        jobs: Option<NonZeroUsize>,
        /// Seconds that one step of a case may take [default: 10]
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<NonZeroU64>,
        /// Seconds that the whole run may take; what is not judged by then is no pass [default: 600]
        #[arg(long, value_name = "SECONDS")]
        time: Option<NonZeroU64>,
        /// MiB of memory for the trace of one case, of which every event takes 64 bytes or more [default: 256]
        #[arg(long, value_name = "MIB")]
        trace_room: Option<NonZeroU64>,
        /// MiB of memory that a server may use, 16 at least [default: 2048]
        #[arg(long, value_name = "MIB")]
        memory: Option<u64>,
        /// MiB of data of a file that a parameter names, up to which it is copied for each case; a larger one is opened
        /// read-only [default: 64]
        #[arg(long, value_name = "MIB")]
        copy_limit: Option<u64>,
        /// Number that all written data begins from [default: 1]
        #[arg(long, value_name = "NUMBER")]
        seed: Option<u64>,
        /// Play every case below something that looks at its memory
        #[arg(long, value_enum, value_name = "WHAT")]
        under: Option<Under>,
        /// Findings that are known and do not count; one that is gone is stale, with an exit code of its own
        #[arg(long, value_name = "FILE")]
        baseline: Option<PathBuf>,
        /// Directory for the cases of findings, made when there is one [default: one for temporary files]
        #[arg(long, value_name = "DIRECTORY")]
        repro: Option<PathBuf>,
        /// How to report, and to which file if not to standard output; may be repeated [default: human] [formats: human, ndjson, junit, tap, github, markdown, html]
        #[arg(long, value_name = "FORMAT[=FILE]")]
        report: Vec<Report>,
        /// What the subject claims, such as write, zero or extents: a claim that got lost is a finding; may be repeated
        #[arg(long = "claim", value_name = "PROFILE")]
        claims: Vec<Profile>,
        /// What clients see, such as size=4M, minimum-block=512, offers=trim, sha256=DIGITS, open=refused or start=refused:
        /// what they do not see so is a finding; may be repeated
        #[arg(long = "expect", value_name = "FACT")]
        expected: Vec<Fact>,
        /// Parameters of the subject, one set after the other.
        #[arg(skip)]
        set: Vec<Set>,
    }
}

settings! {
    /// Settings of `layers snapshot`.
    SnapshotSettings {
        /// The server program, if it is not the one on the PATH
        #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
        server: Option<Program>,
        /// Directory of the stored trees [default: tests/snapshots]
        #[arg(long, value_name = "DIRECTORY")]
        dir: Option<PathBuf>,
        /// What the names of this stack's files begin with [default: its filters and its plugin]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Only scenarios that match; `*` stands for any text; may be repeated [default: some usual ones, and all that are stored]
        #[arg(long, value_name = "PATTERN")]
        only: Vec<String>,
        /// No scenarios that match
        #[arg(long, value_name = "PATTERN")]
        skip: Vec<String>,
        /// Scenarios played at a time [default: one for each CPU if the modules are the server's own and no parameter names
        /// storage or code, else one: servers side by side may share something]
        #[arg(long, value_name = "N")]
        jobs: Option<NonZeroUsize>,
        /// Seconds that one run of one scenario may take [default: 10]
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<NonZeroU64>,
        /// Seconds that the whole run may take; what is not compared by then is no pass [default: 600]
        #[arg(long, value_name = "SECONDS")]
        time: Option<NonZeroU64>,
        /// MiB of memory for the trace of one run, of which every event takes 64 bytes or more [default: 4]
        #[arg(long, value_name = "MIB")]
        trace_room: Option<NonZeroU64>,
    }
}

/// How much is asked of a subject or a server.
#[derive(Clone, Copy, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Asked {
    /// What the manual promises; races in a fifth of their tries
    Must,
    /// Also habits and advice, which are warnings
    Should,
    /// Also what takes long: every scenario three times, races four times as often
    Pedantic,
}

impl From<Asked> for Level {
    fn from(asked: Asked) -> Level {
        match asked {
            Asked::Must => Level::Must,
            Asked::Should => Level::Should,
            Asked::Pedantic => Level::Pedantic,
        }
    }
}

/// As many as were asked for, or one for each CPU.
pub(super) fn jobs(wanted: Option<NonZeroUsize>) -> NonZeroUsize {
    wanted.or(std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
}
