//! What every run of many cases has in common: how much is asked, what is selected, how work is done side by side, what
//! ends it early, and how much is kept of it.

pub mod event_budget;
pub mod halt;
pub mod level;
pub(crate) mod schedule;
pub mod select;
pub(crate) mod trace_room;
