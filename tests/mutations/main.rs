//! The rules judged: what does it take to make them speak?
//!
//! Traces are recorded from a real nbdkit, one of each named scenario, and changed. Two questions are asked. Is there for
//! every rule that these traces exercise a change that it rejects ([`table`]; one that survives everything checks
//! nothing)? And of changes drawn at random, how many does any rule reject at all ([`generated`])? [`haproxy`] asks the first of HAProxy.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test says what it has measured")]

mod generated;
mod haproxy;
mod operators;
mod recorded;
#[path = "../side_by_side.rs"]
mod side_by_side;
mod stored;
mod survivors;
mod table;
