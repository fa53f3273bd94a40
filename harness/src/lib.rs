//! Test and conformance harness for servers that load other people's callbacks.

pub mod history;
pub mod rules;
pub mod run;
pub mod version;
