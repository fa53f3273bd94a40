//! The catalogue: every documented promise as a value, and the engine that holds a trace against it.
//!
//! `nbdkit/` and `haproxy/` hold the rules of each server: a folder a family, named after the section of the manual that it
//! comes from, and a file a topic. Each rule is one row of its file's `RULES` table and one check, mostly a function
//! (`check/` holds the trait, and the engine that feeds each check the events it watches). A check sees each event *before* it
//! takes effect on the [`History`](crate::history::History), so that "was it still open?" can be asked at a close; the call that
//! the event enters or exits is already resolved, with its connection and its chain of handles, and is not among those in
//! flight.
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

pub mod check;
pub mod haproxy;
mod judging;
pub mod nbdkit;

pub use check::{
    CallRef, Check, Checker, Finding, Judge, Judgement, Kind, Now, Party, Report, Rule, RuleResult, Trouble,
    Watch,
};
pub use judging::{judge, judge_of, judgement_of};

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
    haproxy::RULES.iter().copied().flatten()
}

fn of_nbdkit() -> impl Iterator<Item = &'static Rule> {
    nbdkit::RULES.iter().copied().flatten().copied().flatten()
}

/// It is about the arguments of a request, for which a filter answers that passes the request on.
pub fn is_of_callers(rule: &Rule) -> bool {
    // That a filter has another habit than the server is nobody's fault.
    rule.kind != Kind::Observed
        && nbdkit::data::OF_CALLERS.iter().copied().flatten().any(|one| one.id == rule.id)
}

/// The rule with this id.
pub fn find(id: &str) -> Option<&'static Rule> {
    all().find(|rule| rule.id == id)
}
