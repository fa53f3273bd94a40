//! A whole validation: what is asked for, the order of its cases, what all of them say, and one of them again.

pub(super) mod builder;
pub(super) mod listener;
pub(super) mod replay;
pub(super) mod runner;
pub(super) mod selection;
mod tally;
mod task;
mod variants;
