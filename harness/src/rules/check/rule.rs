//! What a rule is.

use std::fmt;

use super::given::Said;
use super::now::Now;
use super::party::Party;
use super::report::Report;
use super::watch::Watch;
use crate::history::History;
use crate::version::Version;

/// How binding a statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Documented, and must hold.
    Required,
    /// Documented, and must never happen.
    Forbidden,
    /// Not promised, but what the servers do; a change is worth a warning.
    Observed,
    /// Expressly left open; nothing is asserted.
    Unspecified,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Required => "required",
            Kind::Forbidden => "forbidden",
            Kind::Observed => "observed",
            Kind::Unspecified => "unspecified",
        })
    }
}

/// One promise. The list, the explanation, the documents and the tests all read this value.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Stable name: family, subject, what holds.
    pub id: &'static str,
    /// How binding it is.
    pub kind: Kind,
    /// Whose duty it is.
    pub party: Party,
    /// First version of the server that promises it.
    pub since: Version,
    /// What holds, in one or two sentences.
    pub statement: &'static str,
    /// Where it is promised: manual page and section.
    pub clause: &'static str,
    /// When it says anything: completes "exercised by …", and "never exercised: needs …".
    pub antecedent: &'static str,
    /// A trace that it says something of, and holds for, in the notation of examples (docs/rules.md).
    pub good: &'static str,
    /// A trace that breaks it in its last step, or, where something is owed until then, by its end.
    pub bad: &'static str,
    /// Other rules that `bad` breaks with it.
    pub also: &'static [&'static str],
    /// What to do about it.
    pub fix: &'static str,
    /// How it is judged.
    pub check: Checker,
}

/// A row names what is special about its rule, and takes the rest from one of these: a rule of the server's since its
/// first version.
impl Rule {
    /// A rule that is documented, and must hold.
    pub const REQUIRED: Rule = Rule {
        id: "",
        kind: Kind::Required,
        party: Party::Server,
        since: Version(1, 0, 0),
        statement: "",
        clause: "",
        antecedent: "",
        good: "",
        bad: "",
        also: &[],
        fix: "",
        check: Checker::Nothing,
    };
    /// A rule of what must never happen.
    pub const FORBIDDEN: Rule = Rule { kind: Kind::Forbidden, ..Rule::REQUIRED };
    /// A rule of what the servers do and no manual promises.
    pub const OBSERVED: Rule = Rule { kind: Kind::Observed, clause: "not in the manual", ..Rule::REQUIRED };
    /// What looks like a rule and is left open.
    pub const UNSPECIFIED: Rule = Rule { kind: Kind::Unspecified, ..Rule::REQUIRED };

    /// Returns the same, promised by this version of the server first.
    pub(in crate::rules) const fn since(self, major: u16, minor: u16, patch: u16) -> Rule {
        self.from(Version(major, minor, patch))
    }

    /// Returns the same, promised by this version of the server first.
    pub(in crate::rules) const fn from(self, since: Version) -> Rule {
        Rule { since, ..self }
    }

    /// Returns the same, as the duty of this party.
    pub(in crate::rules) const fn of(self, party: Party) -> Rule {
        Rule { party, ..self }
    }
}

/// How a rule is judged.
#[derive(Clone, Copy, Debug)]
pub enum Checker {
    /// By looking at every event that the check watches.
    Trace(fn() -> Box<dyn Check>),
    /// Not at all: it is [`Kind::Unspecified`].
    Nothing,
}

/// The judgement of one rule over one trace, event by event.
pub trait Check {
    /// The events it wants to see.
    fn watches(&self) -> Watch;

    /// One of them; `now.history` is still as it was just before.
    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said;

    /// Data calls mean something to it now. They are the bulk of a trace, and many rules wait for something rare that makes
    /// them matter; no data call makes it so.
    fn minds_data(&self, _history: &History) -> bool {
        true
    }

    /// The trace is over.
    fn end(&mut self, history: &History, report: &mut Report<'_>) -> Said {
        let _ = (history, report);
        None
    }
}
