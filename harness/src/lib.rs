//! Test and conformance harness for servers that load other people's callbacks.
//!
//! ```text
//!  Stack + Scenario ──▶ Server ──▶ Trace ──▶ History ──▶ Rules ──▶ Verdicts ──▶ Report
//! ```
//!
//! Everything left of the trace touches processes; everything right of it is a pure function of the trace.

pub mod client;
pub mod deadline;
pub mod history;
pub mod rules;
pub mod run;
pub mod server;
pub mod stack;
pub mod version;
