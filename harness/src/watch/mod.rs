//! `layers watch`: every server that a command has started, judged from the trace that it has made by itself.
//!
//! | module | answers |
//! |---|---|
//! | `circumstances` | in what circumstances something was found |
//! | [`end`] | how a server has ended of which this process is not the parent |
//! | `follow` | what a trace says that is read while its server writes it |
//! | [`seen`] | what is told of one server |
//! | [`server`] | which servers there are, and when each is read and judged |
//! | [`summary`] | what all of them say together |

mod circumstances;
pub mod end;
mod follow;
pub mod seen;
pub mod server;
pub mod summary;

pub use circumstances::Circumstances;
pub use end::Ended;
pub use seen::{News, Seen, Unseen};
pub use server::{WatchOptions, Watched, Watcher, traces_in};
pub use summary::{Knowledge, Summary, faults};
