//! The trace of callbacks that one server process, or one family of forked processes, made.
//!
//! A trace is a header page followed by fixed 64-byte records in a shared mapping (a memfd, or a file that is to
//! be kept). Instruments inside the server append to it without a lock or a system call; the harness appends its own
//! side (what the clients asked, which signal it sent, how the server ended) through the same cursor, so that one
//! total order covers both. It survives the death of the server at any instruction.
//!
//! This crate is the format ([`header`], [`record`]), the [`Writer`] and the [`Reader`]. It knows nothing of rules
//! and judges nothing.

pub mod callback;
pub mod event;
pub mod header;
pub mod reader;
pub mod record;
pub mod writer;

pub use callback::Callback;
pub use event::{Event, Field, Kind, Operation, Probe, Text};
pub use reader::{ReadError, Reader};
pub use writer::{CallId, Writer};

/// Environment variable that names the trace: a path, usually `/proc/self/fd/N`.
pub const TRACE_VARIABLE: &str = "LAYERS_TRACE";
