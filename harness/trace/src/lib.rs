//! The trace of callbacks that one server process, or one family of forked processes, made.
//!
//! A trace is a header page followed by fixed 64-byte records in a shared mapping (a memfd, or a file that is to
//! be kept). Instruments inside the server append to it without a lock or a system call; the harness appends its own
//! side (what the clients asked, which signal it sent, how the server ended) through the same cursor, so that one
//! total order covers both. It survives the death of the server at any instruction.
//!
//! This crate is the format ([`header`], [`record`]), the [`Writer`] and the [`Reader`]. It knows nothing of rules
//! and judges nothing.
//!
//! # What a reader can rely on
//!
//! - **Any bytes** give events or a [`ReadError`], never a panic, in time and memory bounded by their number. A trace
//!   that still grows is read as far as it had grown when the [`Reader`] was made.
//! - **Order.** Positions are the order in which records were claimed: if one event happened before another, on one
//!   thread or through any synchronisation between threads or processes, its position is smaller. Times are for
//!   durations; they are off by up to one part in ten thousand and order nothing.
//! - **Whole events.** An event comes with all its texts or not at all. A text that did not fit is marked
//!   [`Text::cut`], and its bytes are its beginning; it is the bytes that were given, UTF-8 or not.
//! - **Nothing is dropped in silence.** What did not fit is counted in [`Reader::lost`]; an event is then missing
//!   whole, and all later ones are too. What was claimed and not published, because its writer died or is not done,
//!   is counted in [`reader::Events::unpublished`] (with the positions that an event which did not fit left at the
//!   end).
//!   In a trace that wraps, whole calls may be left out, which are counted in [`Reader::left_out`], and it may end before its
//!   server does: [`Reader::stopped`].
//! - **Calls.** An exit names the position of its enter, which is smaller than its own; nothing says that the enter
//!   was published. Enters and exits of one thread nest as the calls did.
//! - **Who.** Thread and process are the kernel's, also in a child that was forked with fork(3).
//! - **Handles** are numbered from 1 in the order of their `open`, and no number returns within a run.
//! - **This run only.** Memory may have held other traces before; their records are never handed out.

pub mod appctx;
pub mod callback;
mod clock;
pub mod digest;
pub mod event;
pub mod full_disk;
pub mod handover;
pub mod header;
pub mod lent;
mod pool;
pub mod reader;
pub mod record;
mod ring;
mod thread;
pub mod watched;
mod wrapping;
pub mod writer;

pub use callback::Callback;
pub use event::{Below, Breach, ContextFunction, Event, Field, Kind, Operation, Probe, Speaker, Text, Trial};
pub use reader::{ReadError, Reader};
pub use writer::{CallId, Writer};

/// Environment variable that names the trace: a path, usually `/proc/self/fd/N`.
pub const TRACE_VARIABLE: &str = "LAYERS_TRACE";
