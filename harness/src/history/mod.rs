//! From events to calls, handles and connections.
//!
//! [`History`] is fed one event after another and always knows what is open *now*: the calls in flight on each
//! thread, the handles that are open, the connections they belong to, what the clients are waiting for. It forgets
//! what is over, so its memory is bounded by what is open and not by the length of the trace. It judges nothing.
//!
//! A trace that was kept in a file, read back and walked; `layers trace --save FILE` keeps one, too:
//!
//! ```
//! use layers::history::History;
//! use layers::scenario::{Player, named};
//! use layers::server::nbdkit::Nbdkit;
//! use layers::trace::{Callback, Kind, Reader};
//!
//! let directory = tempfile::tempdir()?;
//! let file = directory.path().join("run.trace");
//! let server = Nbdkit::find(None)?;
//! let classical = named::find("classical").expect("it is in the list");
//! Player { keep: Some(&file), ..Player::new(&server) }.play(&classical)?;
//!
//! let bytes = std::fs::read(&file)?;
//! let (mut history, mut reads) = (History::new(), Vec::new());
//! for event in Reader::new(&bytes)?.events() {
//!     let event = event?;
//!     // The history is as it was just before the event for as long as the step lives.
//!     let step = history.step(&event);
//!     if let Some(call) = step.call().filter(|call| call.callback == Callback::Pread) {
//!         let asked_by = step.history().parent(call).map(|outer| outer.layer());
//!         reads.extend((event.kind == Kind::Enter).then_some((call.layer(), asked_by)));
//!     }
//! }
//! // The server asks the outermost of three filters, each filter the layer below it.
//! assert_eq!(reads[..4], [(3, None), (2, Some(3)), (1, Some(2)), (0, Some(1))]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Connections are derived: a connection begins with a traversal of `preconnect` (or, where no layer has one, with the
//! first other connected call) on a thread of its own; a handle belongs to the connection of the thread that opened
//! it; a call with a handle belongs to the connection of that handle, whatever thread makes it.

mod answers;
mod appctx;
mod call;
mod calls;
mod client;
mod concurrency;
mod connection;
mod derived_calls;
mod end;
mod failure;
mod handle;
mod inspect;
mod layer_set;
mod layers;
mod model;
mod noted_ends;
mod recording_fault;
mod serving;
mod state;
mod step;
mod visits;

pub use answers::*;
pub use appctx::{Appctx, CliCommand, Registered, Unjudged, Wrapped};
pub use call::{Call, ChainId, Handed, Thread};
pub use calls::{Recorded, call_of, calls, closes, ends, opens};
pub use client::{Client, Request};
pub use connection::{Connection, ConnectionId};
pub use derived_calls::{FAST_ZERO, FUA, Inside, MAY_TRIM, Made, MadeList, REQ_ONE, callback_of, present};
pub use end::End;
pub use handle::Handle;
pub use layers::{Layer, Structure};
pub use model::ThreadModel;
pub use recording_fault::{Flaws, RecordingFault};
pub use state::History;
pub use step::EventStep;
