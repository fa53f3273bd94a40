//! Test and conformance harness for servers that load other people's callbacks.
//!
//! ```text
//!  Stack + Scenario ──▶ Server ──▶ Trace ──▶ History ──▶ Rules ──▶ Verdicts ──▶ Report
//! ```
//!
//! Everything left of the trace touches processes; everything right of it is a pure function of the trace.

pub mod baseline;
pub mod cli;
pub mod client;
pub mod conform;
pub mod credentials;
pub mod deadline;
pub mod history;
pub mod kept;
pub mod level;
pub mod libtest;
pub mod report;
pub mod rules;
pub mod run;
pub mod scenario;
mod schedule;
pub mod select;
pub mod server;
pub mod snapshot;
pub mod stack;
#[cfg(feature = "proptest")]
pub mod strategies;
pub mod validate;
pub mod verdict;
pub mod version;

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// So does that of the page on behaviours.
#[cfg(doctest)]
#[doc = include_str!("../../docs/behaviours.md")]
struct Behaviours;

/// And that of the document about snapshots.
#[cfg(doctest)]
#[doc = include_str!("../../docs/snapshots.md")]
struct Snapshots;
