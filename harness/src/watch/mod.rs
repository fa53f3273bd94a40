//! `layers watch`: every server that a command has started, judged from the trace that it has made by itself.
//!
//! | module | answers |
//! |---|---|
//! | [`end`] | how a server has ended of which this process is not the parent |
//! | [`server`] | what the trace of one server says |
//! | [`summary`] | what all of them say together |

pub mod end;
pub mod server;
pub mod summary;

pub use end::Ended;
pub use server::{Seen, Unseen, Watch, traces_in, wait_for};
pub use summary::{Summary, faults};
