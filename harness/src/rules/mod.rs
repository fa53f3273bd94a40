//! The catalogue: every documented promise as a value, and the engine that holds a trace against it.
//!
//! A family of rules is a file, named after the section of the manual that it comes from. Each rule is one row of
//! its file's `RULES` table and one small type with [`Check`]. A check sees each event *before* it takes effect on the
//! [`History`](crate::history::History), so that "was it still open?" can be asked at a close; the call that the event enters or exits is
//! already resolved, with its connection and its chain of handles, and is not among those in flight.
//!
//! A trace in a file, judged by all of them:
//!
//! ```
//! use layers::rules;
//! use layers::trace::Reader;
//! # use layers::{scenario::{Player, named}, server::nbdkit::Nbdkit};
//! # let directory = tempfile::tempdir()?;
//! # let file = directory.path().join("run.trace");
//! # let scenario = named::find("classical").expect("it is in the list");
//! # Player { keep: Some(&file), ..Player::new(&Nbdkit::find(None)?) }.play(&scenario)?;
//!
//! let bytes = std::fs::read(file)?;
//! let judgement = rules::judge(&Reader::new(&bytes)?, rules::all());
//! for said in judgement.results.iter().filter(|said| said.broken > 0) {
//!     println!("{} ({}): {}", said.rule.id, said.rule.party, said.rule.statement);
//! }
//! assert_eq!(judgement.troubles, []);
//! assert!(judgement.result("lifecycle.cleanup.outer-to-inner").is_some_and(|said| said.exercised > 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod appctx;
mod both;
pub mod config;
pub mod connection;
pub mod contexts;
pub mod data;
pub mod emulation;
mod engine;
pub mod errno;
mod finding;
pub mod lifecycle;
pub mod negotiation;
mod passing;
mod per_layer;
pub mod pointers;
mod probed;
pub mod results;
mod rule;
pub mod shutdown;
pub mod start;
#[cfg(test)]
pub(crate) mod testing;
pub mod threads;
mod watch;
pub mod wire;

pub use engine::{Judge, Judgement, Now, Report, RuleResult, Trouble, judge};
pub use finding::{CallRef, Finding};
pub use rule::{Check, Checker, Kind, Party, Rule};
pub use watch::Watch;

use crate::version::Which;

/// Every rule, in the order of the catalogue: nbdkit's, then HAProxy's.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    of_nbdkit().chain(of_haproxy())
}

/// The rules of this server.
pub fn of(server: Which) -> impl Iterator<Item = &'static Rule> {
    let nbdkit = (server == Which::Nbdkit).then(of_nbdkit);
    let haproxy = (server == Which::Haproxy).then(of_haproxy);
    nbdkit.into_iter().flatten().chain(haproxy.into_iter().flatten())
}

fn of_haproxy() -> impl Iterator<Item = &'static Rule> {
    appctx::RULES.iter().copied().flatten()
}

fn of_nbdkit() -> impl Iterator<Item = &'static Rule> {
    [lifecycle::RULES, config::RULES, start::RULES, pointers::RULES]
        .into_iter()
        .chain(connection::RULES.iter().copied())
        .chain(negotiation::RULES.iter().copied())
        .chain(data::RULES.iter().copied())
        .chain([results::RULES])
        .chain(emulation::RULES.iter().copied())
        .chain(errno::RULES.iter().copied())
        .chain(threads::RULES.iter().copied())
        .chain(contexts::RULES.iter().copied())
        .chain(shutdown::RULES.iter().copied())
        .chain(wire::RULES.iter().copied())
        .flatten()
}

/// It is about the arguments of a request, for which a filter answers that passes the request on.
pub fn is_of_callers(rule: &Rule) -> bool {
    // That a filter has another habit than the server is nobody's fault.
    rule.kind != Kind::Observed && data::OF_CALLERS.iter().copied().flatten().any(|one| one.id == rule.id)
}

/// The rule with this id.
pub fn find(id: &str) -> Option<&'static Rule> {
    all().find(|rule| rule.id == id)
}
