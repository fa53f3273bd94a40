//! The lines of `watch` and of `check`.

use std::io::{self, Write};

use serde::Serialize;

use super::line::{FoundLine, Ndjson, StaleLine, Word, line};
use crate::outcome::{Exit, Fault};
use crate::report::account::{Account, JudgedServer};
use crate::rules::Rule;
use crate::watch::Ended;

/// Version of the format: it grows when a field changes its meaning or goes.
pub const VERSION: u32 = 1;

/// A line of `layers watch --report ndjson` and of `layers check --report ndjson`.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Line<'a> {
    /// The first line.
    Begin {
        /// Version of this format.
        #[cfg_attr(feature = "schema", schemars(extend("const" = VERSION)))]
        format: u32,
        /// Version of this project.
        layers: &'a str,
        /// The command that has started the servers; of `check` there is none.
        command: Option<&'a [String]>,
        /// How much is asked.
        level: &'a str,
        /// How many rules are about such servers.
        rules: usize,
    },
    /// A server that was judged, in the order in which they began.
    Server {
        /// What findings call it.
        name: &'a str,
        /// `nbdkit` or `haproxy`; empty where that is not known.
        server: &'a str,
        /// Its version; empty where that is not known.
        server_version: &'a str,
        /// Its process, where that is known.
        process: Option<u32>,
        /// Its working directory, where that is known.
        directory: Option<&'a str>,
        /// `exited` (by exit(3)), `crashed` (by a signal), `unseen` (by SIGKILL or _exit(2), as it seems), `running`, or
        /// `unrecorded`.
        ended: &'a str,
        /// The exit status, or the signal.
        status: Option<i32>,
        /// Events recorded.
        events: u64,
        /// Why less is told of it than of others.
        unclear: Option<&'a str>,
    },
    /// A server of which nothing is told.
    Unseen {
        /// Its process, where that is known.
        process: Option<u32>,
        /// Why.
        why: &'a str,
    },
    /// What is said of a rule.
    Rule {
        /// Its id.
        id: &'a str,
        /// Its kind.
        kind: String,
        /// Whose duty it is.
        party: String,
        /// What is said.
        verdict: Word,
        /// Why it was not judged.
        reason: Option<String>,
        /// How often it had something to say.
        exercised: u64,
        /// In how many servers it was broken.
        servers: usize,
    },
    /// A rule broken, or a crash, in one server.
    #[cfg_attr(
        feature = "schema",
        schemars(extend("oneOf" = [{"required": ["rule"]}, {"required": ["verdict", "reason"]}]))
    )]
    Finding {
        /// The name of the server.
        server: &'a str,
        /// `new`, `known` or `habit` (a warning).
        standing: &'a str,
        /// Why it is known.
        why: Option<&'a str>,
        /// What is broken, and how.
        #[serde(flatten)]
        found: FoundLine<'a>,
    },
    /// An entry of the user's baseline of what was looked for, and did not happen.
    Stale {
        /// What is listed.
        #[serde(flatten)]
        entry: StaleLine<'a>,
    },
    /// The last line.
    End {
        /// The exit code: that of what was found, or of the command where nothing was.
        exit: u8,
        /// The code of what was found.
        found: u8,
        /// What that means.
        meaning: &'a str,
        /// Servers that were judged.
        servers: usize,
    },
}

/// Writes all lines.
pub(super) fn write<W: Write>(to: &mut Ndjson<W>, account: &Account<'_>) -> io::Result<()> {
    to.line(&Line::Begin {
        format: VERSION,
        layers: env!("CARGO_PKG_VERSION"),
        command: account.command.as_deref(),
        level: account.level,
        rules: account.rules.len(),
    })?;
    account.servers.iter().try_for_each(|one| to.line(&server(one)))?;
    for one in account.unseen {
        to.line(&Line::Unseen { process: one.pid, why: &one.why })?;
    }
    account.rules.iter().try_for_each(|one| to.line(&rule(account, one)))?;
    account.faults.iter().try_for_each(|fault| to.line(&finding(fault)))?;
    for entry in account.stale {
        to.line(&Line::Stale { entry: StaleLine::of(entry) })?;
    }
    let (found, meaning, servers) = (account.exit.code(), account.meaning.as_str(), account.servers.len());
    to.line(&Line::End { exit: account.code, found, meaning, servers })
}

fn server<'a>(one: &'a JudgedServer<'_>) -> Line<'a> {
    let (ended, status) = match one.ended {
        Ended::Exited(status) => ("exited", Some(status)),
        Ended::Crashed(signal) => ("crashed", Some(signal)),
        Ended::Unseen => ("unseen", None),
        Ended::Running => ("running", None),
        Ended::Unrecorded => ("unrecorded", None),
    };
    Line::Server {
        name: &one.name,
        server: &one.server,
        server_version: &one.version,
        process: one.process,
        directory: one.directory.as_deref(),
        ended,
        status,
        events: one.events,
        unclear: one.unclear.as_deref(),
    }
}

fn rule<'a>(account: &Account<'_>, rule: &'a Rule) -> Line<'a> {
    let verdict = account.verdict(rule);
    Line::Rule {
        id: rule.id,
        kind: rule.kind.to_string(),
        party: rule.party.to_string(),
        verdict: (&verdict).into(),
        reason: verdict.reason().map(str::to_owned),
        exercised: account.exercised.get(rule.id).copied().unwrap_or_default(),
        servers: account.faults.iter().filter(|fault| fault.is_of(rule)).count(),
    }
}

fn finding(fault: &Fault) -> Line<'_> {
    let mut found = FoundLine::of(fault);
    found.party = fault.first.as_ref().map(|first| first.party.to_string());
    Line::Finding {
        server: &fault.scenario,
        standing: fault.standing.word(),
        why: fault.standing.why(),
        found,
    }
}

/// Returns the last line of a run that has failed in this way.
pub(crate) fn failed(exit: Exit, why: &str) -> String {
    let meaning = format!("{}: {why}", exit.meaning());
    line(&Line::End { exit: exit.code(), found: exit.code(), meaning: &meaning, servers: 0 })
}
