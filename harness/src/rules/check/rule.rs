//! What a rule is.

use std::fmt;

use super::engine::{Now, Report};
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

/// Whose duty a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// nbdkit itself.
    Server,
    /// The plugin.
    Plugin,
    /// The filter that makes the call, or whose callback it is.
    Filter,
    /// Whichever plugin or filter did it.
    Module,
    /// The client.
    Client,
    /// A keyword's or an applet's functions; those of HAProxy's own come with the server.
    Handler,
}

impl Party {
    /// Whoever installs the server is owed this by it, not by something that they add.
    pub fn comes_with_server(self) -> bool {
        matches!(self, Party::Server | Party::Handler)
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Party::Server => "server",
            Party::Plugin => "plugin",
            Party::Filter => "filter",
            Party::Module => "plugin or filter",
            Party::Client => "client",
            Party::Handler => "handler",
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
    /// The shortest sequence of calls that breaks it.
    pub example: &'static str,
    /// What to do about it.
    pub fix: &'static str,
    /// How it is judged.
    pub check: Checker,
}

/// How a rule is judged.
#[derive(Clone, Copy, Debug)]
pub enum Checker {
    /// By looking at every event that the check watches.
    Trace(fn() -> Box<dyn Check>),
    /// Not at all: it is [`Kind::Unspecified`].
    Nothing,
    /// Not yet, for this reason.
    Later(&'static str),
}

/// The judgement of one rule over one trace, event by event.
pub trait Check {
    /// The events it wants to see.
    fn watches(&self) -> Watch;

    /// One of them; `now.history` is still as it was just before.
    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>);

    /// The trace is over.
    fn end(&mut self, history: &History, report: &mut Report<'_>) {
        let _ = (history, report);
    }
}
