//! Test and conformance harness for servers that load other people's callbacks.
//!
//! ```text
//!  Stack + Scenario ──▶ Server ──▶ Trace ──▶ History ──▶ Rules ──▶ Verdicts ──▶ Report
//! ```
//!
//! Everything left of the trace touches processes; everything right of it is a pure function of the trace.
//!
//! | to | see |
//! |---|---|
//! | judge a plugin or filter of one's own | [`validate::Validate`]; [`libtest`] makes tests of it |
//! | say what runs, and what clients do | [`stack::Stack`], [`scenario::Scenario`]; [`scenario::named`] has many |
//! | play it on a real server | [`scenario::Player`] |
//! | read what was recorded | [`trace::Reader`], [`history::History`] |
//! | judge it | [`rules::judge`] |
//! | compare it with what is stored | [`scenario::Scenario::with_layers`], [`mod@snapshot`] |
//! | draw stacks and scripts at random | `strategies`, with the feature `proptest` |
//!
//! From a stack to a verdict, in one go:
//!
//! ```
//! use layers::scenario::{Player, named};
//! use layers::server::nbdkit::Nbdkit;
//! use layers::stack::{Layers, Stack};
//!
//! let layers = Layers::Wrapped { filters: vec!["cow".to_owned()], plugin: "memory".to_owned() };
//! let scenario = named::find("leave/abort")
//!     .expect("it is in the list")
//!     .with_layers(&Stack { layers, ..Stack::reference(0) })?;
//! let recording = Player::new(&Nbdkit::find(None)?).play(&scenario)?;
//! assert_eq!(recording.judgement.findings().count(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(
    not(feature = "command"),
    allow(
        dead_code,
        unreachable_pub,
        unused_imports,
        reason = "what the command alone uses is there, and quickly built"
    )
)]

pub mod baseline;
pub mod campaign;
pub mod cases;
#[cfg(feature = "command")]
pub mod cli;
pub mod client;
pub mod conform;
pub mod deadline;
pub mod embed;
mod foreign;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod history;
pub mod outcome;
pub mod protocol;
mod random;
#[cfg(feature = "command")]
pub mod report;
pub mod rules;
pub mod run;
pub mod scenario;
pub mod server;
pub mod snapshot;
#[cfg(test)]
pub(crate) mod testing;
pub mod tree;
pub mod validate;
pub mod version;
#[cfg(feature = "command")]
pub mod watch;

pub use campaign::{event_budget, halt, level, select};
pub use embed::libtest;
#[cfg(feature = "proptest")]
pub use embed::strategies;
pub use layers_behaviour as behaviour;
pub use layers_trace as trace;
pub use outcome as verdict;
pub use run::{credentials, stack};

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
