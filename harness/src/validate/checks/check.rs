//! What a check is: one row of a table.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::outcome::Promise;
use crate::rules::Party;
use crate::run::{Parameter, Start};
use crate::server::nbdkit::{Buffers, Conditions, Malloc};
use crate::validate::script::claims::Claims;
use crate::validate::script::op::Op;
use layers_behaviour::{Behaviour, Failing};

pub use crate::campaign::level::Level;
pub use crate::validate::script::unfit::Unfit;

macro_rules! profiles {
    ($($(#[doc = $doc:literal])* $variant:ident = $word:literal,)*) => {
        /// A part of what plugins and filters can do, which gets a verdict of its own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum Profile { $($(#[doc = $doc])* $variant,)* }

        impl Profile {
            /// All of them, in the order in which they are reported.
            pub const ALL: &[Profile] = &[$(Profile::$variant,)*];

            /// As it stands in reports.
            pub fn word(self) -> &'static str {
                match self { $(Profile::$variant => $word,)* }
            }
        }
    };
}

profiles! {
    /// Loading, configuration, open, answers, the end.
    Core = "core",
    /// Reading.
    Read = "read",
    /// Writing.
    Write = "write",
    /// Writing zeroes, by a callback of its own.
    Zero = "zero",
    /// Trimming.
    Trim = "trim",
    /// Flushing.
    Flush = "flush",
    /// Force unit access.
    Fua = "fua",
    /// Extents, by a callback of its own.
    Extents = "extents",
    /// Caching.
    Cache = "cache",
    /// Several connections that see the same disk.
    MultiConn = "multi-conn",
    /// Block size constraints.
    BlockSize = "block-size",
    /// Lists of exports.
    Exports = "exports",
    /// The thread model, under parallel load.
    Threads = "thread-model",
    /// Descriptors, threads and memory, given back.
    Resources = "resources",
    /// What only filters do.
    Filter = "filter",
    /// A keyword of HAProxy's command line.
    Keyword = "keyword",
    /// A service of HAProxy.
    Service = "service",
}

impl Profile {
    /// Only a subject that is written to can be judged by its checks.
    pub fn writes(self) -> bool {
        matches!(self, Profile::Write | Profile::Zero | Profile::Trim | Profile::Fua)
    }
}

/// A word that is the name of no profile.
#[derive(Debug, thiserror::Error)]
#[error("there is no profile `{0}`: there are {all}", all = words().join(", "))]
pub struct NoProfile(String);

fn words() -> Vec<&'static str> {
    Profile::ALL.iter().map(|profile| profile.word()).collect()
}

impl FromStr for Profile {
    type Err = NoProfile;

    fn from_str(word: &str) -> Result<Profile, NoProfile> {
        let found = Profile::ALL.iter().find(|profile| profile.word() == word);
        found.copied().ok_or_else(|| NoProfile(word.to_owned()))
    }
}

impl TryFrom<String> for Profile {
    type Error = NoProfile;

    fn try_from(word: String) -> Result<Profile, NoProfile> {
        word.parse()
    }
}

impl From<Profile> for String {
    fn from(profile: Profile) -> String {
        profile.word().to_owned()
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// One check. The list, the explanation, the documents and the tests all read this value.
#[derive(Clone, Copy, Debug)]
pub struct ModuleCheck {
    /// Stable name: subject, then what holds.
    pub id: &'static str,
    /// From which level on it is judged. Broken, it fails at [`Level::Must`] and warns at the others.
    pub level: Level,
    /// What it is counted under.
    pub profile: Profile,
    /// Whose duty it is.
    pub party: Party,
    /// What holds, in one sentence.
    pub statement: &'static str,
    /// Where it is promised: manual page and section.
    pub clause: &'static str,
    /// What breaks it.
    pub broken_by: &'static str,
    /// What to do about it.
    pub fix: &'static str,
    /// How it is judged.
    pub play: Play,
}

impl From<&ModuleCheck> for Promise {
    fn from(check: &ModuleCheck) -> Promise {
        let ModuleCheck { id, statement, clause, fix, .. } = *check;
        Promise { id, statement, clause, fix }
    }
}

/// How a check is judged.
#[derive(Clone, Copy, Debug)]
pub enum Play {
    /// By cases on the stack as it was given.
    Stack(fn(&Claims) -> Planned),
    /// By cases of each filter alone, over our own plugin; the claims are those of the filter over a plugin that can
    /// do everything.
    Filter(fn(&Claims) -> Planned),
    /// Both: the first on the stack as it was given, the other of each filter alone.
    Both(fn(&Claims) -> Planned, fn(&Claims) -> Planned),
    /// By looking at every case, whatever it is played for.
    Always,
    /// By the first connection: whether any export opens.
    Opens,
    /// By looking at the files, before anything is started.
    File,
    /// By what the other checks found claimed, and what it was said to claim.
    Claims,
    /// By what clients of HAProxy do with each keyword and service ([`crate::validate::haproxy`]).
    Session,
}

/// Cases, or why there are none.
pub type Planned = Result<Vec<CasePlan>, Unfit>;

/// One case: a server of its own, a script, and what is expected of both.
#[derive(Clone, Debug)]
pub struct CasePlan {
    /// The stack, as it differs from the given one.
    pub twist: Twist,
    /// How the server is made to serve.
    pub start: Start,
    /// What it runs under.
    pub conditions: Conditions,
    /// What the clients do.
    pub script: Vec<Op>,
    /// How it ends.
    pub outcome: ServerOutcome,
    /// It tells something only where the bytes that are read differ from one another.
    pub compares: bool,
}

/// How the stack of a case differs from the one that was given.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Twist {
    /// Not at all.
    #[default]
    None,
    /// `-r`.
    Readonly,
    /// This parameter more, at the end.
    Parameter(Parameter),
    /// No parameters.
    Bare,
    /// Without the parameter at this place.
    Without(usize),
    /// The parameter at this place is empty.
    Emptied(usize),
    /// `-t 1`: a connection costs little.
    OneThread,
    /// For a filter: over our own plugin with this behaviour.
    Over(Box<Behaviour>),
    /// For a filter: over our own filter, which passes everything on, over our own plugin.
    OverFilter,
}

/// What must become of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerOutcome {
    /// It serves, and ends well when it is told to.
    Serves,
    /// It does what it was started for, and ends with status 0.
    Succeeds,
    /// It may serve or refuse to start, as long as it says why.
    StartsOrRefuses,
    /// It refuses to start, and says why.
    Refuses,
}

impl Play {
    /// What it plays on the stack as it was given.
    pub(in crate::validate) fn on_stack(&self) -> Option<fn(&Claims) -> Planned> {
        match self {
            Play::Stack(plans) | Play::Both(plans, _) => Some(*plans),
            _ => None,
        }
    }

    /// What it plays on each filter alone.
    pub(in crate::validate) fn on_filters(&self) -> Option<fn(&Claims) -> Planned> {
        match self {
            Play::Filter(plans) | Play::Both(_, plans) => Some(*plans),
            _ => None,
        }
    }
}

impl CasePlan {
    /// A script on the stack as it was given.
    pub fn new(script: Vec<Op>) -> CasePlan {
        CasePlan {
            twist: Twist::None,
            start: Start::Foreground,
            conditions: Conditions { buffers: Buffers::Lent, watches: true, ..Conditions::default() },
            script,
            outcome: ServerOutcome::Serves,
            compares: false,
        }
    }

    /// Bytes that are all alike tell nothing.
    #[must_use]
    pub fn compares(mut self) -> CasePlan {
        self.compares = true;
        self
    }

    /// Another stack.
    #[must_use]
    pub fn twist(mut self, twist: Twist) -> CasePlan {
        self.twist = twist;
        self
    }

    /// A start that serves nobody.
    #[must_use]
    pub fn start(mut self, start: Start, outcome: ServerOutcome) -> CasePlan {
        (self.start, self.outcome) = (start, outcome);
        self
    }

    /// Layers get buffers that end at pages which cannot be touched.
    #[must_use]
    pub fn fenced(mut self) -> CasePlan {
        self.conditions.buffers = Buffers::Fenced;
        self
    }

    /// The C library checks the memory that is allocated.
    #[must_use]
    pub fn with_malloc_checked(mut self) -> CasePlan {
        self.conditions = Conditions { malloc: Malloc::Checked, ..Conditions::default() };
        self
    }

    /// Calls pause, and wait for one another, where that follows from this number.
    #[must_use]
    pub fn pausing(mut self, seed: u64) -> CasePlan {
        self.conditions.pauses = Some(seed);
        self
    }

    /// This fails in every other call of a callback.
    #[must_use]
    pub fn failing(mut self, failing: Failing) -> CasePlan {
        self.conditions.fails = Some(failing);
        self
    }

    /// What is allocated is counted.
    #[must_use]
    pub fn with_malloc_counted(mut self) -> CasePlan {
        self.conditions.malloc = Malloc::Counted;
        self
    }
}
