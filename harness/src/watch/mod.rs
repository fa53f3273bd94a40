//! `layers watch`: every server that a command has started, judged from the trace that it has made by itself.
//!
//! | module | answers |
//! |---|---|
//! | [`end`] | how a server has ended of which this process is not the parent |
//! | `follow` | what a trace says that is read while its server writes it |
//! | [`server`] | which servers there are, and what the trace of each says |
//! | [`summary`] | what all of them say together |

pub mod end;
mod follow;
pub mod server;
pub mod summary;

pub use end::Ended;
pub use server::{How, News, Seen, Unseen, Watch, Watched, traces_in};
pub use summary::{Circumstances, Knowledge, Summary, faults};
